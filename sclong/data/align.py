"""From the gene names of any human data set to the vocabulary, by stated rules, with a report."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse

from sclong.data.vocabulary import Vocabulary
from sclong.errors import InputDataError, listing

ENSEMBL = r"^(ENSG\d{11})(\.\d+)?(?:_PAR_Y)?$"
ENTREZ = r"^(?:GeneID:)?(\d+)$"
RULES = ("ensembl", "symbol", "previous_or_alias", "entrez")
SYMBOL_COLUMNS = ("feature_name", "gene_symbols", "gene_symbol", "symbol", "gene_name", "gene_names")
KINDS = {
    "mouse Ensembl ids": r"^ENSMUSG\d{11}",
    "human Ensembl ids": ENSEMBL,
    "Ensembl ids of another species, or of transcripts or proteins": r"^ENS[A-Z]*\d{11}",
    "numbers (Entrez ids, or positions)": ENTREZ,
    "probe ids": r"^(\d+(_[a-z]+)*_at|ILMN_\d+|A_\d+_P\d+)$",
    "title-case symbols, as mouse genes have": r"^[A-Z][a-z]+[a-z0-9]*$",
}
LEAST_SHARE = 0.05
AMBIGUOUS = -2


@dataclass(frozen=True)
class Alignment:
    """Where each name of a data set goes.

    Attributes
    ----------
    positions : (names,) int64
        Index into the vocabulary, -1 where there is none.
    rule : (names,) str
        "ensembl", "symbol", "previous_or_alias", "entrez", "unmapped" or "ambiguous".
    report
        Counts by rule, duplicates, examples.
    """

    positions: np.ndarray
    rule: np.ndarray
    report: Mapping[str, Any]


def align_genes(names: Sequence[str], vocabulary: Vocabulary, *, extra: pd.DataFrame | None = None) -> Alignment:
    """Find each name in the vocabulary.

    In this order: Ensembl id (the version does not count), symbol, previous or alias symbol, Entrez id ("123" or
    "GeneID:123"). Blanks around a name are ignored. A name that stands for several genes is ambiguous and left out;
    a current symbol wins over somebody else's alias. Several names of one gene are duplicates: their counts are summed
    (:func:`harmonize`).

    Parameters
    ----------
    names : (names,)
        Gene names of the data set.
    vocabulary
        The genes to find.
    extra
        ``var`` of the data set, one row for each name. If it has a column of symbols (`SYMBOL_COLUMNS`), an Ensembl id
        that is not found, as those that were retired, is looked up by its symbol, unless that gene is there anyway.

    Raises
    ------
    InputDataError
        Mouse genes, running numbers, or less than 5 % of the names found; says which kind of name was given.
    """
    given = pd.Series(list(names), dtype=object).astype(str)
    clean = given.str.strip()
    ensembl = clean.str.extract(ENSEMBL)
    indices = _indices(vocabulary)
    positions, rule = _find(clean, indices)
    column = None if extra is None else next((c for c in SYMBOL_COLUMNS if c in extra), None)
    if extra is not None and column is not None:
        symbols = pd.Series(extra[column].astype(str).to_numpy(), dtype=object).str.strip()
        second, second_rule = _find(symbols, indices)
        take = (positions < 0) & ensembl[0].notna().to_numpy() & (second >= 0) & ~np.isin(second, positions)
        positions, rule = np.where(take, second, positions), np.where(take, second_rule, rule)
    _check(clean, int((positions >= 0).sum()))
    report = {
        **_report(clean, positions, rule, len(vocabulary)),
        "with_version": int(ensembl[1].notna().sum()),
        "with_blanks": int((given != clean).sum()),
    }
    return Alignment(positions, rule, report)


def _find(clean: pd.Series, indices: Mapping[str, pd.Series]) -> tuple[np.ndarray, np.ndarray]:
    """Return position and rule of each name by the first rule that knows it."""
    keys = {"ensembl": clean.str.extract(ENSEMBL)[0], "entrez": clean.str.extract(ENTREZ)[0]}
    positions = np.full(len(clean), -1, dtype=np.int64)
    rule = np.full(len(clean), "unmapped", dtype="<U17")
    for name in RULES:
        found = keys.get(name, clean).map(indices[name]).fillna(-1).to_numpy(dtype=np.int64)
        unseen = rule == "unmapped"
        positions[unseen & (found >= 0)] = found[unseen & (found >= 0)]
        rule[unseen & (found >= 0)] = name
        rule[unseen & (found == AMBIGUOUS)] = "ambiguous"
    return positions, rule


def _indices(vocabulary: Vocabulary) -> dict[str, pd.Series]:
    """Return for each rule name -> position; `AMBIGUOUS` for names of several genes."""
    table = vocabulary.table
    where = pd.Series(np.arange(len(table)), dtype=np.int64)
    aliases = table["aliases"].reset_index(drop=True).str.split("|").explode()
    return {
        "ensembl": _index(table["ensembl_id"], where),
        "symbol": _index(table["symbol"], where),
        "previous_or_alias": _index(aliases, where.reindex(aliases.index)),
        "entrez": _index(table["entrez_id"], where),
    }


def _index(names: pd.Series, positions: pd.Series) -> pd.Series:
    pairs = pd.DataFrame({"name": names.to_numpy(), "position": positions.to_numpy()})
    pairs = pairs[pairs["name"] != ""].drop_duplicates()
    pairs.loc[pairs["name"].duplicated(keep=False), "position"] = AMBIGUOUS
    return pairs.drop_duplicates("name").set_index("name")["position"]


def _report(clean: pd.Series, positions: np.ndarray, rule: np.ndarray, n_genes: int) -> dict[str, Any]:
    mapped = positions[positions >= 0]
    distinct = len(np.unique(mapped))
    return {
        "names": len(clean),
        "mapped": len(mapped),
        **{f"by_{r}": int((rule == r).sum()) for r in RULES},
        "ambiguous": int((rule == "ambiguous").sum()),
        "unmapped": int((rule == "unmapped").sum()),
        "duplicated": len(mapped) - distinct,
        "genes_of_vocabulary": distinct,
        "share_of_vocabulary": round(distinct / n_genes, 4),
        "unmapped_examples": clean[rule == "unmapped"].head(5).tolist(),
    }


def kind_of_names(names: Sequence[str]) -> str:
    """Say what most names look like: for error messages."""
    kinds = pd.Series([_kind(name) for name in names], dtype=str)
    return str(kinds.value_counts().index[0])


def _kind(name: str) -> str:
    return next((kind for kind, pattern in KINDS.items() if re.match(pattern, name)), "symbols or other text")


def _check(clean: pd.Series, mapped: int) -> None:
    if clean.empty:
        raise InputDataError("no gene names", "one name per column", "check var_names (adata.var_names)")
    kind, examples = kind_of_names(clean), listing(clean, 3)
    if "mouse" in kind:
        raise InputDataError(
            f"{len(clean)} gene names, mostly {kind} ({examples})", "human genes",
            "map them to human orthologues before, or use human data",
        )  # fmt: skip
    action = "put human ids into var_names, or name the column of var that has them (gene_column)"
    if len(clean) > 1 and clean.iloc[0] in ("0", "1"):
        first = int(clean.iloc[0])
        if clean.tolist() == [str(i) for i in range(first, first + len(clean))]:
            raise InputDataError(
                f"the {len(clean)} gene names are running numbers ({examples})",
                "human Ensembl ids, gene symbols or Entrez ids", action,
            )  # fmt: skip
    if mapped < max(1, LEAST_SHARE * len(clean)):
        raise InputDataError(
            f"only {mapped} of {len(clean)} gene names are in the vocabulary; most are {kind} ({examples})",
            "human Ensembl ids, gene symbols or Entrez ids in var_names", action,
        )  # fmt: skip


def harmonize(counts: sparse.spmatrix, alignment: Alignment, n_genes: int) -> sparse.csr_matrix:
    """Move columns to their place in the vocabulary; several columns of one gene are summed, missing genes are 0.

    Parameters
    ----------
    counts : (cells, names)
    alignment
        Of the names.
    n_genes
        Size of the vocabulary.

    Returns
    -------
    (cells, n_genes) CSR with sorted indices; zeros are not stored.
    """
    columns = np.flatnonzero(alignment.positions >= 0)
    move = sparse.csr_matrix(
        (np.ones(len(columns), dtype=np.float32), (columns, alignment.positions[columns])),
        shape=(len(alignment.positions), n_genes),
    )
    out = sparse.csr_matrix(sparse.csr_matrix(counts) @ move)
    out.eliminate_zeros()
    out.sort_indices()
    return out
