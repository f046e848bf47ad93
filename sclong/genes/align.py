"""From the gene names of any human data set to the vocabulary, by stated rules, with a report."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse

from sclong.cells.names import ORIGINAL_NAMES, are_row_numbers, columns_of_names
from sclong.errors import InputDataError, listing
from sclong.genes.vocabulary import Vocabulary

GENOME = r"^(?:GRCh3[78]|hg19|hg38)_+"
ENSEMBL = r"^(ENSG\d{11})(\.\d+)?(?:_PAR_Y|_\d+)?(?:_PAR_Y)?$"
WITH_SYMBOL = r"^(ENSG\d{11})(?:\.\d+)?(?:_\d+)?[_|:;.-]+([A-Za-z][\w.-]*)$"
SYMBOL_BEFORE = r"^([A-Za-z][\w.-]*?)[_|:;-]+(ENSG\d{11})(?:\.\d+)?$"
ENTREZ = r"^(?:GeneID:)?(\d+)$"
RULES = ("ensembl", "symbol", "previous_or_alias", "entrez", "date")
NAMES = {
    "ensembl": "Ensembl id",
    "symbol": "symbol",
    "previous_or_alias": "previous or alias symbol",
    "entrez": "Entrez id",
    "date": "date that a spreadsheet made of a symbol",
}
MONTHS = {
    "mar": ("MARCH", "MARC"),
    "sep": ("SEPT", "SEP"),
    "sept": ("SEPT", "SEP"),
    "dec": ("DEC",),
    "oct": ("OCT",),
    "nov": ("NOV",),
    "apr": ("APR",),
    "feb": ("FEB",),
}
DAY_MONTH = r"^(\d{1,2})[-/. ]([A-Za-z]{3,4})$"
MONTH_DAY = r"^([A-Za-z]{3,4})[-/. ](\d{1,2})$"
ISO_DATE = r"^\d{4}-(\d{2})-(\d{2})(?: 00:00:00)?$"
SYMBOL_COLUMNS = ("feature_name", "gene_symbols", "gene_symbol", "symbol", "gene_name", "gene_names", ORIGINAL_NAMES)
KINDS = {
    "mouse Ensembl ids": r"^ENSMUSG\d{11}",
    "human Ensembl ids": r"^ENSG\d{11}",
    "Ensembl ids of another species, or of transcripts or proteins": r"^ENS[A-Z]*\d{11}",
    "names with the genome of another species before them": r"^(GRCm3[89]|mm9|mm10|mm39|rn6|rn7)_+",
    "numbers (Entrez ids, or positions)": ENTREZ,
    "probe ids": r"^(\d+(_[a-z]+)*_at|ILMN_\d+|A_\d+_P\d+)$",
    "title-case symbols, as mouse genes have": r"^[A-Z][a-z]+[a-z0-9]*$",
}
FOREIGN = [kind for kind in KINDS if "species" in kind or "mouse" in kind]
UNTIDY = {
    "with_version": "with a version",
    "with_blanks": "with blanks around them",
    "with_genome": "with the genome before them",
}
LEAST_SHARE = 0.05
FOREIGN_SHARE = 0.01
AMBIGUOUS = -2
SUMMED = ("counts", "cp10k")  # kinds of values whose duplicates add up


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
        Counts by rule, duplicates, examples, what most names are, and whether they look human; see :func:`describe`.
    """

    positions: np.ndarray
    rule: np.ndarray
    report: Mapping[str, Any]


