"""Which cells a training step sees, and as what: pure functions of the seed and the step, so nothing need be saved.

Shapes: B cells, N genes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pandas as pd
import torch
from scipy import sparse

from sclong.cells.normalize import normalize_cell, normalize_counts
from sclong.corpus.shards import ShardStore
from sclong.errors import InputDataError
from sclong.nn.values import dense_with_pad
from sclong.seeding import derive_seed, rng

ROUNDS = 8
WALKS = 64
"""Orders in which donors are visited when a share of the cells is held out."""
WHAT = {"donor": "donor", "dataset": "data set", "cell": "cell"}


def held_out_names(sizes: Mapping[str, int], fraction: float, seed: int, what: str = "donor") -> set[str]:
    """Choose the donors (or data sets) whose cells are never trained on, about `fraction` of all cells.

    Donors differ in size by orders of magnitude, so a share of the donors can be any share of the cells. Donors are
    visited in an order that depends on their names and the seed only, and a donor is held out when that brings the
    number of held-out cells nearer to the requested one. Of `WALKS` such orders the one that comes nearest is used (the
    first of them, where several do). At least one donor is held out, never all. A donor's name counts wherever it
    appears: one person in two sources is one donor.

    Parameters
    ----------
    sizes
        Number of cells of each donor, by name.
    fraction
        Requested share of the cells.
    seed
        Of the orders.
    what
        "donor" or "dataset", for the error message.

    Raises
    ------
    InputDataError
        There are fewer than two donors.
    """
    if len(sizes) < 2:
        raise InputDataError(
            f"the corpus has {len(sizes)} {WHAT[what]}(s)",
            "at least two, so that one can be held out",
            "name the donor_column of the corpus's sources, or add a source",
        )
    names = sorted(sizes, key=lambda name: (derive_seed(f"held-out {what}", seed, name), name))
    cells = np.array([sizes[name] for name in names])
    wanted = fraction * cells.sum()
    generator = rng(f"orders of {what}s", seed)
    orders = [np.arange(len(names)), *(generator.permutation(len(names)) for _ in range(WALKS - 1))]
    walks = [_walk(cells, order, wanted) for order in orders]
    best = min(walks, key=lambda chosen: abs(int(cells[chosen].sum()) - wanted))
    return {names[place] for place in best}


def _walk(cells: np.ndarray, order: np.ndarray, wanted: float) -> list[int]:
    """Return the places that bring the sum of `cells` nearer to `wanted` when visited in this order."""
    chosen: list[int] = []
    total = 0
    for place in order.tolist():
        with_it = total + int(cells[place])
        if abs(with_it - wanted) < abs(total - wanted) and len(chosen) < len(cells) - 1:
            chosen.append(place)
            total = with_it
    return chosen or [int(order[cells[order].argmin()])]


def shuffled(places: np.ndarray, n: int, key: int) -> np.ndarray:
    """Return where a permutation of 0 .. n-1 puts some places, without making the whole permutation.

    A Feistel network whose halves are not bits but the row and the column of a place in a square of just over n places;
    it is walked until a place below n is met. A list of 48 million numbers for every epoch and every worker would be
    384 MB.

    Parameters
    ----------
    places : (k,) int64
        Numbers below n.
    n
        Size of the set.
    key
        Names the permutation, 0 to 2**64 - 1.

    Returns
    -------
    (k,) int64
    """
    side = math.isqrt(n - 1) + 1
    height = np.uint64(-(-n // side))
    width, size = np.uint64(side), np.uint64(n)
    keys = _mix(np.uint64(key) + np.arange(1, ROUNDS + 1, dtype=np.uint64))
    out = np.asarray(places, dtype=np.uint64).copy()
    left_over = np.arange(len(out))
    while len(left_over):
        row, column = np.divmod(out[left_over], width)
        for first, second in zip(keys[::2], keys[1::2], strict=True):
            row = (row + _mix(column + first) % height) % height
            column = (column + _mix(row + second) % width) % width
        out[left_over] = row * width + column
        left_over = left_over[out[left_over] >= size]
    return out.astype(np.int64)


def _mix(x: np.ndarray) -> np.ndarray:
    """Scramble 64 bits (the finaliser of SplitMix64)."""
    x = (x ^ x >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ x >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    return x ^ x >> np.uint64(31)


class CellOrder:
    """An endless, shuffled stream of training cells; the cells of any step are known without walking there.

    Epoch after epoch is laid end to end, each a permutation of its own, and cut into batches: no cell is dropped at
    the end of an epoch.

    Parameters
    ----------
    rows
        Positions of the training cells in the store.
    batch_size
        Cells per step.
    seed
        Names the permutations.
    """

    def __init__(self, rows: np.ndarray, batch_size: int, seed: int) -> None:
        self.rows, self.batch_size, self.seed = rows, batch_size, seed

    def cells(self, step: int) -> np.ndarray:
        """Return the store positions of the cells of step `step` (the first step is 1), (batch_size,) int64."""
        place = np.arange((step - 1) * self.batch_size, step * self.batch_size)
        epoch, within = np.divmod(place, len(self.rows))
        keys = {int(e): derive_seed("order of cells", self.seed, int(e)) for e in np.unique(epoch)}
        parts = [shuffled(within[epoch == e], len(self.rows), key % 2**64) for e, key in keys.items()]
        return self.rows[np.concatenate(parts)]


def held_out_cells(groups: pd.Series, fraction: float, seed: int, what: str = "donor") -> np.ndarray:
    """Return which cells belong to held-out donors (or data sets), (cells,) bool; see :func:`held_out_names`.

    Parameters
    ----------
    groups : (cells,)
        The donor of each cell.
    fraction, seed, what
        As in :func:`held_out_names`.
    """
    categories = groups.astype("category").cat  # codes: text for every cell of a large corpus would not fit
    labels, codes = [str(label) for label in categories.categories], categories.codes.to_numpy()
    counts = np.bincount(codes, minlength=len(labels)).tolist()
    sizes = {label: count for label, count in zip(labels, counts, strict=True) if count}
    names = held_out_names(sizes, fraction, seed, what)
    return np.array([label in names for label in labels])[codes]


class PretrainingCells:
    """The corpus, cut into cells to train on and a fixed sample of held-out cells.

    Parameters
    ----------
    store
        The shards; ``store.obs`` says whose each cell is.
    batch_size
        Cells per training step, of all processes.
    held_out_fraction
        Share of the cells that is held out: single cells, or whole donors or data sets that come nearest to it.
    validation_cells
        Held-out cells that are looked at (fewer when there are not so many).
    seed
        Of the cut, the sample and the order.
    held_out_by
        "donor"; "dataset", where cells of the same persons in other data sets are left out of the training; or "cell":
        the published cut, where cells of one donor are on both sides.
    normalization
        What counts become; see :func:`sclong.cells.normalize.normalize_cell`.

    Attributes
    ----------
    donors : set of str
        The held-out donors (of the held-out data sets; none when cells are held out).
    order : CellOrder
        The training cells.
    validation : (cells,) int64
        Store positions of the held-out sample, ascending.

    Raises
    ------
    InputDataError
        There are fewer than two donors or data sets, or no cell is left to train on.
    """

    def __init__(
        self,
        store: ShardStore,
        *,
        batch_size: int,
        held_out_fraction: float,
        validation_cells: int,
        seed: int,
        held_out_by: str = "donor",
        normalization: str = "log1p_cp10k",
    ) -> None:
        self.store, self.normalization = store, normalization
        if held_out_by == "cell":
            count = min(max(1, round(held_out_fraction * len(store))), len(store) - 1)
            held_out = np.zeros(len(store), dtype=bool)
            held_out[rng("held-out cells", seed).permutation(len(store))[:count]] = True
            self.donors: set[str] = set()
        else:
            held_out = held_out_cells(store.obs[held_out_by], held_out_fraction, seed, held_out_by)
            self.donors = set(map(str, store.obs["donor"][held_out].unique()))
        trained = ~held_out
        if held_out_by == "dataset":  # a person of a held-out data set may have cells in others: they are not read
            trained &= ~store.obs["donor"].astype(str).isin(self.donors).to_numpy()
            if not trained.any():
                raise InputDataError(
                    "every person of the corpus has cells in a held-out data set",
                    "data sets of other persons to train on",
                    "set pretrain.held_out_by: donor, or add sources to the corpus",
                )
        self.order = CellOrder(np.flatnonzero(trained), batch_size, seed)
        sample = rng("validation cells", seed).permutation(np.flatnonzero(held_out))[:validation_cells]
        self.validation = np.sort(sample)

    def values(self, rows: np.ndarray) -> torch.Tensor:
        """Return the model's input for some cells.

        Returns
        -------
        (B, N + 1) float32
            Normalised counts; the last column is PAD, 0.
        """
        return dense_with_pad(self.sparse_values(rows))

    def sparse_values(self, rows: np.ndarray) -> sparse.csr_matrix:
        """Return normalised counts of some cells, (B, genes) float32, without PAD."""
        return sparse.csr_matrix(normalize_counts(self.store.rows(rows), self.normalization))

    def values_naive(self, rows: np.ndarray) -> torch.Tensor:
        """Return what :meth:`values` returns, from dense counts cell by cell (the twin that tests compare with)."""
        counts_BN = np.pad(self.store.rows(rows).toarray(), ((0, 0), (0, 1)))
        return torch.from_numpy(np.stack([normalize_cell(counts_N, self.normalization) for counts_N in counts_BN]))
