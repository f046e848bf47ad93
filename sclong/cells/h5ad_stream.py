"""Read an h5ad file some cells at a time, and copy it with an embedding added: memory does not grow with the cells.

Held are the names of genes, and 8 bytes per cell for a sparse matrix; the matrix, ``obs`` and what else the file holds
are never read whole.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
from anndata.io import read_elem, write_elem
from scipy import sparse

from sclong.cells.h5ad import HDF5_MAGIC, ORIGINAL_NAMES, UNREADABLE, _is_integer, choose_gene_names
from sclong.cells.links import refuse_links
from sclong.errors import InputDataError, listing, nearest
from sclong.io.files import atomic_path, writing

if TYPE_CHECKING:
    import pandas as pd

BLOCK_ENTRIES = 500_000  # values of a block
BLOCK_ENTRIES_BY_COLUMN = 16_000_000  # values that are held of a matrix that is stored gene by gene (about 300 MB)


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn whatever a damaged file makes h5py and anndata raise into one error that names the file."""
    try:
        yield
    except UNREADABLE as error:
        reason = " ".join(str(error).split())[:200]
        raise InputDataError(
            f"{path} ({path.stat().st_size:,} bytes) cannot be read: {type(error).__name__}: {reason}",
            "a whole h5ad file",
            "copy or fetch the file again; it may be cut short or damaged",
        ) from error


def check_outputs(source: Path, *outputs: Path) -> None:
    """Check, before hours are spent, that outputs can be put where they shall be.

    Raises
    ------
    InputDataError
        An output is the input or another output, or its folder is missing.
    """
    for number, output in enumerate(outputs):
        if output.resolve() in (source.resolve(), *(other.resolve() for other in outputs[:number])):
            raise InputDataError(f"{output} is named twice", "inputs and outputs that differ", "name another output")
        if not output.parent.is_dir():
            raise InputDataError(
                f"{output}: no folder {output.parent}", "an existing folder", f"make it: mkdir -p {output.parent}"
            )


def require_space(path: Path, n_bytes: int) -> None:
    """Check that a file or folder of this size fits where it shall be.

    Raises
    ------
    InputDataError
        It does not; with both sizes.
    """
    free = shutil.disk_usage(path.parent).free
    if n_bytes > free:
        raise InputDataError(
            f"{path} takes about {n_bytes / 1e9:,.3f} GB before compression; {free / 1e9:,.3f} GB are free",
            "enough space",
            "free space, choose another folder, or write fewer genes (--genes) or cells",
        )


