"""Read expression matrices: h5ad, 10x h5, tables; raw counts are looked for where they usually are."""

from __future__ import annotations

import io
import tarfile
import warnings
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
from scipy import sparse

from sclong.cells.links import refuse_links
from sclong.cells.mtx import read_mtx
from sclong.errors import InputDataError, listing, nearest

if TYPE_CHECKING:
    import anndata

Format = Literal["h5ad", "10x_h5", "csv", "mtx"]
UNREADABLE = (OSError, KeyError, ValueError, EOFError, RuntimeError, tarfile.TarError, zlib.error)
HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"
ID_COLUMNS = (
    "feature_id",
    "gene_ids",
    "gene_id",
    "ensembl_ids",
    "ensembl_id",
    "ensembl",
    "ensembl_gene_id",
    "stable_id",
)
ORIGINAL_NAMES = "original_name"


def read_expression(
    path: str | Path,
    format: Format = "h5ad",
    *,
    member: str | None = None,
    transpose: bool = False,
    layer: str | None = None,
    gene_column: str | None = None,
) -> anndata.AnnData:
    """Read a matrix of expression values.

    Parameters
    ----------
    path
        File.
    format
        "h5ad" (AnnData), "10x_h5" (Cell Ranger), "mtx" (see :func:`.read_mtx`), or "csv" (a table, plain,
        gzip or bzip2, names in the first row and column; separated by commas if the name of the file or member holds
        ".csv", else by tabs).
    member
        Name of the table inside a tar archive.
    transpose
        For tables with genes in rows.
    layer
        Where the values are: "X", "raw", or a layer; default: the first of X, raw, layers that holds integers, else X.
    gene_column
        What becomes var_names: a column of ``var``, or "var_names" for the names as they stand. Default: the names as
        they stand if most are Ensembl ids; else ids, which are unambiguous where symbols are not: the first of
        `ID_COLUMNS` that mostly holds human Ensembl ids or "GeneID:..." ids (where the names are but numbers, the first
        such column of any name); else the names as they stand.

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
    if not path.is_file() and not (format == "mtx" and path.is_dir()):
        raise InputDataError(f"{path}: no such file", "an expression file", "check the path")
    try:
        with warnings.catch_warnings():
            # equal names are summed when genes are aligned
            warnings.filterwarnings("ignore", message="Variable names are not unique|Transforming to str index")
            if format == "h5ad":
                adata = _read_h5ad(path, layer)
            elif format == "10x_h5":
                adata = _read_10x(path)
            elif format == "mtx":
                adata = read_mtx(path, member)
            else:
                adata = _read_table(path, member, transpose)
    except InputDataError:
        raise
    except UNREADABLE as error:
        reason = " ".join(str(error).split())[:200]
        raise InputDataError(
            f"{path} ({path.stat().st_size:,} bytes) cannot be read as {format}: {type(error).__name__}: {reason}",
            f"a whole {format} file",
            "fetch the file again if it is cut short or damaged, or name its true format",
        ) from error
    if adata.n_obs == 0 or adata.n_vars == 0:
        raise InputDataError(
            f"{path}: {adata.n_obs} cells, {adata.n_vars} genes", "a matrix with content", "check the file"
        )
    names, source = choose_gene_names(adata.var, gene_column, path)
    if source != "var_names" and ORIGINAL_NAMES not in adata.var:
        adata.var[ORIGINAL_NAMES] = adata.var_names.astype(str)
    adata.var_names = pd.Index(names, dtype=str)
    adata.uns["genes_from"] = source
    return adata


def _is_integer(values: Any) -> bool:
    data = values.data if sparse.issparse(values) else np.asarray(values).ravel()
    data = data[:200_000]
    return bool(len(data)) and bool(np.all(data == np.rint(data))) and bool(np.nanmax(data) > 1)


def _read_h5ad(path: Path, layer: str | None) -> anndata.AnnData:
    import anndata
    import h5py

    with path.open("rb") as file:
        if file.read(8) != HDF5_MAGIC:
            raise InputDataError(f"{path}: not an HDF5 file", "an h5ad file", "check the file, or name its format")
    with h5py.File(path) as parts:
        refuse_links(path, parts)
        if "obs" not in parts or "var" not in parts:
            raise InputDataError(
                f"{path}: an HDF5 file with {listing(parts)}, without obs and var",
                "an h5ad file",
                "write format: 10x_h5" if "matrix" in parts else "write it with adata.write_h5ad",
            )
    full = anndata.read_h5ad(path)
    places: dict[str, Any] = {"X": full.X, "raw": full.raw.X if full.raw is not None else None, **full.layers}
    places = {name: values for name, values in places.items() if values is not None}
    if layer is None:
        layer = next((name for name, values in places.items() if _is_integer(values)), "X")
    if layer not in places:
        like = nearest(layer, places)
        raise InputDataError(
            f"{path}: no {layer!r}; there is {listing(places)}",
            "the place of the raw counts",
            f"write layer: {like[0] if like else next(iter(places))}",
        )
    var = full.raw.var if layer == "raw" else full.var
    out = anndata.AnnData(_csr(places[layer]), obs=full.obs, var=var)
    out.uns["counts_from"] = layer
    return out


def _csr(values: Any) -> sparse.csr_matrix:
    return sparse.csr_matrix(values, dtype=np.float32)


def _read_10x(path: Path) -> anndata.AnnData:
    import anndata
    import h5py

    with h5py.File(path, "r") as file:
        refuse_links(path, file)
        group = file["matrix"]
        shape = group["shape"][:]
        matrix = sparse.csc_matrix((group["data"][:], group["indices"][:], group["indptr"][:]), shape=tuple(shape))
        features = group["features"]
        var = pd.DataFrame(
            {"gene_ids": features["id"].asstr()[:], "gene_symbols": features["name"].asstr()[:]},
            index=features["id"].asstr()[:],
        )
        kinds = features["feature_type"].asstr()[:] if "feature_type" in features else None
        obs = pd.DataFrame(index=group["barcodes"].asstr()[:])
    adata = anndata.AnnData(_csr(matrix.T), obs=obs, var=var)
    if kinds is not None:
        adata = adata[:, kinds == "Gene Expression"].copy()
    adata.uns["counts_from"] = "matrix"
    return adata


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
    adata = anndata.AnnData(_csr(values), obs=rows, var=columns)
    adata.uns["counts_from"] = "table"
    return adata


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


def choose_gene_names(var: pd.DataFrame, column: str | None, path: Path) -> tuple[list[str], str]:
    """Return the gene names and where they stand; :func:`read_expression` states the rule.

    Raises
    ------
    InputDataError
        No such column; names the nearest.
    """
    names = pd.Series(var.index.astype(str), dtype=str)
    if column is not None and column != "var_names":
        if column not in var:
            like = nearest(column, map(str, var.columns))
            raise InputDataError(
                f"{path}: var has no column {column!r}; it has {listing(var.columns, 10)}",
                "a column of gene names",
                f"write gene_column: {like[0]}" if like else "leave gene_column out to use var_names",
            )
        return var[column].astype(str).tolist(), column
    if column is None and not names.str.match(r"\s*ENS[A-Z]*G\d").mean() > 0.5:
        numbered = names.str.fullmatch(r"\s*\d+\s*").all()
        others = [c for c in var.columns if c not in ID_COLUMNS] if numbered else []
        for candidate in [c for c in (*ID_COLUMNS, *others) if c in var]:
            values = var[candidate].astype(str)
            if values.str.match(r"\s*(ENSG|GeneID:)\d").mean() > 0.5:
                return values.tolist(), candidate
    return names.tolist(), "var_names"


def _gene_names(adata: anndata.AnnData, column: str | None, path: Path) -> list[str]:
    return choose_gene_names(adata.var, column, path)[0]
