"""A matrix of cells by genes, in a file or in memory, some cells at a time: CSR, CSC or dense."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import h5py
import numpy as np
from scipy import sparse

from sclong.cells.structure import check_held, check_indices, check_pointers
from sclong.errors import InputDataError

BLOCK_ENTRIES = 500_000  # values of a block
BLOCK_ENTRIES_BY_COLUMN = 16_000_000  # values that are held of a matrix that is stored gene by gene (about 300 MB)
SAMPLED_ROWS = 64  # from the beginning, the middle and the end of a matrix, each


class Matrix(Protocol):
    """What the reader needs of a matrix."""

    @property
    def shape(self) -> tuple[int, int]:
        """Cells, genes."""

    def blocks(self, multiple: int = 1) -> Iterator[sparse.csr_matrix]:
        """Give all cells in order, CSR float32, a multiple of `multiple` cells at a time (the last: what is left)."""

    def rows(self, spans: list[tuple[int, int]]) -> sparse.csr_matrix:
        """Return the cells of ascending spans (start, stop), CSR float32."""


def sampled(n_cells: int) -> list[tuple[int, int]]:
    """Return spans of cells from the beginning, the middle and the end; they do not overlap."""
    if n_cells <= 3 * SAMPLED_ROWS:
        return [(0, n_cells)]
    middle = n_cells // 2 - SAMPLED_ROWS // 2
    return [(first, first + SAMPLED_ROWS) for first in (0, middle, n_cells - SAMPLED_ROWS)]


class StoredMatrix:
    """A matrix in an HDF5 file.

    Parameters
    ----------
    node
        Dataset, or group with data, indices and indptr.
    where
        How it is called in messages.

    Raises
    ------
    InputDataError
        A sparse matrix whose parts do not fit; its indices are checked as they are read.
    """

    def __init__(self, node: h5py.Group | h5py.Dataset, where: str) -> None:
        self._node, self.where = node, where
        if isinstance(node, h5py.Dataset):
            self.shape, self.layout = _two(node.shape, where), "dense"
            return
        attributes = node.attrs
        shape = attributes["shape"] if "shape" in attributes else attributes["h5sparse_shape"]
        self.shape = _two(shape, where)
        kind = attributes.get("encoding-type", attributes.get("h5sparse_format", "csr"))
        kind = kind.decode() if isinstance(kind, bytes) else str(kind)
        self.layout = "csc" if "csc" in kind else "csr"
        self._indptr = node["indptr"][:].astype(np.int64)
        major = self.shape[1] if self.layout == "csc" else self.shape[0]
        check_pointers(self._indptr, len(node["data"]), len(node["indices"]), major, where)

    def blocks(self, multiple: int = 1) -> Iterator[sparse.csr_matrix]:
        """Give all cells in order, CSR float32."""
        give = {"dense": self._dense, "csr": self._by_row, "csc": self._by_column}[self.layout]
        return give(multiple)

    def rows(self, spans: list[tuple[int, int]]) -> sparse.csr_matrix:
        """Return the cells of ascending spans; of a matrix that is stored gene by gene in one pass over it."""
        if self.layout == "csc":
            parts = [self._picked(*span) for span in spans]
        elif self.layout == "csr":
            parts = [self._between(*span) for span in spans]
        else:
            parts = [sparse.csr_matrix(self._node[start:stop].astype(np.float32)) for start, stop in spans]
        return sparse.vstack(parts, format="csr")

    def _dense(self, multiple: int) -> Iterator[sparse.csr_matrix]:
        n_cells, n_genes = self.shape
        chunks = self._node.chunks or (1, 1)
        chunk_rows = min(chunks[0], BLOCK_ENTRIES_BY_COLUMN // n_genes)  # a chunk that is read in parts is read again
        step = at_least_one(max(BLOCK_ENTRIES // n_genes, chunk_rows), multiple)
        for start in range(0, n_cells, step):
            yield sparse.csr_matrix(self._node[start : start + step].astype(np.float32))

    def _by_row(self, multiple: int) -> Iterator[sparse.csr_matrix]:
        for start, stop in spans(self._indptr, BLOCK_ENTRIES, multiple):
            yield self._between(start, stop)

    def _between(self, start: int, stop: int) -> sparse.csr_matrix:
        part = slice(self._indptr[start], self._indptr[stop])
        values, indices = self._node["data"][part].astype(np.float32), self._node["indices"][part]
        check_indices(indices, self.shape[1], self.where)
        pointers = self._indptr[start : stop + 1] - self._indptr[start]
        return sparse.csr_matrix((values, indices, pointers), (stop - start, self.shape[1]))

    def _pieces(self) -> list[slice]:
        last = self._indptr[-1]
        return [slice(i, min(i + BLOCK_ENTRIES, last)) for i in range(0, last, BLOCK_ENTRIES)]

    def _by_column(self, multiple: int) -> Iterator[sparse.csr_matrix]:
        """Give blocks of a matrix that is stored gene by gene: each is picked out in one pass over the file."""
        per_cell = np.zeros(self.shape[0], dtype=np.int64)
        for piece in self._pieces():
            cells = self._node["indices"][piece]
            check_indices(cells, self.shape[0], self.where)
            per_cell += np.bincount(cells, minlength=self.shape[0])
        ends = np.append(0, per_cell.cumsum())
        for start, stop in spans(ends, BLOCK_ENTRIES_BY_COLUMN, multiple):
            held = self._picked(start, stop)
            for first, last in spans(held.indptr, BLOCK_ENTRIES, multiple):
                yield held[first:last]

    def _picked(self, start: int, stop: int) -> sparse.csr_matrix:
        rows, columns, values = [], [], []
        for piece in self._pieces():
            cells = self._node["indices"][piece]
            inside = np.flatnonzero((cells >= start) & (cells < stop))
            rows.append((cells[inside] - start).astype(np.int32))
            columns.append((np.searchsorted(self._indptr, inside + piece.start, side="right") - 1).astype(np.int32))
            values.append(self._node["data"][piece][inside].astype(np.float32))
        joined = [
            np.concatenate([np.empty(0, dtype), *parts])
            for parts, dtype in ((values, np.float32), (rows, np.int32), (columns, np.int32))
        ]
        return sparse.coo_matrix((joined[0], (joined[1], joined[2])), (stop - start, self.shape[1])).tocsr()


class HeldMatrix:
    """A matrix of an AnnData: in memory, or backed by a file.

    Parameters
    ----------
    values
        scipy sparse matrix or array, numpy array, or what a backed AnnData gives.
    where
        How it is called in messages.

    Raises
    ------
    InputDataError
        A sparse matrix whose parts do not fit.
    """

    def __init__(self, values: Any, where: str) -> None:
        check_held(values, where)
        self._values, self.where = values, where
        self.shape = _two(values.shape, where)
        self._by_row: Any = None

    def blocks(self, multiple: int = 1) -> Iterator[sparse.csr_matrix]:
        """Give all cells in order, CSR float32."""
        step = at_least_one(BLOCK_ENTRIES // max(self.shape[1], 1), multiple)
        for start in range(0, self.shape[0], step):
            yield self._between(start, min(start + step, self.shape[0]))

    def rows(self, spans: list[tuple[int, int]]) -> sparse.csr_matrix:
        """Return the cells of ascending spans, CSR float32."""
        return sparse.vstack([self._between(*span) for span in spans], format="csr")

    def _between(self, start: int, stop: int) -> sparse.csr_matrix:
        if self._by_row is None:
            self._by_row = self._values.tocsr() if sparse.issparse(self._values) else self._values
        part = self._by_row[start:stop]
        part = part if sparse.issparse(part) else np.asarray(part)
        check_held(part, self.where)
        return sparse.csr_matrix(part.astype(np.float32))


def _two(shape: Sequence[int], where: str) -> tuple[int, int]:
    if len(shape) != 2:
        raise InputDataError(f"{where}: an array of {len(shape)} dimensions", "cells x genes", "write the file again")
    return int(shape[0]), int(shape[1])


def at_least_one(n: int, multiple: int) -> int:
    """Return the greatest multiple of `multiple` that is not above `n`, at least `multiple`."""
    return max(n // multiple, 1) * multiple


def spans(indptr: np.ndarray, entries: int, multiple: int) -> Iterator[tuple[int, int]]:
    """Give (start, stop) of consecutive rows with at most so many entries, a multiple of `multiple` rows (at least)."""
    start, n_rows = 0, len(indptr) - 1
    while start < n_rows:
        fit = int(np.searchsorted(indptr, indptr[start] + entries, side="right")) - 1
        stop = n_rows if fit >= n_rows else min(start + at_least_one(fit - start, multiple), n_rows)
        yield start, stop
        start = stop
