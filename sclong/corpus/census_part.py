"""Parts of the corpus that come from the CELLxGENE Census: some of its data sets, one after the other."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pandas as pd

from sclong.config.sections import CellFilters, CensusConfig, CorpusSource
from sclong.corpus.census import detection, divide, list_datasets, open_census, stream_dataset
from sclong.corpus.part import write_part
from sclong.corpus.source import DataSet
from sclong.errors import InputDataError, listing
from sclong.genes.vocabulary import Vocabulary
from sclong.io.tables import read_tsv, write_tsv

SOURCE = CorpusSource(
    name="census",
    input="census",
    donor_column="donor_id",
    tissue_column="tissue_general",
    assay_column="assay",
    cell_type_column="cell_type",
)


def write_census_list(config: CensusConfig, datasets: str | Path, detected: str | Path) -> None:
    """Write the data sets of the Census with the part each belongs to, and how many of them detect each gene.

    Parameters
    ----------
    config
        Which release, which cells, how many parts.
    datasets, detected
        Tab-separated tables to write; `detected` has the columns ensembl_id, datasets, cells.
    """
    with open_census(config) as census:
        table = list_datasets(census, config)
        part_of = {name: number for number, names in enumerate(divide(table, config.parts)) for name in names}
        write_tsv(table.assign(part=table["dataset_id"].map(part_of)), datasets)
        write_tsv(detection(census, config, table), detected)


def write_census_part(
    datasets: str | Path,
    part: int,
    out: str | Path,
    work_dir: str | Path,
    vocabulary: Vocabulary,
    filters: CellFilters,
    config: CensusConfig,
    *,
    code: str,
) -> None:
    """Write the cells of one part of the Census as shards; killed, it goes on where it was.

    Parameters
    ----------
    datasets
        Table that :func:`write_census_list` wrote.
    part
        Number of the part, from 0.
    out, work_dir, vocabulary, filters
        As :func:`~sclong.corpus.part.write_part`.
    config
        Which release, which cells.
    code
        Hash of the meaning of the code: a part that other code began is begun anew.
    """
    table = read_tsv(datasets, ["dataset_id", "collection_id", "part"], dtype={"dataset_id": str, "part": int})
    collections = collections_of(table[table["part"] == part])
    with open_census(config) as census:
        sets = [
            DataSet(name, SOURCE, partial(stream_dataset, census, name, config), f"Census data set {name}", collection)
            for name, collection in collections.items()
        ]
        release = config.model_dump(exclude={"uri", "tiledb", "parts", "piece_cells"})
        identity = {"census": release, "datasets": list(collections.items()), "code": code}
        write_part(sets, out, work_dir, vocabulary, filters, identity, may_be_empty=True)


def collections_of(datasets: pd.DataFrame) -> dict[str, str]:
    """Return data set -> the collection that names its donors, from a table that :func:`write_census_list` wrote.

    A donor_id of the Census is a name inside a collection, whose data sets often share donors.

    Raises
    ------
    InputDataError
        A data set is in no collection.
    """
    collection = datasets["collection_id"].fillna("").astype(str)
    if (collection == "").any():
        raise InputDataError(
            f"data sets without a collection_id: {listing(datasets.loc[collection == '', 'dataset_id'], 3)}",
            "the collection of each, as its donor_id is a name inside it: without it a person may be in training and "
            "in validation",
            "choose a release of the Census whose census_info/datasets has collection_id, or list the data sets anew: "
            "set results/corpus/census_datasets.tsv aside (mv)",
        )
    return dict(zip(datasets["dataset_id"], collection, strict=True))
