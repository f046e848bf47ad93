"""Copy an h5ad file with an embedding added: as bytes, so that memory does not grow with the file."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from anndata.io import write_elem

from sclong.errors import InputDataError
from sclong.io.files import atomic_path, writing


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
        if "column-order" in var.attrs:  # files of R have none
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
