"""The gene list of somebody's model as a vocabulary: its order is kept, names are added from a table."""

from __future__ import annotations

import csv
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd

from sclong.errors import InputDataError, listing
from sclong.genes.vocabulary import (
    COLUMNS,
    PAD,
    VERSION,
    Vocabulary,
    build_vocabulary,
    read_gene_list,
    read_symbols,
)
from sclong.io.files import sha256_file
from sclong.io.tables import read_tsv
from sclong.runlog import LOGGER

ENSEMBL = re.compile(r"ENS[A-Z]*G\d+(\.\d+)?(_PAR_Y)?")
LEAST_SHARE = 0.05


def read_gene_ids(path: str | Path, expected: int) -> list[str]:
    """Read the ids of a model's genes, one per line, in its order; see :func:`sclong.genes.vocabulary.read_gene_list`.

    Parameters
    ----------
    path
        The list.
    expected
        Number of genes of the model.

    Raises
    ------
    InputDataError
        Another number of ids, one that appears twice, PAD before the end, or a list that does not hold Ensembl ids.
    """
    ids = read_gene_list(path)
    if len(ids) != expected:
        raise InputDataError(
            f"{path}: {len(ids)} gene ids",
            f"{expected}: max_seq_len of the hyper-parameters without {PAD}",
            "give the list that belongs to these weights",
        )
    odd = [name for name in ids if not ENSEMBL.fullmatch(name)]
    if 2 * len(odd) > len(ids):
        raise InputDataError(
            f"{path}: {len(odd)} of {len(ids)} lines are no Ensembl gene ids ({listing(odd, 3)})",
            "one Ensembl gene id per line",
            "give the list as it was released",
        )
    kept = [name for name in ids if re.search(VERSION, name)]
    if kept:
        LOGGER.warning("%s: %s differ by their version only and keep it", path, listing(kept))
    return ids


def vocabulary_of(ids: list[str], genes: str | Path, symbols: str | Path | None) -> Vocabulary:
    """Make the vocabulary of a gene list.

    Parameters
    ----------
    ids
        What :func:`read_gene_ids` returned.
    genes
        The file they come from (named in the metadata).
    symbols
        None: genes have no symbols, and only data with Ensembl ids can be aligned. Else a gene annotation table
        (gene_id, gene_name, biotype, chromosome), an HGNC table, or two columns: symbol and Ensembl id, in any order,
        with or without a header, comma or tab separated. A symbol of several ids of the table is nobody's.

    Raises
    ------
    InputDataError
        A table of another kind, or one that knows less than 5 % of the ids.
    """
    metadata = {"rule": f"list {Path(genes).name}, in its order", "list_sha256": sha256_file(genes)}
    if symbols is None:
        names = pd.DataFrame(columns=["ensembl_id", "symbol", "aliases", "entrez_id"], dtype=str)
    else:
        kind, sep = _kind(Path(symbols))
        if kind == "annotation":
            return build_vocabulary(symbols, None, None, None, genes)
        metadata |= {"symbols": Path(symbols).name, "symbols_sha256": sha256_file(symbols)}
        names = _hgnc(Path(symbols)) if kind == "hgnc" else _two_columns(Path(symbols), sep)
    table = names.set_index("ensembl_id").reindex(ids).rename_axis("ensembl_id").reset_index()
    known = int((table["symbol"].fillna("") != "").sum())
    if symbols is not None and known < LEAST_SHARE * len(ids):
        raise InputDataError(
            f"{symbols}: it names {known} of the {len(ids)} genes of {genes}",
            "a table with the same Ensembl ids",
            "give a table of human genes",
        )
    LOGGER.info("vocabulary: %d genes, %d of them with a symbol", len(ids), known)
    table = table.assign(index=np.arange(len(ids)), biotype="").fillna("")
    return Vocabulary(table[list(COLUMNS)], metadata)


def _kind(path: Path) -> tuple[str, str]:
    """Return what a table of symbols is by its header, and its separator."""
    try:
        with_tab = pd.read_csv(path, sep="\t", nrows=1, header=None, dtype=str, quoting=csv.QUOTE_NONE)
        with_comma = pd.read_csv(path, sep=",", nrows=1, header=None, dtype=str)
    except (ValueError, OSError, EOFError) as error:  # pandas' parser errors are ValueErrors
        raise InputDataError(f"{path}: {error}", "a table of genes and symbols", "give another table") from error
    sep, head = max((("\t", with_tab), (",", with_comma)), key=lambda pair: pair[1].shape[1])
    names = {str(name).strip() for name in head.iloc[0]}
    if {"gene_id", "gene_name"} <= names:
        return "annotation", sep
    if {"Approved symbol", "Ensembl gene ID"} <= names:
        return "hgnc", sep
    if head.shape[1] == 2:
        return "two columns", sep
    raise InputDataError(
        f"{path}: its columns are {listing(head.iloc[0], 12)}",
        "a gene annotation table (gene_id, gene_name, biotype, chromosome), an HGNC table, or two columns: symbol and "
        "Ensembl id",
        "give such a table",
    )


def _hgnc(path: Path) -> pd.DataFrame:
    table = read_symbols(path)
    names = [[s, *p, *a] for s, p, a in zip(table["symbol"], table["previous"], table["alias"], strict=True)]
    return _unambiguous(table["ensembl_id"].tolist(), names, table["entrez_id"].tolist())


def _two_columns(path: Path, sep: str) -> pd.DataFrame:
    table = read_tsv(path, sep=sep, header=None, dtype=str).fillna("")
    looks = [table[column].str.strip().map(lambda name: bool(ENSEMBL.fullmatch(name))) for column in (0, 1)]
    which = int(looks[1].sum() > looks[0].sum())
    rows = looks[which]
    if not rows.any():
        raise InputDataError(
            f"{path}: neither of its two columns holds Ensembl gene ids",
            "the columns symbol and Ensembl id",
            "give such a table",
        )
    pairs = pd.DataFrame(
        {
            "ensembl_id": table.loc[rows, which].str.strip().str.replace(VERSION, "", regex=True),
            "symbol": table.loc[rows, 1 - which].str.strip(),
        }
    ).drop_duplicates()
    names = pairs[pairs["symbol"] != ""].groupby("ensembl_id", sort=False)["symbol"].agg(list)
    return _unambiguous(names.index.tolist(), names.tolist(), [""] * len(names))


def _unambiguous(ids: list[str], names: list[list[str]], entrez: list[str]) -> pd.DataFrame:
    """Return ensembl_id, symbol (the first name), aliases, entrez_id; names of several genes are left out.

    A symbol wins over the same name as somebody else's alias.
    """
    symbols = Counter(mine[0] for mine in names if mine)
    every = Counter(name for mine in names for name in set(mine))
    rows = [
        (
            gene,
            mine[0] if mine and symbols[mine[0]] == 1 else "",
            "|".join(name for name in dict.fromkeys(mine[1:]) if every[name] == 1),
            number,
        )
        for gene, mine, number in zip(ids, names, entrez, strict=True)
        if gene
    ]
    out = pd.DataFrame(rows, columns=["ensembl_id", "symbol", "aliases", "entrez_id"])
    return out.drop_duplicates("ensembl_id")