class H5adCells:
    """The cells of an h5ad file, in order, a block at a time; close it, or use it in a ``with`` statement.

    Parameters
    ----------
    path
        File. The matrix may be CSR, CSC or dense. CSC is by gene: it is read once for each block of cells.
    layer
        Where the values are: "X", "raw", or a layer. Default: the first of X, raw, layers that holds integers, else X;
        X if ``uns["value_kind"]`` says that the values are no counts.
    gene_column
        Column of ``var`` that holds the gene names; default as :func:`sclong.cells.h5ad.read_expression`.

    Attributes
    ----------
    n_cells : int
    layer : str
        Where the values are read.
    value_kind : str
        ``uns["value_kind"]``, else "counts".
    genes : list of str, var : DataFrame, genes_from : str
        Names of the matrix's columns, the table they are from (of raw, if that is read), and the column of it.
    output_genes : list of str, output_var : DataFrame
        The same of the file's ``var``.

    Raises
    ------
    InputDataError
        Missing, truncated or foreign file; a layer or column that is not there; no cells.
    """

    def __init__(self, path: str | Path, layer: str | None = None, gene_column: str | None = None) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise InputDataError(f"{path}: no such file", "an h5ad file", "check the path")
        with self.path.open("rb") as file:
            if file.read(8) != HDF5_MAGIC:
                raise InputDataError(f"{path}: not an HDF5 file", "an h5ad file", "check the file")
        with reading(self.path):
            self._file = h5py.File(self.path, "r")
            refuse_links(self.path, self._file)
            if not all(isinstance(self._file.get(part), h5py.Group) for part in ("obs", "var")):
                raise InputDataError(
                    f"{path}: an HDF5 file with {listing(self._file)}, without the groups obs and var",
                    "an h5ad file of anndata 0.7 or later",
                    "read it with anndata (or scanpy) and write it again",
                )
            self.value_kind = str(read_elem(self._file["uns/value_kind"])) if self._has("uns/value_kind") else "counts"
            self.layer, self._matrix = self._choose(layer)
            self.output_genes, self.output_var = self._names("var", gene_column)
            self.genes, self.var = self._names("raw/var" if self.layer == "raw" else "var", gene_column)
            self.n_cells, n_genes = (int(n) for n in self._shape())
        if self.n_cells == 0 or n_genes == 0:
            raise InputDataError(f"{path}: {self.n_cells} cells, {n_genes} genes", "content", "check the file")
        if n_genes != len(self.genes):
            raise InputDataError(
                f"{path}: {self.layer} has {n_genes} columns, its var {len(self.genes)} rows",
                "as many",
                "write the file again",
            )

    def __enter__(self) -> H5adCells:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def _has(self, name: str) -> bool:
        return name in self._file

    def _choose(self, layer: str | None) -> tuple[str, h5py.Group | h5py.Dataset]:
        places = {"X": "X", "raw": "raw/X"} | {name: f"layers/{name}" for name in self._file.get("layers", ())}
        found = {name: self._file[where] for name, where in places.items() if self._has(where)}
        if not found:
            raise InputDataError(f"{self.path}: no matrix", "X, raw or a layer", "write the counts into the file")
        if layer is None and self.value_kind == "counts":
            layer = next((name for name, matrix in found.items() if _is_integer(_first(matrix))), None)
        layer = layer or next(iter(found))
        if layer not in found:
            like = nearest(layer, found)
            raise InputDataError(
                f"{self.path}: no {layer!r}; there is {listing(found)}",
                "the place of the raw counts",
                f"write layer: {like[0] if like else next(iter(found))}",
            )
        return layer, found[layer]

    def _names(self, group: str, gene_column: str | None) -> tuple[list[str], pd.DataFrame]:
        var = read_elem(self._file[group])
        names, self.genes_from = choose_gene_names(var, gene_column, self.path)
        if self.genes_from != "var_names" and ORIGINAL_NAMES not in var:
            var[ORIGINAL_NAMES] = var.index.astype(str)
        return names, var

    def _shape(self) -> Sequence[int]:
        if isinstance(self._matrix, h5py.Dataset):
            return self._matrix.shape
        return self._matrix.attrs["shape"] if "shape" in self._matrix.attrs else self._matrix.attrs["h5sparse_shape"]

    def cell_names(self, rows: slice | np.ndarray) -> list[str]:
        """Return names of cells; `rows` ascending."""
        with reading(self.path):
            index = self._file["obs"][self._file["obs"].attrs.get("_index", "index")]
            if isinstance(index, h5py.Dataset) and h5py.check_string_dtype(index.dtype):
                return list(index.asstr()[rows])
            values = index[:] if isinstance(index, h5py.Dataset) else np.asarray(read_elem(index))
            return [str(name) for name in values[rows]]

    def obs(self) -> pd.DataFrame:
        """Return the table of cells, whole."""
        with reading(self.path):
            return read_elem(self._file["obs"])

    def blocks(self, multiple: int = 1) -> Iterator[sparse.csr_matrix]:
        """Give all cells in order, as CSR float32 blocks of a multiple of `multiple` cells (the last: what is left)."""
        if isinstance(self._matrix, h5py.Dataset):
            parts = self._dense(multiple)
        elif "csc" in str(self._matrix.attrs.get("encoding-type", self._matrix.attrs.get("h5sparse_format"))):
            parts = self._by_column(multiple)
        else:
            parts = self._by_row(multiple)
        while True:
            with reading(self.path):
                block = next(parts, None)
            if block is None:
                return
            yield block

    def _dense(self, multiple: int) -> Iterator[sparse.csr_matrix]:
        n_genes, chunks = len(self.genes), self._matrix.chunks or (1, 1)
        chunk_rows = min(chunks[0], BLOCK_ENTRIES_BY_COLUMN // n_genes)  # a chunk that is read in parts is read again
        step = at_least_one(max(BLOCK_ENTRIES // n_genes, chunk_rows), multiple)
        for start in range(0, self.n_cells, step):
            yield sparse.csr_matrix(self._matrix[start : start + step], dtype=np.float32)

    def _by_row(self, multiple: int) -> Iterator[sparse.csr_matrix]:
        indptr = self._matrix["indptr"][:].astype(np.int64)
        for start, stop in spans(indptr, BLOCK_ENTRIES, multiple):
            part = slice(indptr[start], indptr[stop])
            values = self._matrix["data"][part].astype(np.float32), self._matrix["indices"][part]
            yield sparse.csr_matrix((*values, indptr[start : stop + 1] - indptr[start]), self._size(start, stop))

    def _by_column(self, multiple: int) -> Iterator[sparse.csr_matrix]:
        """Give blocks of a matrix that is stored gene by gene: each is picked out in one pass over the file."""
        indptr, per_cell = self._matrix["indptr"][:].astype(np.int64), np.zeros(self.n_cells, dtype=np.int64)
        pieces = [slice(i, min(i + BLOCK_ENTRIES, indptr[-1])) for i in range(0, indptr[-1], BLOCK_ENTRIES)]
        for piece in pieces:
            per_cell += np.bincount(self._matrix["indices"][piece], minlength=self.n_cells)
        ends = np.append(0, per_cell.cumsum())
        for start, stop in spans(ends, BLOCK_ENTRIES_BY_COLUMN, multiple):
            n_entries, done = ends[stop] - ends[start], 0
            rows, columns = np.empty((2, n_entries), dtype=np.int32)
            values = np.empty(n_entries, dtype=np.float32)
            for piece in pieces:
                cells = self._matrix["indices"][piece]
                inside = np.flatnonzero((cells >= start) & (cells < stop))
                here = slice(done, done := done + len(inside))
                rows[here] = cells[inside] - start
                columns[here] = np.searchsorted(indptr, inside + piece.start, side="right") - 1
                values[here] = self._matrix["data"][piece][inside]
            held = sparse.coo_matrix((values, (rows, columns)), self._size(start, stop)).tocsr()
            del rows, columns, values
            for first, last in spans(held.indptr, BLOCK_ENTRIES, multiple):
                yield held[first:last]

    def _size(self, start: int, stop: int) -> tuple[int, int]:
        return stop - start, len(self.genes)


def _first(matrix: h5py.Group | h5py.Dataset) -> np.ndarray:
    """Return some values of a matrix, from its beginning."""
    if isinstance(matrix, h5py.Group):
        return matrix["data"][:200_000]
    return matrix[: at_least_one(200_000 // max(matrix.shape[1], 1), 1)]


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


class EmbeddedCopy:
    """A copy of an h5ad file to which an embedding is added; made by :func:`embedded_copy`."""

    def __init__(self, file: h5py.File, key: str, n_cells: int, width: int) -> None:
        self._file, self._key = file, key
        for group in ("obsm", "varm", "uns"):
            if group not in file:
                write_elem(file, group, {})
        if key in file["obsm"]:
            del file["obsm"][key]
        self._cells = file["obsm"].create_dataset(key, (n_cells, width), np.float32)
        self._cells.attrs.update({"encoding-type": "array", "encoding-version": "0.2.0"})

    def write(self, start: int, vectors_BC: np.ndarray) -> None:
        """Write the vectors of some cells, (B, width), from cell `start` on."""
        self._cells[start : start + len(vectors_BC)] = vectors_BC

    def add(self, genes_GD: np.ndarray, mapped_G: np.ndarray, facts: Mapping[str, Any]) -> None:
        """Write the gene vectors (``varm``), which genes are known (``var``) and the facts (``uns``)."""
        write_elem(self._file["varm"], self._key, genes_GD)
        write_elem(self._file["uns"], self._key, dict(facts))
        var, column = self._file["var"], f"{self._key}_mapped"
        write_elem(var, column, mapped_G)
        order = [str(name) for name in var.attrs["column-order"]]
        var.attrs["column-order"] = np.array([*order, *({column} - set(order))], dtype=h5py.string_dtype())


@contextmanager
def embedded_copy(
    source: str | Path, output: str | Path, key: str, n_cells: int, width: int, n_bytes_more: int = 2**22
) -> Iterator[EmbeddedCopy]:
    """Copy an h5ad file and give the copy, to add an embedding; it is at `output` once the block has ended well.

    The file is copied as bytes, so that all it holds stays as it is and none of it is read into memory.

    Parameters
    ----------
    source, output
        Files. What is at `output` stays until the block has ended well, and for good if it raises.
    key
        Name of what is added; replaced if it is there.
    n_cells, width
        Shape of the cell embedding.
    n_bytes_more
        Space that all else that is added may take. It is reserved, with that of the cell embedding, at the beginning.

    Raises
    ------
    InputDataError
        The file system refuses.
    """
    output = Path(output)
    n_bytes = os.path.getsize(source) + 4 * n_cells * width + n_bytes_more
    require_space(output, n_bytes)
    with writing(output), atomic_path(output) as tmp:
        shutil.copyfile(source, tmp)
        with tmp.open("r+b") as space:
            if hasattr(os, "posix_fallocate"):  # HDF5 does not survive a disk that fills while it writes
                os.posix_fallocate(space.fileno(), 0, n_bytes)
        with h5py.File(tmp, "r+") as file:  # and cuts off what was not needed when it closes the file
            yield EmbeddedCopy(file, key, n_cells, width)
