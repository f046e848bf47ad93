"""Files of drug signatures (L1000): how a compound at a dose changes the landmark genes of a cell line.

From the public LINCS files to the tables read here: :mod:`.lincs`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from sclong.benchmark.problem import PARTS
from sclong.cells.h5ad import read_expression
from sclong.errors import InputDataError, listing, nearest
from sclong.io.tables import read_tsv
from sclong.tasks.chemical_perturbation.dataset import Signatures
from sclong.tasks.chemical_perturbation.lincs import (
    ID_COLUMNS,
    NO_VALUE,
    SAME_DOSE,
    dose_name,
    middle_replicates,
    passes_published_filter,
    read_signature_table,
)


def read_h5ad_signatures(path: Path) -> Signatures:
    """Read signatures from AnnData: obs pert_id, cell_id, dose_um; X z-scores; SMILES come from elsewhere.

    Raises
    ------
    InputDataError
        A column is missing, a signature or a gene appears twice, or a row without a compound, a line or a dose above 0.
    """
    adata = read_expression(path, layer="X")
    for column in ("pert_id", "cell_id", "dose_um"):
        if column not in adata.obs:
            like = nearest(column, map(str, adata.obs.columns))
            raise InputDataError(
                f"{path}: no obs column {column!r}; the columns are {listing(adata.obs.columns, 12)}",
                "obs columns pert_id, cell_id and dose_um",
                f"rename {like[0]!r} to {column!r}" if like else f"add obs[{column!r}]",
            )
    for what, given in (("signatures", adata.obs_names), ("genes", adata.var_names)):
        if given.has_duplicates:
            raise InputDataError(
                f"{path}: {what} {listing(given[given.duplicated()])} appear twice", "each once", "remove the others"
            )
    words = adata.obs[["pert_id", "cell_id"]].apply(lambda c: c.astype(str).where(c.notna(), ""))
    samples = words.assign(dose_um=_doses(adata.obs["dose_um"], path), published_part="")
    samples = samples.rename_axis("sample").reset_index().astype({"sample": str})
    for column in words:
        _check_named(samples, column, str(path))
    return Signatures(samples, np.asarray(adata.var_names, dtype=str), adata.X.toarray())


def _doses(column: pd.Series, path: Path) -> np.ndarray:
    """Return doses, (n,) float64, all above 0; a row that says something else is an error."""
    doses = pd.to_numeric(column.astype(object), errors="coerce").to_numpy(np.float64)
    wrong = np.flatnonzero(~(np.isfinite(doses) & (doses > 0)))
    if len(wrong):
        written = str(column.iloc[wrong[0]])
        number = dose_name(written, SAME_DOSE).removesuffix(" um")
        raise InputDataError(
            f"{path}: dose_um {written!r} of signature {str(column.index[wrong[0]])!r} ({len(wrong)} such signatures)",
            "a number above 0, in micromolar",
            f"write {number} for {written!r}" if number else "write the dose, or remove those signatures",
        )
    return doses


def _check_named(samples: pd.DataFrame, column: str, where: str) -> None:
    """Refuse signatures without a compound or a line."""
    lacking = samples["sample"][samples[column].isin([*NO_VALUE, "nan"])]
    if len(lacking):
        raise InputDataError(
            f"{where}: {len(lacking)} signatures have no {column}: {listing(lacking)}",
            f"a {column} for every signature",
            "write it, or remove those signatures",
        )


def read_deepce_signatures(paths: Sequence[Path]) -> tuple[Signatures, dict[str, int]]:
    """Read DeepCE's signature tables, filter and collapse replicates as published.

    Parameters
    ----------
    paths
        Training, development and test, or one file without parts.

    Returns
    -------
    signatures
        In the order of the files; columns sample, pert_id, cell_id, dose_um, published_part.
    counts
        Rows read, left out by the filter, that appeared twice, and that were replicates.

    Raises
    ------
    InputDataError
        Another number of files, other columns, files with different genes, values that are no numbers, one id for
        different signatures, a signature without a compound, or nothing that passes the filter.
    """
    if len(paths) not in (1, len(PARTS)):
        raise InputDataError(
            f"{len(paths)} signature files",
            "three (training, development, test), or one that is to be split",
            "list them in this order in the card",
        )
    tables = [read_signature_table(path) for path in paths]
    for path, table in zip(paths[1:], tables[1:], strict=True):
        if list(table.columns) != list(tables[0].columns):
            differ = set(table.columns) ^ set(tables[0].columns)
            raise InputDataError(
                f"{path}: other genes, or another order, than {paths[0]} ({listing(sorted(differ), 3) or 'order'})",
                "the same columns in every file",
                "make the files from one table",
            )
    parts = PARTS if len(paths) > 1 else ("",)
    table = pd.concat([t.assign(published_part=p) for t, p in zip(tables, parts, strict=True)], ignore_index=True)
    counts = {"rows_read": len(table)}
    table["pert_idose"] = [dose_name(written, SAME_DOSE) for written in table["pert_idose"]]
    table = table[passes_published_filter(table)].fillna({"pert_id": ""})
    counts["left_out_by_filter"] = counts["rows_read"] - len(table)
    if table.empty:
        raise InputDataError(
            f"{paths[0]}: no signature passes the published filter",
            "24 h signatures of compounds in seven lines at six doses",
            "use DeepCE's signature_train.csv, signature_dev.csv and signature_test.csv",
        )
    table = _once(table.drop_duplicates(), "sig_id").reset_index(drop=True)
    counts["repeated_rows"] = counts["rows_read"] - counts["left_out_by_filter"] - len(table)
    _check_named(table.rename(columns={"sig_id": "sample"}), "pert_id", listing(paths))
    genes = [c for c in table.columns if c not in (*ID_COLUMNS, "published_part")]
    words = [c for c in genes if not pd.api.types.is_numeric_dtype(table[c])]
    if words:
        raise InputDataError(
            f"{paths[0]}: column {words[0]!r} holds something that is no number", "z-scores", "correct the file"
        )
    values = table[genes].to_numpy(np.float32)
    replicate = table["published_part"].str.cat(table[["pert_id", "cell_id", "pert_idose"]], sep="|")
    rows = middle_replicates(values, replicate)
    counts["replicates_left_out"] = len(table) - len(rows)
    samples = table.loc[rows, ["sig_id", "pert_id", "cell_id", "pert_idose", "published_part"]]
    samples = samples.rename(columns={"sig_id": "sample"}).reset_index(drop=True)
    samples.insert(3, "dose_um", samples.pop("pert_idose").str.removesuffix(" um").astype(float))
    return Signatures(samples, np.array(genes, dtype=str), values[rows]), counts


def _once(table: pd.DataFrame, column: str) -> pd.DataFrame:
    """Return `table` if no id appears twice in it."""
    twice = table[column][table[column].duplicated()]
    if len(twice):
        raise InputDataError(
            f"different signatures have the same id {listing(twice)}",
            "one id for one signature",
            "remove all but one, or give them ids of their own",
        )
    return table


def read_gene_vectors(path: Path, genes: Iterable[str]) -> np.ndarray:
    """Read gene vectors that come with signatures (DeepCE's gene_vector.csv: symbol and numbers, no header).

    They also say which genes the signatures must have.

    Returns
    -------
    (G, d) float32
        In the order of `genes`.

    Raises
    ------
    InputDataError
        The file has other genes than the signatures, a gene twice, or something that is no finite number.
    """
    genes = list(genes)
    table = read_tsv(path, sep="," if ".csv" in Path(path).name else "\t", header=None, index_col=0, dtype={0: str})
    table.index = table.index.astype(str)
    lacking, foreign = sorted(set(table.index) - set(genes)), sorted(set(genes) - set(table.index))
    if lacking or foreign or table.index.has_duplicates:
        raise InputDataError(
            f"the signatures have {len(genes)} genes, {path} has {table.index.nunique()}: {len(lacking)} of them "
            f"({listing(lacking, 3)}) are not in the signatures, and the signatures have {len(foreign)} others "
            f"({listing(foreign, 3)})",
            "the same genes, the landmarks, in both",
            "use the files that belong together, with the same gene symbols",
        )
    vectors = table.loc[genes].apply(pd.to_numeric, errors="coerce").to_numpy(np.float32)
    if not np.isfinite(vectors).all():
        raise InputDataError(f"{path}: values that are not finite", "numbers", "fetch the file again")
    return vectors
