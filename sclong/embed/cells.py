"""The cells of an AnnData or of an h5ad file, a block at a time, with their genes found in a vocabulary."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from scipy import sparse

from sclong.cells.normalize import check_counts, to_model_values
from sclong.cells.reader import Reader
from sclong.cells.species import require_human_counts
from sclong.errors import InputDataError, listing
from sclong.genes.align import Alignment, align_genes
from sclong.genes.vocabulary import Vocabulary
from sclong.runlog import LOGGER

Empty = Literal["refuse", "nan"]


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
    foreign : (columns,) bool
        Genes of another species; None: not looked at.
    where
        The file, for messages.
    """

    n_cells: int
    alignment: Alignment
    value_kind: str
    blocks: Callable[[int], Iterator[sparse.csr_matrix]]
    names: Callable[[slice | np.ndarray], list[str]]
    foreign: np.ndarray | None = None
    where: str = "adata"


@dataclass(frozen=True)
class Survey:
    """What a pass over all cells found.

    Attributes
    ----------
    detected : (cells,) int64
        Genes of the vocabulary that each cell has.
    empty : (empty cells,) int64
        Cells that have none.
    """

    detected: np.ndarray
    empty: np.ndarray


def cells_of(reader: Reader, vocabulary: Vocabulary) -> Cells:
    """Return the cells of a reader, aligned to a vocabulary; says in a line what is read.

    Raises
    ------
    InputDataError
        Gene names that cannot be aligned; a file that says that its cells are of another species.
    """
    alignment = align_genes(reader.genes, vocabulary, extra=reader.var)
    LOGGER.info("%s: %s", reader.where, reader.describe(alignment.report))
    reader.require_human()
    return Cells(
        reader.n_cells, alignment, reader.value_kind, reader.blocks, reader.cell_names, reader.foreign, reader.where
    )


def output_positions(reader: Reader, vocabulary: Vocabulary) -> np.ndarray:
    """Return where the genes of the file's ``var`` are in the vocabulary, (genes,) int64; -1: unknown, or no gene."""
    positions = np.full(len(reader.output_genes), -1, dtype=np.int64)
    kept = np.flatnonzero(reader.output_kept)
    names = [reader.output_genes[i] for i in kept]
    positions[kept] = align_genes(names, vocabulary, extra=reader.output_var.iloc[kept]).positions
    return positions


def check_cells(cells: Cells, normalization: str = "log1p_cp10k", empty: Empty = "refuse") -> Survey:
    """Check, before hours are spent, that values are of their kind and that every cell has a gene of the vocabulary.

    Parameters
    ----------
    cells
        What shall be embedded.
    normalization
        Of the model which shall read them.
    empty
        What becomes of cells with none of the vocabulary's genes: "refuse", or "nan": their vectors are NaN.

    Raises
    ------
    InputDataError
        Values that are not of their kind; cells of another species; names the cells that have no gene.
    """
    if empty not in get_args(Empty):
        raise InputDataError(f"empty {empty!r}", "refuse or nan", "correct it")
    known = np.flatnonzero(cells.alignment.positions >= 0)
    start, without, detected = 0, [], []
    for block in cells.blocks(1):
        if cells.foreign is not None and cells.value_kind == "counts":
            require_human_counts(block, cells.foreign, cells.where, start)
        if cells.value_kind == "counts":
            check_counts(block, f"{cells.where}: expression")
        values = to_model_values(block[:, known], cells.value_kind, normalization)
        detected.append(np.asarray((values != 0).sum(axis=1)).ravel())
        without.append(start + np.flatnonzero(detected[-1] == 0))
        start += block.shape[0]
    rows = np.concatenate(without)
    if len(rows) == cells.n_cells or (len(rows) and empty == "refuse"):
        raise InputDataError(
            f"{len(rows)} of {cells.n_cells} cells have none of the vocabulary's genes: "
            f"{listing(cells.names(rows[:1000]))}",
            "cells with at least one detected gene",
            "use another file"
            if len(rows) == cells.n_cells
            else 'let their vectors be NaN (--empty nan; in Python empty="nan"), or remove those cells and no other: '
            "adata = adata[~adata.obs_names.isin([...])], or all without counts: scanpy.pp.filter_cells(adata, "
            "min_counts=1)",
        )
    if len(rows):
        LOGGER.warning("%s: %d cells have no gene of the vocabulary; their vectors are NaN", cells.where, len(rows))
    return Survey(np.concatenate(detected), rows)


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
