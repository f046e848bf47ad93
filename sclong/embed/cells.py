"""The cells of an AnnData or of an h5ad file, a block at a time, with their genes found in a vocabulary."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse

from sclong.cells.h5ad_stream import BLOCK_ENTRIES, at_least_one
from sclong.cells.normalize import to_model_values
from sclong.errors import InputDataError, listing, nearest
from sclong.genes.align import Alignment, align_genes
from sclong.genes.vocabulary import Vocabulary

if TYPE_CHECKING:
    import anndata


@dataclass(frozen=True)
class Cells:
    """What is embedded, wherever it is.

    Attributes
    ----------
    n_cells
        Number of cells.
    alignment
        Of the columns of the matrix to the vocabulary.
    value_kind
        What the values are: counts, log1p_cp10k or nonnegative.
    blocks
        Gives the cells in order as CSR blocks of a multiple of so many cells.
    names
        Returns the names of cells by their (ascending) indices.
    """

    n_cells: int
    alignment: Alignment
    value_kind: str
    blocks: Callable[[int], Iterator[sparse.csr_matrix]]
    names: Callable[[np.ndarray], list[str]]


def cells_of(adata: anndata.AnnData, vocabulary: Vocabulary, layer: str | None) -> Cells:
    """Return the cells of an AnnData, which may be backed."""
    if layer == "raw" and adata.raw is not None:
        matrix, names, var = adata.raw.X, adata.raw.var_names, adata.raw.var
    elif layer is None or layer == "X" or layer in adata.layers:
        matrix, names, var = adata.layers.get(layer, adata.X), adata.var_names, adata.var
    else:
        like = nearest(layer, adata.layers)
        raise InputDataError(
            f"no layer {layer!r}; there is {listing(['X', *adata.layers])}",
            "X, raw or the name of a layer",
            f"use layer={like[0]!r}" if like else "leave layer out to use X",
        )
    if sparse.issparse(matrix):
        matrix = matrix.tocsr()

    def blocks(multiple: int) -> Iterator[sparse.csr_matrix]:
        step = at_least_one(BLOCK_ENTRIES // max(len(names), 1), multiple)
        for start in range(0, adata.n_obs, step):
            yield sparse.csr_matrix(matrix[start : start + step])

    alignment = align_genes(list(names), vocabulary, extra=var)
    value_kind = str(adata.uns.get("value_kind", "counts"))
    return Cells(adata.n_obs, alignment, value_kind, blocks, lambda rows: list(adata.obs_names[rows]))


def check_cells(cells: Cells, normalization: str = "log1p_cp10k") -> None:
    """Check, before hours are spent, that values are of their kind and that every cell has a gene of the vocabulary.

    `normalization` is that of the model which shall read them.

    Raises
    ------
    InputDataError
        Values that are not of their kind; names the cells that have no gene.
    """
    known = np.flatnonzero(cells.alignment.positions >= 0)
    start, empty = 0, []
    for block in cells.blocks(1):
        values = to_model_values(block[:, known], cells.value_kind, normalization)
        detected = np.asarray((values != 0).sum(axis=1)).ravel()
        empty.append(start + np.flatnonzero(detected == 0))
        start += block.shape[0]
    rows = np.concatenate(empty)
    if len(rows):
        raise InputDataError(
            f"{len(rows)} of {cells.n_cells} cells have none of the vocabulary's genes: "
            f"{listing(cells.names(rows[:1000]))}",
            "cells with at least one detected gene",
            "remove them, for instance with scanpy.pp.filter_cells(adata, min_genes=200)",
        )


def genes_listed(path: Path, vocabulary: Vocabulary) -> np.ndarray:
    """Return the positions of the genes that a text file names, a name per line, in its order.

    Raises
    ------
    InputDataError
        No such file, no name in it, or names that the vocabulary lacks.
    """
    if not path.is_file():
        raise InputDataError(f"{path}: no such file", "a text file with a gene name per line", "check the path")
    names = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    positions = align_genes(names, vocabulary).positions
    if (positions < 0).any():
        unknown = [name for name, position in zip(names, positions, strict=True) if position < 0]
        raise InputDataError(
            f"{path}: {len(unknown)} genes that the vocabulary lacks: {listing(unknown)}",
            "genes of the checkpoint's vocabulary.tsv",
            "remove them from the list",
        )
    return positions[np.sort(np.unique(positions, return_index=True)[1])]


def gene_labels(vocabulary: Vocabulary, positions: np.ndarray) -> dict[str, list[str]]:
    """Return what names the genes of a store: Ensembl ids and symbols."""
    table = vocabulary.table.iloc[positions]
    return {"gene": table["ensembl_id"].tolist(), "symbol": table["symbol"].astype(str).tolist()}
