"""Which columns of a matrix are genes, and what they are called."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd

from sclong.errors import InputDataError, listing, nearest

ID_COLUMNS = (
    "feature_id",
    "gene_ids",
    "gene_id",
    "ensembl_ids",
    "ensembl_id",
    "ensembl",
    "ensembl_gene_id",
    "stable_id",
    "Accession",
)
SYMBOL_COLUMNS = ("feature_name", "gene_symbols", "gene_symbol", "symbol", "gene_name", "gene_names")
ORIGINAL_NAMES = "original_name"
FEATURE_TYPES = ("feature_types", "feature_type", "modality")
GENE_TYPES = ("gene expression", "gene", "genes", "rna", "gex")
OTHER_TYPES = re.compile(
    r"(?:antibody|antigen|crispr|multiplex|peak|custom|hashtag|guide|protein$|adt|hto|atac|prot$|vdj|cell ?plex)", re.I
)
ROW_NUMBER = r"\s*\d{1,9}(\.0)?\s*"
HIGHEST_POSITION = 70_000  # no matrix has more genes, and an Entrez list of any length has numbers above it
LEAST_NUMBERS = 20
HOLES = ("", "nan", "none", "na", "n/a", "<na>", "null", "-")
HUMAN_ID = r"\s*((?:GRCh3[78]|hg19|hg38)_+)?(ENSG|GeneID:)\d"
ANY_ID = r"\s*(\w+?_+)?ENS[A-Z]*G\d"


def choose_gene_names(
    var: pd.DataFrame, column: str | None, where: str | Path, other: pd.DataFrame | None = None
) -> tuple[list[str], str]:
    """Return the gene names and where they stand.

    A column that is named; else the names as they stand if most are Ensembl ids; else ids, which are unambiguous where
    symbols are not: the first of `ID_COLUMNS` that mostly holds human Ensembl ids or "GeneID:..." ids (where the names
    are but numbers, the first such column of any name); else the names as they stand. Where the column has a hole the
    name in the index stands for the gene, and a symbol where the index has the hole.

    Parameters
    ----------
    var : (genes, any)
        Of the matrix that is read.
    column
        What the user named; "var_names" or the name of the index for the names as they stand.
    where
        The file, for messages.
    other : (genes, any)
        The var of the file where the matrix has one of its own (``.raw``): a column that only it has is looked up by
        the names of both.

    Raises
    ------
    InputDataError
        No such column; names the nearest.
    """
    names = pd.Series(var.index.astype(str), dtype=object)
    if column is not None:
        if column in var:
            return _filled(var[column], names), column
        if column in ("var_names", "_index", "index", var.index.name):
            return names.tolist(), "var_names"
        if other is not None and column in other and not other.index.has_duplicates:
            return _filled(other[column].reindex(var.index), names), column
        like = nearest(column, map(str, var.columns))
        raise InputDataError(
            f"{where}: var has no column {column!r}; it has {listing(var.columns, 10)}",
            "a column of gene names",
            f"write gene_column: {like[0]}" if like else "leave gene_column out to use var_names",
        )
    if not names.str.match(ANY_ID).mean() > 0.5:
        numbered = names.str.fullmatch(ROW_NUMBER).all()
        others = [c for c in var.columns if c not in ID_COLUMNS] if numbered else []
        for candidate in [c for c in (*ID_COLUMNS, *others) if c in var]:
            values = var[candidate].astype(object).astype(str)
            whole = values[~holes(values)]
            if len(whole) and whole.str.match(HUMAN_ID).mean() > 0.5 and not (numbered and len(whole) < len(names) / 2):
                return _filled(var[candidate], names), candidate
    return _filled(names, _symbols(var, names)), "var_names"


def holes(values: pd.Series) -> pd.Series:
    """Say which texts stand for nothing."""
    return values.str.strip().str.lower().isin(HOLES)


def _filled(values: pd.Series, names: pd.Series) -> list[str]:
    texts = values.astype(object).where(values.notna(), "").astype(str).reset_index(drop=True)
    return texts.where(~holes(texts), names.reset_index(drop=True)).tolist()


def _symbols(var: pd.DataFrame, names: pd.Series) -> pd.Series:
    column = next((c for c in SYMBOL_COLUMNS if c in var), None)
    return names if column is None else var[column].astype(object).astype(str).reset_index(drop=True)


def gene_features(var: pd.DataFrame, where: str | Path) -> tuple[np.ndarray, dict[str, int]]:
    """Return which columns are genes, (features,) bool, and how many there are of each kind that is left out.

    A column of ``var`` called feature_types (feature_type, modality) tells antibodies, peaks, guides and hashtags from
    "Gene Expression". Features of unknown type stay.

    Raises
    ------
    InputDataError
        There is no gene among the features.
    """
    everything = np.ones(len(var), dtype=bool)
    for column in [c for c in FEATURE_TYPES if c in var]:
        kinds = var[column].astype(object).astype(str).str.strip()
        lower = kinds.str.lower()
        genes = lower.isin(GENE_TYPES)
        foreign = ~genes & ~holes(kinds) if genes.any() else kinds.str.contains(OTHER_TYPES)
        if foreign.all():
            raise InputDataError(
                f"{where}: all {len(var):,} features are {listing(kinds.unique())}",
                "features of type 'Gene Expression'",
                "use the matrix of gene expression of this experiment",
            )
        if foreign.any():
            return ~foreign.to_numpy(dtype=bool), {str(k): int(n) for k, n in kinds[foreign].value_counts().items()}
    return everything, {}


def are_row_numbers(names: pd.Series) -> bool:
    """Say whether names are positions in a matrix, in any order, or what filters and joins left of them.

    That is: 0, 1, 2 ... or 1, 2, 3 ... in any order; or at least 20 bare numbers, none above what a matrix has columns.
    The second also where they are only some of the names, as after a join with a file that has names.
    """
    bare = names[names.str.fullmatch(ROW_NUMBER)]
    if len(bare) < 2:
        return False
    numbers = bare.str.strip().str.removesuffix(".0").astype(int).to_numpy()
    distinct = np.unique(numbers)
    if len(bare) == len(names) and distinct[0] < 2 and distinct[-1] - distinct[0] + 1 == len(distinct) == len(bare):
        return True
    return len(bare) >= LEAST_NUMBERS and bool(distinct[-1] <= HIGHEST_POSITION)


def columns_of_names(var: pd.DataFrame) -> list[str]:
    """Return the columns of var that look like names of genes: text, mostly different, and no numbers."""
    out = []
    for column in var.columns:
        values = var[column].astype(object).astype(str)
        named = values.str.fullmatch(r"[A-Za-z][\w.:|-]*") & ~holes(values)
        if named.mean() > 0.5 and values[named].nunique() > 0.8 * named.sum():
            out.append(str(column))
    return out
