"""Which cells a training step sees, and as what: pure functions of the seed and the step, so nothing need be saved."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from scipy import sparse

from sclong.data.normalize import to_model_values
from sclong.errors import InputDataError
from sclong.io.shards import ShardStore
from sclong.seeding import derive_seed, rng


def held_out_donors(donors: Sequence[str], fraction: float, seed: int) -> set[str]:
    """Choose the donors whose cells are never trained on.

    Every donor has a rank that depends on its name and the seed only; the first ``round(fraction * n)`` are held out,
    at least one, never all. A donor's name counts wherever it appears: one person in two sources is one donor.

    Raises
    ------
    InputDataError
        When there are fewer than two donors.
    """
    names = sorted(set(donors))
    if len(names) < 2:
        raise InputDataError(
            f"the corpus has {len(names)} donor(s)",
            "at least two, so that one can be held out",
            "name the donor_column of the corpus's sources, or add a source",
        )
    count = min(max(1, round(fraction * len(names))), len(names) - 1)
    return set(sorted(names, key=lambda name: (derive_seed("held-out donor", seed, name), name))[:count])


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
        self.rows, self.batch_size = rows, batch_size
        self._epoch = lru_cache(maxsize=2)(lambda epoch: rng("order of cells", seed, epoch).permutation(len(rows)))

    def cells(self, step: int) -> np.ndarray:
        """Return the store positions of the cells of step `step` (the first step is 1), (batch_size,) int64."""
        place = np.arange((step - 1) * self.batch_size, step * self.batch_size)
        epoch, within = np.divmod(place, len(self.rows))
        return np.concatenate([self.rows[self._epoch(int(e))[within[epoch == e]]] for e in np.unique(epoch)])


class PretrainingCells:
    """The corpus, cut by donor into cells to train on and a fixed sample of held-out cells.

    Parameters
    ----------
    store
        The shards; ``store.obs["donor"]`` says whose each cell is.
    batch_size
        Cells per training step.
    held_out_fraction
        Share of donors held out.
    validation_cells
        Held-out cells that are looked at (fewer when there are not so many).
    seed
        Of the cut, the sample and the order.

    Attributes
    ----------
    donors : set of str
        The held-out donors.
    order : CellOrder
        The training cells.
    validation : (cells,) int64
        Store positions of the held-out sample, ascending.
    """

    def __init__(
        self, store: ShardStore, *, batch_size: int, held_out_fraction: float, validation_cells: int, seed: int
    ) -> None:
        self.store = store
        donor = store.obs["donor"].astype(str)
        self.donors = held_out_donors(donor.unique(), held_out_fraction, seed)
        held_out = donor.isin(self.donors).to_numpy()
        self.order = CellOrder(np.flatnonzero(~held_out), batch_size, seed)
        sample = rng("validation cells", seed).permutation(np.flatnonzero(held_out))[:validation_cells]
        self.validation = np.sort(sample)

    def values(self, rows: np.ndarray) -> torch.Tensor:
        """Return the model's input for some cells.

        Returns
        -------
        (len(rows), n_genes + 1) float32
            log1p of counts per ten thousand; the last column is PAD, 0.
        """
        return dense_with_pad(to_model_values(self.store.rows(rows), "counts"))


def dense_with_pad(values: sparse.csr_matrix) -> torch.Tensor:
    """Return a sparse (cells, genes) matrix as a dense (cells, genes + 1) float32 tensor, the last column (PAD) 0."""
    dense = torch.zeros(values.shape[0], values.shape[1] + 1, dtype=torch.float32)
    dense[:, :-1] = torch.from_numpy(values.toarray().astype(np.float32, copy=False))
    return dense
