"""Read what Cell Ranger and many repositories leave: matrix.mtx, features.tsv (or genes.tsv), barcodes.tsv."""

from __future__ import annotations

import gzip
import io
import re
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
from scipy import sparse
from scipy.io import mmread

from sclong.errors import InputDataError, listing, nearest

if TYPE_CHECKING:
    import anndata

MATRIX = re.compile(r"(?P<prefix>.*?)matrix\.mtx(\.gz)?$")
PLAIN = {r"(features|genes)\.tsv(\.gz)?": "features.tsv (or genes.tsv)", r"barcodes\.tsv(\.gz)?": "barcodes.tsv"}
BESIDE = {"genes": r"(features|genes)\.tsv(\.gz)?", "cells": r"barcodes\.tsv(\.gz)?"}


def read_mtx(path: str | Path, member: str | None = None) -> anndata.AnnData:
    """Read a matrix in Matrix Market format with the two lists that belong to it, plain or gzipped.

    Parameters
    ----------
    path
        A folder, a tar archive, or the matrix file itself; the lists lie beside the matrix, with the same text before
        ``matrix.mtx`` in their names.
    member
        Name of the matrix, where a folder or archive has several.

    Returns
    -------
    AnnData
        X (cells, genes) CSR float32; ``var`` has gene_ids and gene_symbols (one of them, where the list of genes has
        one column) and feature_type, where the list has it.

    Raises
    ------
    InputDataError
        No matrix, several, no lists, or lists of another length.
    """
    path = Path(path)
    if path.is_dir():
        return _read(
            path, {p.relative_to(path).as_posix(): p.read_bytes for p in path.rglob("*") if p.is_file()}, member
        )
    if MATRIX.fullmatch(path.name):
        files = {p.name: p.read_bytes for p in path.parent.iterdir() if p.is_file()}
        return _read(path, files, path.name)
    with tarfile.open(path) as archive:
        entries = {e.name: e for e in archive.getmembers() if e.isfile()}

        def reader(entry: tarfile.TarInfo) -> Callable[[], bytes]:
            return lambda: archive.extractfile(entry).read()  # type: ignore[union-attr]

        out: anndata.AnnData = _read(path, {name: reader(entry) for name, entry in entries.items()}, member)
        return out


def _read(path: Path, files: Mapping[str, Callable[[], bytes]], member: str | None) -> anndata.AnnData:
    import anndata

    matrices = [name for name in files if MATRIX.fullmatch(name)]
    if member is None and len(matrices) == 1:
        member = matrices[0]
    if member not in matrices:
        like = nearest(member or "", matrices)
        found = f"no member {member!r}" if member else f"{len(matrices)} matrices"
        raise InputDataError(
            f"{path}: {found}; it has {listing(matrices or list(files))}",
            "one file matrix.mtx or matrix.mtx.gz, or its name",
            f"write member: {like[0]}" if like else "write member: NAME of the matrix to read",
        )
    prefix = MATRIX.fullmatch(member)["prefix"]  # type: ignore[index]
    lists = {kind: _list_beside(path, files, prefix, pattern) for kind, pattern in BESIDE.items()}
    counts = sparse.csr_matrix(mmread(io.BytesIO(_plain(files[member](), member))).T, dtype="float32")
    genes, cells = lists["genes"], lists["cells"]
    if counts.shape != (len(cells), len(genes)):
        raise InputDataError(
            f"{path}: {member} has {counts.shape[1]} genes and {counts.shape[0]} cells, the lists beside it "
            f"{len(genes)} and {len(cells)}",
            "lists of the same length",
            "fetch the three files again, from one place",
        )
    columns = ["gene_ids", "gene_symbols", "feature_type"][: genes.shape[1]]
    var = pd.DataFrame(genes.iloc[:, : len(columns)].to_numpy(dtype=str), columns=columns, index=genes[0].tolist())
    return anndata.AnnData(counts, obs=pd.DataFrame(index=cells[0].tolist()), var=var)


def _list_beside(path: Path, files: Mapping[str, Callable[[], bytes]], prefix: str, pattern: str) -> pd.DataFrame:
    found = [name for name in files if re.fullmatch(re.escape(prefix) + pattern, name)]
    if len(found) != 1:
        raise InputDataError(
            f"{path}: {len(found)} files {prefix}{PLAIN[pattern]} beside the matrix; there is {listing(files)}",
            "matrix.mtx, features.tsv (or genes.tsv) and barcodes.tsv, each once",
            "put the three files of one matrix into a folder",
        )
    text = _plain(files[found[0]](), found[0])
    return pd.read_csv(io.BytesIO(text), sep="\t", header=None, dtype=str, keep_default_na=False)


def _plain(content: bytes, name: str) -> bytes:
    return gzip.decompress(content) if name.endswith(".gz") else content
