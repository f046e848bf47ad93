"""Untreated expression of the cell lines of signatures: the data set's lines, its genes under the signatures' names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from sclong.drugs.line_pickle import read_line_pickle
from sclong.drugs.lines import read_lines_h5ad, write_lines
from sclong.errors import InputDataError, listing
from sclong.io.tables import read_tsv


def write_expression(inputs: Mapping[str, Any], genes: np.ndarray, cells: set[str], out: Path) -> dict[str, Any]:
    """Write ``expression.h5ad``: of the lines of the signatures those that have expression, and no others.

    Parameters
    ----------
    inputs
        ``expression``; optional ``expression_genes``, ``annotation`` and ``hgnc``: see :func:`.prepare`.
    genes : (G,) str
        Genes of the signatures.
    cells
        Lines of the signatures.
    out
        Folder.

    Returns
    -------
    dict
        ``lines_with_expression`` and the names of those without (:func:`sclong.drugs.lines.write_lines`),
        ``genes_with_expression``, ``genes_renamed_by_hgnc``.

    Raises
    ------
    InputDataError
        Negative values, a line or gene that appears twice, no gene of the signatures, or none of their lines.
    """
    path = inputs["expression"]
    pickled = "expression_genes" in inputs
    lines = read_line_pickle(Path(path), Path(inputs["expression_genes"])) if pickled else read_lines_h5ad(path)
    if "annotation" in inputs:
        lines.var_names = to_symbols(lines.var_names, inputs["annotation"])
    renamed = newer_names(genes, lines.var_names, inputs["hgnc"]) if "hgnc" in inputs else {}
    lines.var_names = [renamed.get(name, name) for name in lines.var_names]
    known = int(np.isin(genes, lines.var_names).sum())
    if not known:
        raise InputDataError(
            f"{path}: its genes ({listing(lines.var_names, 3)}) have nothing in common with those of the signatures "
            f"({listing(genes, 3)})",
            "the same gene symbols in both",
            "rename its genes, or name a table of gene_id and gene_name as the card's input 'annotation'",
        )
    facts = write_lines(lines, cells, out)
    del facts["genes"]  # of the file, not of the signatures
    return {
        "lines_with_expression": facts.pop("lines"),
        **facts,
        "genes_with_expression": known,
        "genes_renamed_by_hgnc": len(renamed),
    }


def to_symbols(ids: Iterable[str], annotation: Path) -> list[str]:
    """Replace gene ids (versions are ignored) by symbols; unknown ids and repeated symbols keep their id."""
    table = read_tsv(
        annotation, ("gene_id", "gene_name"), sep="," if ".csv" in Path(annotation).name else "\t", dtype=str
    )
    symbol = dict(zip(table["gene_id"].str.split(".").str[0], table["gene_name"], strict=True))
    taken: set[str] = set()
    names = []
    for gene in ids:
        name = symbol.get(gene.split(".")[0], gene)
        name = gene if name in taken or not isinstance(name, str) else name
        taken.add(name)
        names.append(name)
    return names


def newer_names(genes: Iterable[str], have: Iterable[str], hgnc: Path) -> dict[str, str]:
    """Find the names that genes of signatures have in expression that was named later.

    Parameters
    ----------
    genes
        Names in the signatures.
    have
        Names in the expression.
    hgnc
        Table of HGNC: approved, previous and alias symbols.

    Returns
    -------
    dict
        Name in the expression -> name in the signatures: of a gene that the expression does not have, the one approved
        symbol (by previous symbols, else by aliases) that it has.
    """
    table = read_tsv(hgnc, ("Approved symbol", "Previous symbols", "Alias symbols"), dtype=str).fillna("")
    lacking, free = set(genes) - set(have), set(have) - set(genes)
    table = table[table["Approved symbol"].isin(free)]
    renamed: dict[str, str] = {}
    for column in ("Previous symbols", "Alias symbols"):
        names = table.assign(old=table[column].str.split(", ")).explode("old")
        names = names[names["old"].isin(lacking)]
        names = names[~names["old"].duplicated(keep=False) & ~names["Approved symbol"].duplicated(keep=False)]
        for new, old in zip(names["Approved symbol"], names["old"], strict=True):
            if new not in renamed and old not in renamed.values():
                renamed[new] = old
    return renamed
