"""One data set of the corpus, piece by piece: its cells as counts, who they are, and which of them are wanted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import sparse

from sclong.cells.files import open_cells
from sclong.cells.normalize import check_counts
from sclong.cells.species import foreign_genes, require_human, require_human_counts
from sclong.cells.stream import CellStream
from sclong.config.sections import CorpusSource
from sclong.corpus.condition import evaluate
from sclong.errors import InputDataError, listing, nearest
from sclong.genes.align import align_genes, harmonize
from sclong.genes.vocabulary import COLUMNS, Vocabulary, gene_table
from sclong.io.files import write_json
from sclong.io.tables import write_tsv
from sclong.runlog import LOGGER

COLUMN_KEYS = ("donor_column", "cell_type_column", "tissue_column", "assay_column", "doublet_column")
DOUBLET = {"true", "1", "1.0", "yes", "doublet"}


@dataclass(frozen=True)
class DataSet:
    """A data set that can be opened.

    Attributes
    ----------
    name
        Stands in the manifest.
    source
        Entry of the corpus: which columns hold what, which cells are wanted.
    open
        Opens it.
    where
        How it is called in messages.
    collection
        The study that names the donors: equal names in two data sets of one study are one person.
    """

    name: str
    source: CorpusSource
    open: Callable[[], CellStream]
    where: str
    collection: str


def file_dataset(path: str | Path, source: CorpusSource) -> DataSet:
    """Return the data set of a file, to be read as its entry in the preset says."""
    return DataSet(
        source.name,
        source,
        lambda: open_cells(
            path,
            source.format,
            member=source.member,
            transpose=source.transpose,
            layer=source.layer,
            gene_column=source.gene_column,
            round=source.round,
        ),
        str(path),
        source.collection or source.name,
    )


@dataclass(frozen=True)
class Piece:
    """Some cells of a data set, in order.

    Attributes
    ----------
    counts : (cells, names of the stream) CSR float32
        Raw counts.
    labels : DataFrame
        Columns source, dataset, donor (the person: collection and name in it), tissue, assay, cell_type (text), row
        (number of the cell in its data set).
    wanted, doublet : (cells,) bool
        By ``keep_cells``; by ``doublet_column``.
    """

    counts: sparse.csr_matrix
    labels: pd.DataFrame
    wanted: np.ndarray
    doublet: np.ndarray


def read_pieces(dataset: DataSet, stream: CellStream, start: int = 0) -> Iterator[Piece]:
    """Give the cells of a data set from row `start` on, checked.

    Raises
    ------
    InputDataError
        No counts; cells of another species; a column of obs that is not there; ``keep_cells`` that cannot be evaluated.
    """
    source, row, foreign = dataset.source, start, foreign_genes(stream.genes)
    for counts, obs in stream.pieces(start):
        for key in COLUMN_KEYS:
            _require_column(getattr(source, key), key, obs, dataset)
        wanted = np.ones(len(obs), dtype=bool)
        if source.keep_cells is not None:
            wanted = evaluate(source.keep_cells, obs, f"keep_cells of corpus source {source.name!r}")
        require_human(obs[wanted], dataset.where)
        require_human_counts(counts[wanted], foreign, dataset.where, row)
        check_counts(counts, f"{dataset.where} ({stream.counts_from})")
        labels = pd.DataFrame(
            {
                "source": source.name,
                "dataset": dataset.name,
                "donor": [f"{dataset.collection}:{donor}" for donor in _labels(obs, source.donor_column, "all")],
                "tissue": _labels(obs, source.tissue_column, source.tissue),
                "assay": _labels(obs, source.assay_column, source.assay),
                "cell_type": _labels(obs, source.cell_type_column, ""),
                "row": np.arange(row, row + len(obs), dtype=np.int64),
            }
        )
        row += len(obs)
        flags = _labels(obs, source.doublet_column, "")
        yield Piece(counts, labels, wanted, np.array([flag.strip().lower() in DOUBLET for flag in flags], dtype=bool))


def _require_column(column: str | None, key: str, obs: pd.DataFrame, dataset: DataSet) -> None:
    if column is not None and column not in obs:
        like = nearest(column, map(str, obs.columns))
        raise InputDataError(
            f"{dataset.where}: obs has no column {column!r}; it has {listing(obs.columns, 10)}",
            f"the column that {key} of corpus source {dataset.source.name!r} names",
            f"write {key}: {like[0]}" if like else f"correct {key}, or leave it out",
        )


def _labels(obs: pd.DataFrame, column: str | None, otherwise: str) -> list[str]:
    """Return a column of obs as text, missing values as "unknown"; without a column, `otherwise` for each cell."""
    if column is None:
        return [otherwise] * len(obs)
    values = obs[column]
    return values.astype(str).where(values.notna(), "unknown").tolist()


def require_wanted(dataset: DataSet, n_cells: int, n_not_wanted: int) -> None:
    """Refuse a condition that keeps no cell.

    Raises
    ------
    InputDataError
    """
    if dataset.source.keep_cells is not None and n_cells == n_not_wanted:
        raise InputDataError(
            f"keep_cells of corpus source {dataset.source.name!r}: {dataset.source.keep_cells!r} keeps none of "
            f"{n_cells} cells",
            "a condition that keeps cells",
            "correct keep_cells",
        )


def every_gene(annotation: str | Path, symbols: str | Path | None) -> Vocabulary:
    """Return all annotated genes in the shape of a vocabulary, to align names to before there is one."""
    table = gene_table(annotation, symbols)
    table.insert(0, "index", np.arange(len(table)))
    return Vocabulary(table[list(COLUMNS)], {})


def scan_source(
    path: str | Path, source: CorpusSource, annotation: str | Path, symbols: str | Path | None, out: str | Path
) -> None:
    """Write how many wanted cells of a source detect each annotated gene: columns ensembl_id, cells.

    What the names are, counted by rule over all annotated genes, is written beside it, with the suffix ``.json``.
    """
    dataset = file_dataset(path, source)
    stream, genes = dataset.open(), every_gene(annotation, symbols)
    alignment = align_genes(stream.genes, genes, extra=stream.var)
    cells, n_wanted = np.zeros(len(genes), dtype=np.int64), 0
    for piece in read_pieces(dataset, stream):
        detected = harmonize(piece.counts[piece.wanted], alignment, len(genes))
        cells += np.bincount(detected.indices, minlength=len(genes))
        n_wanted += int(piece.wanted.sum())
    require_wanted(dataset, stream.n_cells, stream.n_cells - n_wanted)
    table = pd.DataFrame({"ensembl_id": genes.ensembl_ids, "cells": cells})
    facts = {"source": source.name, "cells": n_wanted, **alignment.report}
    facts["share_of_genes"] = facts.pop("share_of_vocabulary")
    facts["genes"] = facts.pop("genes_of_vocabulary")
    write_json(Path(out).with_suffix(".json"), facts)
    write_tsv(table[table["cells"] > 0], out)
    LOGGER.info("%s: %d cells, %d of %d names known", source.name, n_wanted, facts["mapped"], facts["names"])
