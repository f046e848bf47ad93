"""From the gene names of any human data set to the vocabulary, by stated rules, with a report."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse

from sclong.data.vocabulary import Vocabulary
from sclong.errors import InputDataError, listing

ENSEMBL = re.compile(r"^(ENSG\d{11})(\.\d+)?(_PAR_Y)?$")
MOUSE = re.compile(r"^ENSMUSG\d{11}")
ENTREZ = re.compile(r"^(?:GeneID:)?(\d+)$")
RULES = ("ensembl", "symbol", "previous_or_alias", "entrez")


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


@lru_cache(maxsize=8)
def _lookup(vocabulary_hash: str, rows: tuple[tuple[str, str, str, str], ...]) -> tuple[dict[str, int], ...]:
    ensembl = {e: i for i, (e, _, _, _) in enumerate(rows)}
    symbols: dict[str, int] = {}
    aliases: dict[str, int] = {}
    entrez: dict[str, int] = {}
    for i, (_, symbol, alias, gene_id) in enumerate(rows):
        if symbol:
            symbols[symbol] = -2 if symbol in symbols else i
        for name in alias.split("|"):
            if name:
                aliases[name] = -2 if aliases.get(name, i) != i else i
        if gene_id:
            entrez[gene_id] = -2 if gene_id in entrez else i
    return ensembl, symbols, aliases, entrez


def align_genes(names: Sequence[str], vocabulary: Vocabulary) -> Alignment:
    """Find each name in the vocabulary.

    In this order: Ensembl id (the version does not count), symbol, previous or alias symbol, Entrez id ("123" or
    "GeneID:123"). Blanks around a name are ignored. A name that stands for several genes is ambiguous and left out;
    a current symbol wins over somebody else's alias. Several names of one gene are duplicates: their counts are summed
    (:func:`harmonize`).

    Raises
    ------
    InputDataError
        Mouse genes, or less than 5 % of the names found; says which kind of name was given.
    """
    table = vocabulary.table
    rows = tuple(zip(table["ensembl_id"], table["symbol"], table["aliases"], table["entrez_id"], strict=True))
    ensembl, symbols, aliases, entrez = _lookup(vocabulary.hash, rows)
    clean = [str(n).strip() for n in names]
    positions = np.full(len(clean), -1, dtype=np.int64)
    rule = np.full(len(clean), "unmapped", dtype="<U17")
    for k, name in enumerate(clean):
        if match := ENSEMBL.match(name):
            position, how = ensembl.get(match[1], -1), "ensembl"
        elif name in symbols:
            position, how = symbols[name], "symbol"
        elif name in aliases:
            position, how = aliases[name], "previous_or_alias"
        elif match := ENTREZ.match(name):
            position, how = entrez.get(match[1], -1), "entrez"
        else:
            continue
        if position >= 0:
            positions[k], rule[k] = position, how
        elif position == -2:
            rule[k] = "ambiguous"
    report = _report(clean, names, positions, rule, len(vocabulary))
    _check(clean, positions, report)
    return Alignment(positions, rule, report)


def _report(
    clean: list[str], names: Sequence[str], positions: np.ndarray, rule: np.ndarray, n_genes: int
) -> dict[str, Any]:
    mapped = positions[positions >= 0]
    distinct = len(np.unique(mapped))
    return {
        "names": len(clean),
        "mapped": len(mapped),
        **{f"by_{r}": int((rule == r).sum()) for r in RULES},
        "ambiguous": int((rule == "ambiguous").sum()),
        "unmapped": int((rule == "unmapped").sum()),
        "duplicated": len(mapped) - distinct,
        "with_version": sum(bool((m := ENSEMBL.match(n)) and m[2]) for n in clean),
        "with_blanks": sum(str(a) != b for a, b in zip(names, clean, strict=True)),
        "genes_of_vocabulary": distinct,
        "share_of_vocabulary": round(distinct / max(n_genes, 1), 4),
        "unmapped_examples": [n for n, r in zip(clean, rule, strict=True) if r == "unmapped"][:5],
    }


def kind_of_names(names: Sequence[str]) -> str:
    """Say what most names look like: for error messages."""
    kinds = pd.Series(
        [
            "mouse Ensembl ids" if MOUSE.match(n)
            else "human Ensembl ids" if ENSEMBL.match(n)
            else "Ensembl ids of another species or of transcripts" if n.startswith("ENS")
            else "numbers (Entrez ids, or positions)" if ENTREZ.match(n)
            else "probe ids" if re.match(r"^(\d+(_[a-z]+)*_at|ILMN_\d+|A_\d+_P\d+)$", n)
            else "title-case symbols, as mouse genes have" if re.match(r"^[A-Z][a-z]+[a-z0-9]*$", n)
            else "symbols or other text"
            for n in names
        ],
        dtype=str,
    )  # fmt: skip
    return str(kinds.value_counts().index[0])


def _check(clean: list[str], positions: np.ndarray, report: Mapping[str, Any]) -> None:
    if not clean:
        raise InputDataError("no gene names", "one name per column", "check var_names (adata.var_names)")
    mapped = report["mapped"]
    if mapped >= max(1, 0.05 * len(clean)):
        return
    kind = kind_of_names(clean)
    if "mouse" in kind:
        raise InputDataError(
            f"{len(clean)} gene names, mostly {kind} ({listing(clean, 3)})", "human genes",
            "map them to human orthologues before, or use human data",
        )  # fmt: skip
    raise InputDataError(
        f"only {mapped} of {len(clean)} gene names are in the vocabulary; they look like {kind} ({listing(clean, 3)})",
        "human Ensembl ids, gene symbols or Entrez ids in var_names",
        "put such ids into var_names, or name the column of var that has them (gene_column)",
    )


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
    (cells, n_genes) CSR
    """
    columns = np.flatnonzero(alignment.positions >= 0)
    move = sparse.csr_matrix(
        (np.ones(len(columns), dtype=np.float32), (columns, alignment.positions[columns])),
        shape=(len(alignment.positions), n_genes),
    )
    out = sparse.csr_matrix(sparse.csr_matrix(counts) @ move)
    out.sort_indices()
    return out
