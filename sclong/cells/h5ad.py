"""Read expression matrices whole: files of cells through the one reader, and tables."""

from __future__ import annotations

import io
import tarfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
from scipy import sparse

from sclong.cells.kinds import cannot_read, kind_of, read_kind
from sclong.cells.mtx import read_mtx
from sclong.cells.names import ORIGINAL_NAMES
from sclong.cells.reader import open_reader, reader_of
from sclong.errors import InputDataError, listing, nearest
from sclong.runlog import LOGGER

if TYPE_CHECKING:
    import anndata

Format = Literal["h5ad", "10x_h5", "csv", "mtx"]
UNREADABLE = (OSError, KeyError, ValueError, EOFError, RuntimeError, tarfile.TarError, zlib.error)
__all__ = ["ORIGINAL_NAMES", "Format", "read_expression"]


def read_expression(
    path: str | Path,
    format: Format = "h5ad",
    *,
    member: str | None = None,
    transpose: bool = False,
    layer: str | None = None,
    gene_column: str | None = None,
    round: bool = False,
) -> anndata.AnnData:
    """Read a matrix of expression values.

    Parameters
    ----------
    path
        File.
    format
        "h5ad": what the content says (see :func:`.open_reader`); "10x_h5" (Cell Ranger), "mtx" (see
        :func:`.read_mtx`), or "csv" (a table, plain, gzip or bzip2, names in the first row and column; separated by
        commas if the name of the file or member holds ".csv", else by tabs).
    member
        Name of the table inside a tar archive; modality of a h5mu file.
    transpose
        For tables with genes in rows.
    layer
        Where the values are: "X", "raw", or a layer; default: the rule of :func:`.choose_matrix`.
    gene_column
        What becomes var_names: a column of ``var``, or "var_names" for the names as they stand. Default: the rule of
        :func:`.choose_gene_names`.
    round
        Round values that are no integers.

    Returns
    -------
    AnnData
        X (cells, genes) CSR float32; ``uns["counts_from"]`` and ``uns["genes_from"]`` say where values and gene names
        came from. Where the names were replaced, ``var["original_name"]`` holds those that stood in the file.

    Raises
    ------
    InputDataError
        Missing, truncated or foreign file; a layer or column that is not there (with the nearest name).
    """
    path = Path(path)
    if format == "h5ad":
        reader = open_reader(path, layer, gene_column, member=member, round=round)
    else:
        if not path.is_file() and not (format == "mtx" and path.is_dir()):
            raise InputDataError(f"{path}: no such file", "an expression file", "check the path")
        reader = reader_of(_read_as(path, format, member, transpose), layer, gene_column, where=str(path), round=round)
    with reader:
        LOGGER.info("%s: %s", path, reader.describe())
        return reader.whole()


def _read_as(path: Path, format: str, member: str | None, transpose: bool) -> anndata.AnnData:
    """Read a file of a kind that the user named."""
    try:
        if format == "10x_h5":
            kind = kind_of(path)
            if kind not in ("10x_h5", "h5ad"):
                return read_kind(path, kind, member)
            return read_kind(path, "10x_h5", member)
        if format == "mtx":
            return read_mtx(path, member)
        return _read_table(path, member, transpose)
    except InputDataError:
        raise
    except UNREADABLE as error:
        raise cannot_read(path, error, format) from error


def _csr(values: Any) -> sparse.csr_matrix:
    return sparse.csr_matrix(values, dtype=np.float32)


def _read_table(path: Path, member: str | None, transpose: bool) -> anndata.AnnData:
    import anndata

    content: Any = path if member is None else io.BytesIO(_member(path, member))
    name = member or path.name
    options: dict[str, Any] = {
        "sep": "," if ".csv" in name else "\t",
        "compression": "gzip" if name.endswith(".gz") else "bz2" if name.endswith(".bz2") else None,
    }
    head = pd.read_csv(content, header=None, nrows=1, dtype=str, keep_default_na=False, **options).iloc[0]
    if member is not None:
        content.seek(0)
    table = pd.read_csv(content, index_col=0, **options)
    names = head.iloc[-table.shape[1] :]  # as they stand in the file: pandas renames the second of two equal columns
    text = table.select_dtypes(exclude="number").columns
    if len(text):
        raise InputDataError(
            f"{path}: columns {listing(text)} hold text",
            "numbers only, but for the first row and column",
            "remove those columns, or write the matrix as h5ad with them in obs",
        )
    values = table.to_numpy(dtype=np.float32)
    rows, columns = pd.DataFrame(index=table.index.astype(str)), pd.DataFrame(index=pd.Index(names, dtype=str))
    if transpose:
        values, rows, columns = values.T, columns, rows
    return anndata.AnnData(_csr(values), obs=rows, var=columns)


def _member(path: Path, member: str) -> bytes:
    names = []
    with tarfile.open(path) as archive:
        for entry in archive:
            file = archive.extractfile(entry)
            if file is not None and entry.name == member:
                return file.read()
            names.append(entry.name)
    like = nearest(member, names)
    raise InputDataError(
        f"{path}: no member {member!r}; it has {listing(names)}",
        "the name of a file in the archive",
        f"write member: {like[0]}" if like else "correct member",
    )
