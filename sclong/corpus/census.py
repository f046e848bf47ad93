"""Stream human cells of the CELLxGENE Census, data set by data set, in bounded memory.

The Census is a SOMA: ``census_info`` (summary, datasets) and ``census_data/homo_sapiens`` with the cells (obs), the
genes (var), the counts (X/raw) and which data set detects which gene (feature_dataset_presence_matrix). Nothing here
holds more than one column of one data set's cells, or one piece of its counts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy import sparse

from sclong.cells.normalize import check_counts
from sclong.cells.stream import CellStream
from sclong.config.sections import CensusConfig
from sclong.corpus.census_access import COUNTS_FROM, ORGANISM, first_line, human, open_census, reading, soma_errors
from sclong.errors import ConfigError, InputDataError, listing, nearest
from sclong.genes.align import ENSEMBL

if TYPE_CHECKING:
    import pyarrow
    import tiledbsoma

__all__ = ["detection", "divide", "list_datasets", "open_census", "stream_dataset"]

ABOUT = ("collection_id", "collection_name", "dataset_title", "collection_doi", "citation")
OBS = (
    "soma_joinid",
    "observation_joinid",
    "dataset_id",
    "donor_id",
    "tissue_general",
    "tissue",
    "assay",
    "cell_type",
    "suspension_type",
    "disease",
    "sex",
    "development_stage",
)


def list_datasets(census: tiledbsoma.Collection, config: CensusConfig) -> pd.DataFrame:
    """Count the human cells of each data set that pass the filter and are of the wanted tissues.

    One pass over one or two columns of obs, a buffer at a time.

    Parameters
    ----------
    census
        Of :func:`open_census`.
    config
        Filter and tissues.

    Returns
    -------
    DataFrame
        One row per data set with such cells, sorted by id: dataset_id, cells (int64), collection_id, collection_name,
        dataset_title, collection_doi, citation (empty where the release has no such column).

    Raises
    ------
    ConfigError
        A filter that SOMA refuses, or a tissue that no cell has (names the nearest).
    InputDataError
        No cell passes.
    FetchError
        The Census cannot be read.
    """
    import pyarrow

    obs = human(census).obs
    _check_filter(obs, config)
    columns = ["dataset_id"] + (["tissue_general"] if config.tissues else [])
    cells: Counter[tuple[str, ...]] = Counter()
    with reading("the cells of the Census"):
        for batch in obs.read(column_names=columns, value_filter=f"({config.value_filter})"):
            table = pyarrow.table({name: _text(batch[name]) for name in columns})
            counted = table.group_by(columns, use_threads=False).aggregate([([], "count_all")]).to_pandas()
            for *key, count in counted[[*columns, "count_all"]].itertuples(index=False):
                cells[tuple(key)] += count
    if config.tissues:
        _check_tissues(config.tissues, {key[1] for key in cells})
    wanted: Counter[str] = Counter()
    for key, count in cells.items():
        if config.tissues is None or key[1] in config.tissues:
            wanted[key[0]] += count
    if not wanted:
        raise InputDataError(
            f"no human cell of the Census passes {config.value_filter!r}",
            "a filter that keeps cells",
            "correct corpus.census.value_filter",
        )
    table = pd.DataFrame({"dataset_id": sorted(wanted)})
    table["cells"] = table["dataset_id"].map(wanted).astype(np.int64)
    about = _datasets(census).reindex(index=table["dataset_id"], columns=list(ABOUT)).fillna("")
    return table.join(about.astype(str).reset_index(drop=True))


def divide(datasets: pd.DataFrame, parts: int) -> list[list[str]]:
    """Divide data sets into parts of about as many cells: the largest first, each to the part with the fewest cells.

    Parameters
    ----------
    datasets
        Columns dataset_id, cells, as of :func:`list_datasets`. The order of rows does not matter.
    parts
        Number of parts; if there are fewer data sets, some stay empty.

    Returns
    -------
    list of list of str
        Ids of each part, sorted.

    Examples
    --------
    >>> table = pd.DataFrame({"dataset_id": ["a", "b", "c"], "cells": [10, 30, 15]})
    >>> divide(table, 2)
    [['b'], ['a', 'c']]
    """
    out: list[list[str]] = [[] for _ in range(parts)]
    load = np.zeros(parts, dtype=np.int64)
    ordered = datasets.sort_values(["cells", "dataset_id"], ascending=[False, True])
    for dataset_id, cells in zip(ordered["dataset_id"], ordered["cells"], strict=True):
        part = int(load.argmin())
        out[part].append(dataset_id)
        load[part] += cells
    return [sorted(ids) for ids in out]


def detection(
    census: tiledbsoma.Collection, config: CensusConfig, datasets: pd.DataFrame | None = None
) -> pd.DataFrame:
    """Say in how many data sets and cells each gene is detected, without reading expression.

    Parameters
    ----------
    census
        Of :func:`open_census`.
    config
        Filter and tissues, which choose the data sets.
    datasets
        What :func:`list_datasets` gave, to spare a second pass over the cells.

    Returns
    -------
    DataFrame
        ensembl_id (no version), datasets (int64: how many of the listed data sets detect the gene in any of their
        cells), cells (int64: cells of the whole release that detect it, of every data set and tissue, primary or not).
        Genes that no listed data set detects are left out.

    Raises
    ------
    InputDataError
        Ids that are not human Ensembl ids, or a release older than schema 1.1.0, which does not count cells.
    ConfigError, FetchError
        As :func:`list_datasets`.
    """
    if datasets is None:
        datasets = list_datasets(census, config)
    rna = human(census).ms["RNA"]
    var = _genes(rna)
    if "nnz" not in var:
        raise InputDataError(
            f"var of the Census has no column nnz; it has {listing(var.columns, 10)}",
            "a release of schema 1.1.0 or newer",
            "choose a later corpus.census.version",
        )
    joinids = np.sort(_datasets(census).loc[datasets["dataset_id"], "soma_joinid"].to_numpy(dtype=np.int64))
    positions = _positions(var)
    found = np.zeros(len(var), dtype=np.int64)
    with reading("the presence matrix of the Census"):
        presence: Any = rna["feature_dataset_presence_matrix"]
        for table in presence.read((joinids, slice(None))).tables():
            present = table["soma_data"].to_numpy() > 0
            found += np.bincount(positions[table["soma_dim_1"].to_numpy()[present]], minlength=len(var))
    table = pd.DataFrame({"ensembl_id": var["ensembl_id"], "datasets": found, "cells": var["nnz"].astype(np.int64)})
    table = table[(found > 0) & table["ensembl_id"].notna()]
    return table.groupby("ensembl_id", sort=False).max().reset_index()


def stream_dataset(census: tiledbsoma.Collection, dataset_id: str, config: CensusConfig) -> CellStream:
    """Return the cells of one data set as a stream, in the order of their soma_joinid.

    Parameters
    ----------
    census
        Of :func:`open_census`; must stay open while the stream is read.
    dataset_id
        As :func:`list_datasets` names it.
    config
        Filter, tissues, and ``piece_cells``.

    Returns
    -------
    CellStream
        ``genes``: feature_id; ``var``: feature_name; ``n_cells``: human cells that pass the filter and are of the
        wanted tissues. ``obs`` of a piece has the columns of `OBS` that the release has, labels as text. Of cells
        before `start` only the soma_joinid is read.

    Raises
    ------
    InputDataError
        An unknown data set (names the nearest), none of whose cells passes; ids of genes that are not human Ensembl
        ids. While pieces are read: values that are not counts.
    ConfigError
        A filter that SOMA refuses.
    FetchError
        The Census cannot be read.
    """
    experiment = human(census)
    obs, rna = experiment.obs, experiment.ms["RNA"]
    layer: Any = rna.X["raw"]
    _check_filter(obs, config)
    var = _genes(rna)
    what = f"data set {dataset_id} of the Census"
    tissues = f" and tissue_general in {config.tissues!r}" if config.tissues else ""
    value_filter = f"dataset_id == {dataset_id!r} and ({config.value_filter}){tissues}"
    with reading(what):
        batches = list(obs.read(column_names=["soma_joinid"], value_filter=value_filter))
        joinids = np.sort(np.concatenate([batch["soma_joinid"].to_numpy() for batch in batches]))
    if not len(joinids):
        raise _no_cells(census, dataset_id, config)
    columns = [name for name in OBS if name in obs.schema.names]
    positions = _positions(var)

    def piece(first: int) -> tuple[sparse.csr_matrix, pd.DataFrame]:
        mine = joinids[first : first + config.piece_cells]
        with reading(what):
            table = obs.read((mine,), column_names=columns).concat()
            counts = _read_counts(layer, mine, positions, len(var))
        _check_raw(counts, f"{what}, cells {first} to {first + len(mine) - 1}", dataset_id, config)
        labels = pd.DataFrame({name: _column(table[name]) for name in columns})
        return counts, labels.sort_values("soma_joinid", ignore_index=True)

    def pieces(start: int) -> Iterator[tuple[sparse.csr_matrix, pd.DataFrame]]:
        for first in range(start, len(joinids), config.piece_cells):
            yield piece(first)  # not kept here while the next is read

    return CellStream(var["feature_id"].tolist(), var[["feature_name"]], len(joinids), COUNTS_FROM, pieces)


def _read_counts(
    layer: tiledbsoma.SparseNDArray, joinids: np.ndarray, positions: np.ndarray, n_genes: int
) -> sparse.csr_matrix:
    """Return the counts of cells, (cells, genes) float32, in the order of `joinids` (ascending).

    Coordinates, which come as int64, are narrowed as they come: a piece takes 12 bytes per count, 20 while it is put
    into rows.
    """
    rows, columns, values = [], [], []
    for table in layer.read((joinids, slice(None))).tables():
        rows.append(np.searchsorted(joinids, table["soma_dim_0"].to_numpy()).astype(np.int32))
        columns.append(positions[table["soma_dim_1"].to_numpy()])
        values.append(table["soma_data"].to_numpy().astype(np.float32))
    joined = [np.concatenate(parts) for parts in _emptied(rows, columns, values)]
    counts = sparse.coo_matrix((joined[2], (joined[0], joined[1])), shape=(len(joinids), n_genes))
    del joined
    return counts.tocsr()


def _emptied(*lists: list[np.ndarray]) -> Iterator[list[np.ndarray]]:
    """Give the content of each list, which then no longer holds it."""
    for one in lists:
        yield list(one)
        one.clear()


def _check_raw(counts: sparse.csr_matrix, what: str, dataset_id: str, config: CensusConfig) -> None:
    try:
        check_counts(counts, what)
    except InputDataError as error:
        raise InputDataError(
            error.found,
            "raw integer counts in X/raw",
            f"leave the data set out: value_filter: \"{config.value_filter} and dataset_id != '{dataset_id}'\"",
        ) from None


def _datasets(census: tiledbsoma.Collection) -> pd.DataFrame:
    """Return the table of data sets of all organisms, by dataset_id."""
    with reading("the list of data sets of the Census"):
        return census["census_info"]["datasets"].read().concat().to_pandas().set_index("dataset_id")


def _genes(rna: tiledbsoma.Measurement) -> pd.DataFrame:
    """Return var in the order of soma_joinid, with ensembl_id: feature_id without version, missing if it is none."""
    names = [n for n in ("soma_joinid", "feature_id", "feature_name", "nnz") if n in rna.var.schema.names]
    with reading("the genes of the Census"):
        var = rna.var.read(column_names=names).concat().to_pandas().sort_values("soma_joinid", ignore_index=True)
    var["ensembl_id"] = var["feature_id"].str.extract(ENSEMBL)[0]
    known = var["ensembl_id"].notna()
    if known.mean() < 0.5:
        raise InputDataError(
            f"{int(known.sum())} of {len(var)} feature_id of the Census are human Ensembl ids; others are "
            f"{listing(var.loc[~known, 'feature_id'], 3)}",
            "ids such as ENSG00000139618",
            f"check that corpus.census.uri names a Census and that {ORGANISM} holds human genes",
        )
    return var


def _positions(var: pd.DataFrame) -> np.ndarray:
    """Return the column of each gene by its soma_joinid, int32."""
    joinids = var["soma_joinid"].to_numpy()
    out = np.zeros(joinids[-1] + 1, dtype=np.int32)
    out[joinids] = np.arange(len(joinids), dtype=np.int32)
    return out


def _text(values: pyarrow.ChunkedArray) -> pyarrow.ChunkedArray:
    """Return labels as text; since release 2024-04-01 the Census holds them as dictionaries."""
    import pyarrow

    return values.cast(pyarrow.large_string())


def _column(values: pyarrow.ChunkedArray) -> np.ndarray:
    import pyarrow.types

    return (values if pyarrow.types.is_integer(values.type) else _text(values)).to_pandas().to_numpy()


def _check_filter(obs: tiledbsoma.DataFrame, config: CensusConfig) -> None:
    try:
        obs.read((slice(0, 0),), column_names=["soma_joinid"], value_filter=f"({config.value_filter})")
    except soma_errors() as error:
        raise ConfigError(
            f"corpus.census.value_filter: SOMA refuses {config.value_filter!r}: {first_line(error)}",
            f'a condition on columns of obs ({listing(obs.schema.names, 30)}), such as "is_primary_data == True"',
            "correct corpus.census.value_filter",
        ) from error


def _check_tissues(tissues: list[str], there: set[str]) -> None:
    absent = [tissue for tissue in tissues if tissue not in there]
    if absent:
        like = [name for tissue in absent for name in nearest(tissue, there, 3)]
        raise ConfigError(
            f"corpus.census.tissues: no cell that passes has tissue_general {listing(absent)}",
            f"some of {listing(sorted(there), 100)}",
            f"did you mean {listing(like)}?" if like else "correct corpus.census.tissues, or leave it out to read all",
        )


def _no_cells(census: tiledbsoma.Collection, dataset_id: str, config: CensusConfig) -> InputDataError:
    known = _datasets(census).index
    if dataset_id in known:
        only = f" with tissue_general in {config.tissues}" if config.tissues else ""
        return InputDataError(
            f"no human cell of data set {dataset_id!r}{only} passes {config.value_filter!r}",
            "a data set that the list of data sets names",
            "leave it out, or correct value_filter and tissues of corpus.census",
        )
    like = nearest(dataset_id, known)
    return InputDataError(
        f"the Census has no data set {dataset_id!r}",
        f"one of {len(known)} ids, such as {listing(known, 2)}",
        f"did you mean {like[0]!r}?" if like else "correct the id, or choose another corpus.census.version",
    )
