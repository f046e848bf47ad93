"""The prepared data set of a network: what its folder holds, written and checked in one place.

::

    expression.h5ad          some cells, all genes: what embedding models see
    cells.h5ad               all cells, all genes; only where those are not all
    network_expression.npz   all cells, the judged genes, csr float32: what predictors see
    genes.tsv                gene: the judged genes, sorted; the columns of network_expression.npz
    edges.tsv                Gene1 (regulator), Gene2 (target): the truth
    species.txt              human or mouse
    go_terms.npz             judged genes x terms, csr float32; only where annotations are given
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast, get_args

import anndata
import numpy as np
import pandas as pd
from scipy import sparse

from sclong.benchmark.annotations import AnnotatedGenes
from sclong.errors import InputDataError
from sclong.io.files import write_text
from sclong.io.tables import read_tsv, write_tsv
from sclong.seeding import rng
from sclong.tasks.grn_inference.metrics import EdgeList, clean_edges
from sclong.tasks.grn_inference.networks import Species

SCENARIO = "all_genes"


@dataclass(frozen=True, kw_only=True)
class NetworkContext(AnnotatedGenes):
    """What every model of gene regulatory networks may use.

    Samples are regulators, outputs are the judged genes (``annotated_genes``, in this order), and targets say which of
    them a regulator has an edge to (0 or 1).

    Attributes
    ----------
    expression : (cells, genes) csr float32
        log1p(CP10k) where the card says counts, else as published; columns as the outputs.
    species
        Whose genes they are: human or mouse.

    Raises
    ------
    InputDataError
        Expression of another number of genes, or a species of another name.
    """

    expression: sparse.csr_matrix
    species: Species

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.expression.shape[1] != len(self.annotated_genes) or self.species not in get_args(Species):
            raise InputDataError(
                f"expression of {self.expression.shape[1]} genes for {len(self.annotated_genes)} genes of a "
                f"{self.species}",
                f"one column of expression for each gene of a {' or '.join(get_args(Species))}",
                "prepare the data set again",
            )


def write_cells(
    folder: Path, values: sparse.csr_matrix, cells: np.ndarray, genes: np.ndarray, value_kind: str, shown: int
) -> None:
    """Write the cells that embedding models see and, where these are not all, all: none of them is pretrained on.

    Parameters
    ----------
    folder
        Existing folder.
    values : (cells, genes) csr
        Expression of all genes.
    cells, genes : (n,) str
        Names of rows and columns.
    value_kind
        What the values are ("counts", "log1p_cp10k" or "nonnegative").
    shown
        At most so many cells are shown to embedding models; they are drawn once.
    """
    adata = anndata.AnnData(values.astype(np.float32), obs=pd.DataFrame(index=cells), var=pd.DataFrame(index=genes))
    adata.uns["value_kind"] = value_kind
    size = min(shown, len(cells))
    drawn = np.sort(rng("grn_inference", "cells to embed").choice(len(cells), size=size, replace=False))
    adata[drawn].write_h5ad(folder / "expression.h5ad")
    if size < len(cells):
        adata.write_h5ad(folder / "cells.h5ad")


def write_network(
    folder: Path, values: sparse.csr_matrix, genes: Sequence[str], edges: EdgeList, species: Species
) -> None:
    """Write the judged genes, their expression and the truth.

    Parameters
    ----------
    folder
        Existing folder.
    values : (cells, genes) csr
        Expression of the judged genes.
    genes
        The judged genes.
    edges
        Edges among them.
    species
        Whose genes they are.
    """
    sparse.save_npz(folder / "network_expression.npz", values.astype(np.float32))
    write_tsv(pd.DataFrame({"gene": genes}), folder / "genes.tsv")
    write_tsv(pd.DataFrame({"Gene1": edges.regulators, "Gene2": edges.targets}), folder / "edges.tsv")
    write_text(folder / "species.txt", f"{species}\n")


def read_genes(folder: Path) -> list[str]:
    """Return the judged genes."""
    genes: list[str] = read_tsv(folder / "genes.tsv", ["gene"], dtype=str, na_values=[])["gene"].tolist()
    return genes


def read_edges(folder: Path) -> EdgeList:
    """Return the truth."""
    table = read_tsv(folder / "edges.tsv", ["Gene1", "Gene2"], dtype=str, na_values=[])
    return clean_edges(table["Gene1"], table["Gene2"], read_genes(folder))


def read_context(folder: Path) -> NetworkContext:
    """Read expression, species and annotations (see :class:`NetworkContext`)."""
    path = folder / "go_terms.npz"
    return NetworkContext(
        annotated_genes=read_genes(folder),
        go_terms=sparse.csr_matrix(sparse.load_npz(path)) if path.is_file() else None,
        expression=sparse.csr_matrix(sparse.load_npz(folder / "network_expression.npz")),
        species=cast(Species, (folder / "species.txt").read_text(encoding="utf-8").strip()),
    )