def align_genes(names: Sequence[str], vocabulary: Vocabulary, *, extra: pd.DataFrame | None = None) -> Alignment:
    """Find each name in the vocabulary.

    In this order: Ensembl id (the version does not count), symbol, previous or alias symbol, Entrez id ("123" or
    "GeneID:123"), a date that a spreadsheet made of a symbol. The genome before a name ("GRCh38_"), the mapping version
    of a lifted annotation ("ENSG....5_2") and a symbol behind an id ("ENSG..._SYMBOL") are read. Every name is looked
    up by itself, so that kinds may be mixed. Blanks around a name are ignored. A name that stands for several genes is
    ambiguous and left out; a current symbol wins over somebody else's alias. Several names of one gene are duplicates:
    :func:`harmonize` says how their values are combined.

    Parameters
    ----------
    names : (names,)
        Gene names of the data set.
    vocabulary
        The genes to find.
    extra
        ``var`` of the data set, one row for each name. An Ensembl or Entrez id that is not found, as those that were
        retired, is looked up by its symbol, in the first of `SYMBOL_COLUMNS` that is there, else in the index, unless
        that gene is there anyway.

    Raises
    ------
    InputDataError
        Mouse genes, running numbers, or less than 5 % of the names found; says which kind of name was given.
    """
    given = pd.Series(list(names), dtype=object).astype(str)
    clean = given.str.strip().str.replace(GENOME, "", regex=True)
    ensembl = clean.str.extract(ENSEMBL)
    indices = _indices(vocabulary)
    positions, rule = _find(clean, indices)
    if extra is not None:
        column = next((c for c in SYMBOL_COLUMNS if c in extra), None)
        symbols = extra.index if column is None else extra[column]
        second, second_rule = _find(pd.Series(symbols.astype(str).to_numpy(), dtype=object).str.strip(), indices)
        is_id = ensembl[0].notna() | clean.str.match(ENTREZ)
        by_name = np.isin(second_rule, ["symbol", "previous_or_alias"])
        take = (positions < 0) & is_id.to_numpy(dtype=bool) & by_name & ~np.isin(second, positions)
        positions, rule = np.where(take, second, positions), np.where(take, second_rule, rule)
    _check(clean, int((positions >= 0).sum()), extra)
    report = {
        **_report(clean, positions, rule, len(vocabulary)),
        "with_version": int(ensembl[1].notna().sum()),
        "with_blanks": int((given != given.str.strip()).sum()),
        "with_genome": int(given.str.strip().str.match(GENOME).sum()),
    }
    return Alignment(positions, rule, report)


def _find(clean: pd.Series, indices: Mapping[str, pd.Series]) -> tuple[np.ndarray, np.ndarray]:
    """Return position and rule of each name by the first rule that knows it."""
    both, before = clean.str.extract(WITH_SYMBOL), clean.str.extract(SYMBOL_BEFORE)
    own = clean.str.extract(ENSEMBL)[0]
    ids = own.where(own.notna(), both[0]).where(own.notna() | both[0].notna(), before[1])
    clean = both[1].where(both[1].notna(), before[0]).where(both[1].notna() | before[0].notna(), clean)
    alone = own.where(own.notna(), clean)
    entrez = clean.str.extract(ENTREZ)[0]
    keys = {"ensembl": ids, "previous_or_alias": alone, "entrez": entrez, "date": clean}
    indices = {**indices, "date": _dates(clean, indices)}
    positions = np.full(len(clean), -1, dtype=np.int64)
    rule = np.full(len(clean), "unmapped", dtype="<U17")
    for name in RULES:
        found = keys.get(name, clean).map(indices[name]).fillna(-1).to_numpy(dtype=np.int64)
        unseen = rule == "unmapped"
        positions[unseen & (found >= 0)] = found[unseen & (found >= 0)]
        rule[unseen & (found >= 0)] = name
        rule[unseen & (found == AMBIGUOUS)] = "ambiguous"
    return positions, rule


def _dates(clean: pd.Series, indices: Mapping[str, pd.Series]) -> pd.Series:
    """Return the positions of the symbols that a spreadsheet turned into dates; `AMBIGUOUS` where two could have been.

    "1-Mar" is MARCH1 or MARC1, which are two genes; "4-Mar" is MARCH4. "2023-09-02" is SEPT2.
    """
    out = {}
    numbers = {"02": "feb", "03": "mar", "04": "apr", "09": "sep", "10": "oct", "11": "nov", "12": "dec"}
    for name in clean[clean.str.match(f"{DAY_MONTH}|{MONTH_DAY}|{ISO_DATE}")].unique():
        if found := re.match(DAY_MONTH, name):
            day, month = found[1], found[2]
        elif found := re.match(MONTH_DAY, name):
            month, day = found[1], found[2]
        else:
            iso = re.match(ISO_DATE, name)
            month, day = (numbers.get(iso[1], ""), iso[2]) if iso else ("", "0")
        stems = MONTHS.get(month.lower(), ())
        places = {
            int(indices[rule][symbol])
            for symbol in (f"{stem}{int(day)}" for stem in stems)
            for rule in ("symbol", "previous_or_alias")
            if symbol in indices[rule].index
        }
        if places:
            out[name] = places.pop() if len(places) == 1 else AMBIGUOUS
    return pd.Series(out, dtype=np.float64)


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
    kinds = pd.Series([_kind(name) for name in clean], dtype=str).value_counts()
    foreign = kinds[kinds.index.isin(FOREIGN)]
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
        "ambiguous_examples": clean[rule == "ambiguous"].head(5).tolist(),
        "kind": str(kinds.index[0]),
        "species": "human"
        if foreign.sum() <= FOREIGN_SHARE * len(clean)
        else f"not all human: {int(foreign.iloc[0])} names are {foreign.index[0]}",
    }


