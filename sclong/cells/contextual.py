"""Contextual gene vectors on disk: a zarr store (cells, genes, width), written a chunk of cells at a time.

Shapes: B cells of a batch, K genes that are kept, D width of gene vectors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from sclong.cells.embedded_copy import require_space
from sclong.errors import InputDataError
from sclong.io.files import atomic_dir, writing

CHUNK_BYTES = 2**24
NAMES_PER_CHUNK = 2**14


class ContextualStore:
    """A store being written; made by :func:`contextual_store`. Vectors are held until a chunk is full."""

    def __init__(self, array: zarr.Array) -> None:
        self._array = array
        self._held_CKD = np.empty((array.chunks[0], *array.shape[1:]), dtype=np.float32)
        self._start = self._n_held = 0

    def write(self, vectors_BKD: np.ndarray) -> None:
        """Add the vectors of the next cells, (B, K, D)."""
        for vectors_KD in vectors_BKD:
            self._held_CKD[self._n_held] = vectors_KD
            self._n_held += 1
            if self._n_held == len(self._held_CKD):
                self.flush()

    def flush(self) -> None:
        """Write what is held."""
        if not self._n_held:
            return
        stop = self._start + self._n_held
        self._array[self._start : stop] = self._held_CKD[: self._n_held]
        self._start, self._n_held = stop, 0


@contextmanager
def contextual_store(
    path: str | Path,
    n_cells: int,
    width: int,
    cell_names: Callable[[slice], Sequence[str]],
    genes: Mapping[str, Sequence[str]],
    attributes: Mapping[str, Any],
) -> Iterator[ContextualStore]:
    """Give a zarr store to write contextual vectors to; it is at `path` once the block has ended well.

    It holds ``embedding`` (cells, genes, width) float32, whose dimensions are named cell, gene and dimension; ``cell``,
    the names of cells; and an array for each item of `genes`. Chunks are whole cells, up to 16 MiB or one cell.

    Parameters
    ----------
    path
        Folder; an existing store is replaced once the new one is complete.
    n_cells, width
        Cells, and D.
    cell_names
        Returns the names of a slice of cells.
    genes
        Columns of the gene table, each (genes,); the one named "gene" holds the ids.
    attributes
        Attributes of the store (JSON).

    Raises
    ------
    InputDataError
        Something else than such a store is at `path`; the file system refuses.
    """
    path, n_genes = Path(path), len(genes["gene"])
    if path.exists() and not (path / "embedding" / "zarr.json").is_file():
        raise InputDataError(
            f"{path} is there and is no store of contextual embeddings",
            "a new name, or such a store",
            "name another folder, or remove it",
        )
    require_space(path, 4 * n_cells * n_genes * width)
    with writing(path), atomic_dir(path) as tmp:
        store = zarr.create_group(tmp, attributes=dict(attributes))
        for name, values in genes.items():
            texts = store.create_array(name, shape=(n_genes,), dtype=str, dimension_names=["gene"])
            texts[:] = np.array(values, dtype=object)
        names = store.create_array(
            "cell", shape=(n_cells,), chunks=(NAMES_PER_CHUNK,), dtype=str, dimension_names=["cell"]
        )
        for start in range(0, n_cells, NAMES_PER_CHUNK):
            part = slice(start, min(start + NAMES_PER_CHUNK, n_cells))
            names[part] = np.array(cell_names(part), dtype=object)
        array = store.create_array(
            "embedding",
            shape=(n_cells, n_genes, width),
            chunks=(min(max(CHUNK_BYTES // (4 * n_genes * width), 1), n_cells), n_genes, width),
            dtype="float32",
            dimension_names=["cell", "gene", "dimension"],
        )
        out = ContextualStore(array)
        yield out
        out.flush()
