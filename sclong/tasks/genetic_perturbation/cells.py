"""Single cells of a perturbation screen on disk, one condition after the other, and who may read which."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import sparse

from sclong.errors import InputDataError
from sclong.io.files import atomic_path
from sclong.seeding import rng
from sclong.tasks.genetic_perturbation.genes import CONTROL


class ConditionCells:
    """The cells of a data set's conditions, each condition read from disk when it is asked for.

    Parameters
    ----------
    path
        ``cells.h5ad`` of a data set, as :func:`write_cells` writes it.
    allowed
        Samples that may be read, besides control: those of the training and validation parts.
    """

    def __init__(self, path: Path, allowed: Iterable[str]) -> None:
        self.path, self.allowed = Path(path), frozenset(allowed)

    @cached_property
    def _rows(self) -> dict[str, tuple[int, int]]:
        import h5py
        from anndata.io import read_elem

        with h5py.File(self.path) as file:
            sample = read_elem(file["obs"])["sample"].astype(str).to_numpy()
        first = np.flatnonzero(np.r_[True, sample[1:] != sample[:-1]])
        return {str(sample[a]): (int(a), int(b)) for a, b in zip(first, [*first[1:], len(sample)], strict=True)}

    def of(self, sample: str) -> sparse.csr_matrix:
        """Return log1p(CP10k) of a condition's cells, (cells, G) csr float32.

        Raises
        ------
        InputDataError
            When the sample is not known, or belongs to the test part, whose cells a tested model may not see.
        """
        import h5py
        from anndata.io import sparse_dataset

        if sample not in self._rows:
            raise InputDataError(
                f"{self.path}: no cells of sample {sample!r}",
                "a sample of the data set",
                "take samples from the problem's table",
            )
        if sample != CONTROL and sample not in self.allowed:
            raise InputDataError(
                f"cells of the test sample {sample!r}",
                "samples of the training or validation part",
                "train on problem.rows('train') only",
            )
        start, stop = self._rows[sample]
        with h5py.File(self.path) as file:
            return sparse.csr_matrix(sparse_dataset(file["X"])[start:stop], dtype=np.float32)

    def control(self) -> sparse.csr_matrix:
        """Return log1p(CP10k) of the control cells, (cells, G) csr float32."""
        return self.of(CONTROL)


def write_cells(
    values: sparse.csr_matrix,
    sample: np.ndarray,
    cells: np.ndarray,
    genes: np.ndarray,
    controls: np.ndarray,
    most: int | None,
    path: Path,
) -> None:
    """Write given control cells, and up to `most` cells of every condition, drawn at random by its name.

    Parameters
    ----------
    values : (cells, G) csr float32
        log1p(CP10k).
    sample, cells : (cells,) str
        Sample (or "control") and name of each cell.
    genes : (G,) str
    controls : (n,) int
        Rows of the control cells that are kept.
    most
        Cells of a condition; None: all.
    path
        Becomes an AnnData file, conditions in order of their first cell; obs column ``sample``.
    """
    import anndata

    drawn = []
    for name, rows in _rows_of(sample):
        if name == CONTROL:
            rows = controls
        elif most is not None and len(rows) > most:
            rows = np.sort(rng("cells of a condition", name).choice(rows, most, replace=False))
        drawn.append(rows)
    kept = np.concatenate(drawn)
    adata = anndata.AnnData(
        values[kept],
        obs=pd.DataFrame({"sample": sample[kept]}, index=pd.Index(cells[kept], dtype=str)),
        var=pd.DataFrame(index=pd.Index(genes, dtype=str)),
        uns={"value_kind": "log1p_cp10k"},
    )
    with atomic_path(path) as part:
        adata.write_h5ad(part, compression="gzip")


def half_means(values: sparse.csr_matrix, sample: np.ndarray, names: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Cut the cells of each condition in two halves at random, by its name, and average each.

    Returns
    -------
    half_a, half_b : (names, G) float32
        Of n cells the first half has n - n // 2.
    """
    rows_of = dict(_rows_of(sample))
    halves = []
    for name in names:
        rows = rng("halves", name).permutation(rows_of[name])
        halves.append((rows[len(rows) // 2 :], rows[: len(rows) // 2]))
    first, second = (
        np.stack([np.asarray(values[rows].mean(axis=0, dtype=np.float64)).ravel() for rows in side])
        for side in zip(*halves, strict=True)
    )
    return first.astype(np.float32), second.astype(np.float32)


def _rows_of(sample: np.ndarray) -> list[tuple[str, np.ndarray]]:
    """Return the rows of each sample, ascending, in order of first appearance."""
    codes, names = pd.factorize(sample)
    order = np.argsort(codes, kind="stable")
    return list(zip(map(str, names), np.split(order, np.cumsum(np.bincount(codes))[:-1]), strict=True))