def describe(report: Mapping[str, Any]) -> list[str]:
    """Put the report of an :class:`Alignment` into lines for a reader."""
    names = report["names"]

    def count(key: str, examples: str = "") -> str:
        shown = f", for example {listing(report[examples][:3])}" if examples and report[examples] else ""
        return f"{report[key]:,} ({report[key] / names:.1%}){shown}"

    ways = [f"{NAMES[r]} {report[f'by_{r}']:,}" for r in RULES if report[f"by_{r}"]]
    untidy = [f"{report[k]:,} {text}" for k, text in UNTIDY.items() if report[k]]
    return [
        f"gene names      {names:,}, mostly {report['kind']}" + (f"; {', '.join(untidy)}" if untidy else ""),
        f"species         {report['species']}",
        f"found           {count('mapped')}" + (f": {', '.join(ways)}" if ways else ""),
        f"not found       {count('unmapped', 'unmapped_examples')}",
        f"ambiguous       {count('ambiguous', 'ambiguous_examples')}: names of several genes, left out",
        f"duplicated      {report['duplicated']:,}: further names of a gene that is there already, combined with it",
        f"vocabulary      {report['genes_of_vocabulary']:,} of its genes are there "
        f"({report['share_of_vocabulary']:.1%})",
    ]


def kind_of_names(names: Sequence[str]) -> str:
    """Say what most names look like: for error messages."""
    kinds = pd.Series([_kind(name) for name in names], dtype=str)
    return str(kinds.value_counts().index[0])


def _kind(name: str) -> str:
    return next((kind for kind, pattern in KINDS.items() if re.match(pattern, name)), "symbols or other text")


def _check(clean: pd.Series, mapped: int, extra: pd.DataFrame | None) -> None:
    if clean.empty:
        raise InputDataError("no gene names", "one name per column", "check var_names (adata.var_names)")
    kind, examples = kind_of_names(clean), listing(clean, 3)
    if "mouse" in kind:
        raise InputDataError(
            f"{len(clean)} gene names, mostly {kind} ({examples})",
            "human genes",
            "map them to human orthologues before, or use human data",
        )
    action = "put human ids into var_names, or name the column of var that has them (gene_column)"
    columns = columns_of_names(extra) if extra is not None else []
    if columns:
        action += f"; these look like names: {listing(columns)}, for example --gene-column {columns[0]}"
    if are_row_numbers(clean):
        raise InputDataError(
            f"gene names are running numbers, that is rows of a matrix ({examples} of {len(clean)})",
            "human Ensembl ids, gene symbols or Entrez ids",
            f"{action}; if they are Entrez ids, write them as GeneID:123",
        )
    if mapped < max(1, LEAST_SHARE * len(clean)):
        raise InputDataError(
            f"only {mapped} of {len(clean)} gene names are in the vocabulary; most are {kind} ({examples})",
            "human Ensembl ids, gene symbols or Entrez ids in var_names",
            action,
        )


def harmonize(
    values: sparse.spmatrix, alignment: Alignment, n_genes: int, value_kind: str = "counts"
) -> sparse.csr_matrix:
    """Move columns to their place in the vocabulary; missing genes are 0.

    Values of several columns of one gene are combined: counts and cp10k values, which are proportional to counts, are
    summed; log1p_cp10k values are log(1 + x), so that x is summed and logged again, as if the counts had been summed
    before; other non-negative values, of whatever scale, are averaged.

    Parameters
    ----------
    values : (cells, names)
    alignment
        Of the names.
    n_genes
        Size of the vocabulary.
    value_kind
        "counts", "cp10k", "log1p_cp10k", or another, as "nonnegative".

    Returns
    -------
    (cells, n_genes) CSR with sorted indices; zeros are not stored.
    """
    values = sparse.csr_matrix(values)
    columns = np.flatnonzero(alignment.positions >= 0)
    places = alignment.positions[columns]
    times = np.bincount(places, minlength=n_genes)[places]

    def moved(which: np.ndarray, data: sparse.csr_matrix, weights: np.ndarray) -> sparse.csr_matrix:
        shape = (data.shape[1], n_genes)
        return data @ sparse.csr_matrix((weights[which], (columns[which], places[which])), shape=shape)

    one = np.ones(len(columns), dtype=np.float32)
    if value_kind in SUMMED or (times == 1).all():
        out = moved(times > 0, values, one)
    elif value_kind == "log1p_cp10k":
        summed = moved(times > 1, values.astype(np.float64).expm1(), one).log1p()
        out = moved(times == 1, values, one) + summed.astype(values.dtype)
    else:
        out = moved(times > 0, values, (1 / times).astype(np.float32))
    out = sparse.csr_matrix(out)
    out.eliminate_zeros()
    out.sort_indices()
    return out
