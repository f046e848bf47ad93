"""An AnnData in memory and one in a file, as the reader sees them: matrices, tables, what the file says of itself."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import h5py
import numpy as np
import pandas as pd
from anndata.io import read_elem

from sclong.cells.choose_matrix import Place
from sclong.cells.kinds import UNREADABLE, find_plugins, reading
from sclong.cells.matrix import HeldMatrix, StoredMatrix
from sclong.cells.species import ORGANISM_COLUMNS, organism_columns

if TYPE_CHECKING:
    import anndata


class Source(Protocol):
    """What the reader asks."""

    where: str
    n_cells: int
    value_kind: str

    def places(self) -> list[Place]:
        """Return where matrices stand: X, raw, layers."""

    def var(self, *, raw: bool = False) -> pd.DataFrame:
        """Return the table of genes, a new one each time."""

    def obs(self) -> pd.DataFrame:
        """Return the table of cells."""

    def organisms(self) -> pd.DataFrame:
        """Return the columns of obs that name an organism."""

    def said_of_all(self) -> pd.DataFrame:
        """Return what ``uns`` says of the organism of all cells; one row."""

    def cell_names(self, rows: slice | np.ndarray) -> list[str]:
        """Return names of cells; `rows` ascending."""

    def close(self) -> None:
        """Close what is open."""


class AdataSource:
    """An AnnData, which may be backed."""

    def __init__(self, adata: anndata.AnnData, where: str) -> None:
        self._adata, self.where = adata, where
        self.n_cells = int(adata.n_obs)
        self.value_kind = str(adata.uns.get("value_kind", "counts"))

    def places(self) -> list[Place]:
        """Return where matrices stand."""
        adata, out = self._adata, []

        def add(label: str, layer: str | None, values: Any, names: Sequence[str]) -> None:
            out.append(Place(label, layer, lambda: HeldMatrix(values, f"{self.where} ({label})"), lambda: names))

        if adata.X is not None:
            add("X", None, adata.X, list(adata.var_names))
        if adata.raw is not None:
            add("raw", None, adata.raw.X, list(adata.raw.var_names))
        for name in adata.layers:
            if name is not None:
                add(f"layers[{name!r}]", name, adata.layers[name], list(adata.var_names))
        return out

    def var(self, *, raw: bool = False) -> pd.DataFrame:
        """Return the table of genes."""
        return (self._adata.raw.var if raw else self._adata.var).copy()

    def obs(self) -> pd.DataFrame:
        """Return the table of cells."""
        return self._adata.obs

    def organisms(self) -> pd.DataFrame:
        """Return the columns of obs that name an organism."""
        return self._adata.obs[organism_columns(list(self._adata.obs.columns))]

    def said_of_all(self) -> pd.DataFrame:
        """Return what ``uns`` says of the organism of all cells."""
        return pd.DataFrame([{k: self._adata.uns[k] for k in ORGANISM_COLUMNS if k in self._adata.uns}])

    def cell_names(self, rows: slice | np.ndarray) -> list[str]:
        """Return names of cells."""
        return [str(name) for name in self._adata.obs_names[rows]]

    def close(self) -> None:
        """Do nothing."""


class FileSource:
    """An h5ad file: only tables of genes are held."""

    def __init__(self, path: Path) -> None:
        find_plugins()
        self.path, self.where = path, str(path)
        with reading(path):
            self._file = h5py.File(path, "r")
            self.n_cells = len(_index(self._file["obs"]))
            self.value_kind = str(_text(self._file["uns/value_kind"])) if "uns/value_kind" in self._file else "counts"

    def places(self) -> list[Place]:
        """Return where matrices stand."""
        where = {"X": ("X", None)} | {"raw": ("raw/X", None)}
        where |= {f"layers[{name!r}]": (f"layers/{name}", name) for name in self._file.get("layers", ())}
        nodes = {label: self._file.get(node) for label, (node, _) in where.items()}
        there = [label for label, node in nodes.items() if getattr(node, "shape", ()) is not None and node is not None]
        return [self._place(label, *where[label]) for label in there]  # a matrix that is None has no shape

    def _place(self, label: str, node: str, layer: str | None) -> Place:
        group = "raw/var" if label == "raw" else "var"
        return Place(
            label,
            layer,
            lambda: StoredMatrix(self._file[node], f"{self.where} ({label})"),
            lambda: list(self._tables(group).index),
        )

    @cached_property
    def _held(self) -> dict[str, pd.DataFrame]:
        return {}

    def _tables(self, group: str) -> pd.DataFrame:
        if group not in self._held:
            self._held[group] = read_table(self._file[group])
        return self._held[group]

    def var(self, *, raw: bool = False) -> pd.DataFrame:
        """Return the table of genes."""
        return self._tables("raw/var" if raw else "var").copy()

    def obs(self) -> pd.DataFrame:
        """Return the table of cells, whole."""
        with reading(self.path):
            return read_table(self._file["obs"])

    def organisms(self) -> pd.DataFrame:
        """Return the columns of obs that name an organism."""
        with reading(self.path):
            return pd.DataFrame(
                {c: pd.Series(_column(self._file["obs"], c)) for c in organism_columns(list(self._file["obs"]))}
            )

    def said_of_all(self) -> pd.DataFrame:
        """Return what ``uns`` says of the organism of all cells."""
        uns = self._file.get("uns", {})
        found = {k: uns[k] for k in ORGANISM_COLUMNS if k in uns}
        return pd.DataFrame([{k: _text(v) for k, v in found.items() if isinstance(v, h5py.Dataset) and v.size == 1}])

    def cell_names(self, rows: slice | np.ndarray) -> list[str]:
        """Return names of cells."""
        with reading(self.path):
            index = _index(self._file["obs"])
            if isinstance(index, h5py.Dataset) and h5py.check_string_dtype(index.dtype):
                return list(index.asstr()[rows])
            values = index[:] if isinstance(index, h5py.Dataset) else np.asarray(read_elem(index))
            return [name.decode() if isinstance(name, bytes) else str(name) for name in values[rows]]

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def read_table(group: h5py.Group) -> pd.DataFrame:
    """Read a table of an h5ad file: as anndata wrote it, or as SeuratDisk and other programs do.

    Columns that nobody can read are left out.
    """
    if group.attrs.get("encoding-type") == "dataframe":
        try:
            table = read_elem(group)
            table.index = table.index.astype(str)
            return table
        except UNREADABLE:
            pass
    key = _index_key(group)
    index = pd.Index([str(name) for name in _column(group, key)], dtype=object)
    columns = {}
    for name in group:
        if name != key and not name.startswith("__"):
            try:
                values = _column(group, name)
            except UNREADABLE:
                continue
            if len(values) == len(index):
                columns[name] = values
    return pd.DataFrame(columns, index=index)


def _index_key(group: h5py.Group) -> str:
    key = _decoded(group.attrs.get("_index", "index"))
    return key if key in group else next(k for k in ("_index", "index", "features", "cells") if k in group)


def _index(group: h5py.Group) -> Any:
    node = group[_index_key(group)]
    return node if isinstance(node, h5py.Dataset) else read_elem(node)


def _column(group: h5py.Group, name: str) -> np.ndarray:
    """Return a column as an array; of categories, in the old and new layout, their values."""
    node = group[name]
    if isinstance(node, h5py.Group):
        if {"levels", "values"} <= set(node):  # factors of SeuratDisk, numbered from 1
            return np.asarray(node["levels"].asstr()[:])[node["values"][:] - 1]
        return np.asarray(read_elem(node))
    values = node.asstr()[:] if h5py.check_string_dtype(node.dtype) else node[:]
    if "__categories" in group and name in group["__categories"]:
        names = group["__categories"][name]
        labels = np.append(
            np.asarray(names.asstr()[:] if h5py.check_string_dtype(names.dtype) else names[:], object), ""
        )
        return labels[values]
    if values.dtype.kind == "S":
        values = np.array([_decoded(v) for v in values], dtype=object)
    return np.asarray(values)


def _text(node: h5py.Dataset) -> str:
    return _decoded(np.ravel(node[()])[0] if node.shape else node[()])


def _decoded(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
