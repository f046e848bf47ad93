"""The Census, read by its own packages from a SOMA on the local disk that is laid out like it.

The cells are simulated, and once more real ones of the mirror, where there is one.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
import pytest
from census_store import (
    RELEASE,
    TEXT,
    CensusDataset,
    real_datasets,
    simulated_datasets,
    write_census,
)
from scipy import sparse

from sclong.config.sections import CellFilters, CensusConfig
from sclong.corpus import census as census_module
from sclong.corpus.assemble import build_corpus
from sclong.corpus.census import detection, divide, list_datasets, open_census, stream_dataset
from sclong.corpus.census_part import collections_of, write_census_list, write_census_part
from sclong.corpus.shards import ShardStore
from sclong.errors import ConfigError, FetchError, InputDataError, SclongError
from sclong.genes.vocabulary import Vocabulary
from sclong.train.dataset import PretrainingCells

ALL_CELLS = "is_primary_data == True or is_primary_data == False"


@dataclass(frozen=True)
class Store:
    """A Census on disk and what it was written from."""

    folder: Path
    datasets: list[CensusDataset]

    @property
    def human(self) -> list[CensusDataset]:
        return [d for d in self.datasets if d.organism == "homo_sapiens"]

    def config(self, **keys: Any) -> CensusConfig:
        return CensusConfig(uri=str(self.folder), **{"piece_cells": 17, **keys})

    def first_joinid(self, dataset: CensusDataset) -> int:
        before = self.human[: [d.dataset_id for d in self.human].index(dataset.dataset_id)]
        return sum(d.cells.n_obs for d in before)


def packages() -> None:
    why = "reads a Census: pip install -c envs/constraints.txt -e '.[census]'"
    pytest.importorskip("cellxgene_census", reason=why)
    pytest.importorskip("tiledbsoma", reason=why)


@pytest.fixture(scope="module", params=["simulated", pytest.param("real", marks=pytest.mark.mirror)])
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Store:
    packages()
    real = request.param == "real"
    datasets = real_datasets(request.getfixturevalue("mirror")) if real else simulated_datasets()
    return Store(write_census(tmp_path_factory.mktemp("census") / "soma", datasets), datasets)


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Store:
    packages()
    datasets = simulated_datasets()
    return Store(write_census(tmp_path_factory.mktemp("census") / "soma", datasets), datasets)


def changed(tmp_path: Path, dataset: CensusDataset, values: np.ndarray) -> Store:
    """Return a Census of one data set whose last counts are other values."""
    packages()
    cells = dataset.cells.copy()
    cells.X.data[-len(values) :] = values
    one = CensusDataset(dataset.dataset_id, cells)
    return Store(write_census(tmp_path / "soma", [one]), [one])


def stacked(
    pieces: Iterator[tuple[sparse.csr_matrix, pd.DataFrame]], n_genes: int
) -> tuple[sparse.csr_matrix, pd.DataFrame, list[int]]:
    counts, obs = [sparse.csr_matrix((0, n_genes), dtype=np.float32)], [pd.DataFrame()]
    for c, o in pieces:
        assert c.shape == (len(o), n_genes)
        assert isinstance(c, sparse.csr_matrix)
        assert c.dtype == np.float32
        counts.append(c)
        obs.append(o)
    return sparse.vstack(counts, format="csr"), pd.concat(obs, ignore_index=True), [c.shape[0] for c in counts[1:]]


def primary(dataset: CensusDataset) -> anndata.AnnData:
    return dataset.cells[dataset.cells.obs["is_primary_data"].to_numpy(dtype=bool)]


def with_primary(store: Store) -> list[CensusDataset]:
    return [d for d in store.human if primary(d).n_obs]


def three_parts(error: SclongError, *words: str) -> bool:
    return all([error.found, error.expected, error.action, *(word in str(error) for word in words)])


# what is read


def test_the_list_counts_primary_human_cells(store: Store) -> None:
    with open_census(store.config()) as census:
        table = list_datasets(census, store.config())
        everything = list_datasets(census, store.config(value_filter=ALL_CELLS))
    expected = {d.dataset_id: primary(d).n_obs for d in with_primary(store)}
    assert dict(zip(table["dataset_id"], table["cells"], strict=True)) == expected
    assert table["dataset_id"].is_monotonic_increasing
    assert dict(zip(everything["dataset_id"], everything["cells"], strict=True)) == {
        d.dataset_id: d.cells.n_obs for d in store.human
    }
    first = table.iloc[0]
    assert first["collection_id"] == f"id-{first['dataset_id']}"
    assert first["dataset_title"] == f"cells of {first['dataset_id']}"
    assert first["collection_doi"] == f"10.0000/{first['dataset_id']}"
    assert set(table["citation"]) == {""}  # a column that this release does not have


def test_a_stream_gives_back_the_cells_that_were_written(store: Store) -> None:
    config = store.config()
    symbols = pd.concat([d.cells.var["feature_name"] for d in store.human])
    symbols = symbols[~symbols.index.duplicated()]  # of ids that two data sets name differently, the first
    with open_census(config) as census:
        for dataset in with_primary(store):
            cells = primary(dataset)
            stream = stream_dataset(census, dataset.dataset_id, config)
            counts, obs, sizes = stacked(stream.pieces(0), len(stream.genes))
            assert stream.n_cells == cells.n_obs == len(obs)
            assert max(sizes) <= config.piece_cells
            assert stream.counts_from.endswith("X/raw")
            columns = pd.Index(stream.genes).get_indexer(cells.var_names)
            assert (counts[:, columns] != cells.X).nnz == 0
            assert counts.sum() == cells.X.sum()  # and nothing stands in columns of genes that it does not measure
            for name in TEXT:
                assert obs[name].tolist() == cells.obs[name].tolist(), name
            wanted = np.flatnonzero(dataset.cells.obs["is_primary_data"]) + store.first_joinid(dataset)
            assert obs["soma_joinid"].tolist() == wanted.tolist()
            assert set(obs["dataset_id"]) == {dataset.dataset_id}
            assert stream.genes == list(symbols.index)
            assert stream.var["feature_name"].tolist() == symbols.tolist()


def test_a_stream_goes_on_from_any_row(store: Store) -> None:
    config = store.config()
    with open_census(config) as census:
        stream = stream_dataset(census, with_primary(store)[-1].dataset_id, config)
        counts, obs, _ = stacked(stream.pieces(0), len(stream.genes))
        for start in (1, 16, 17, 18, 50, stream.n_cells - 1, stream.n_cells):
            tail, labels, sizes = stacked(stream.pieces(start), len(stream.genes))
            assert (tail != counts[start:]).nnz == 0
            if start < stream.n_cells:
                pd.testing.assert_frame_equal(labels, obs.iloc[start:].reset_index(drop=True))
            assert 0 not in sizes


def test_cells_before_the_start_are_not_read(simulated: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    read = census_module._read_counts

    def spy(layer: Any, joinids: np.ndarray, *rest: Any) -> sparse.csr_matrix:
        asked.extend(joinids)
        return read(layer, joinids, *rest)

    monkeypatch.setattr(census_module, "_read_counts", spy)
    with open_census(simulated.config()) as census:
        stream = stream_dataset(census, "bb-lung", simulated.config())
        rows = [k for _, obs in stream.pieces(70) for k in obs["soma_joinid"]]
    assert asked == rows
    assert len(rows) == stream.n_cells - 70


def test_cells_that_come_in_many_tables_are_the_same(simulated: Store) -> None:
    config = simulated.config(piece_cells=1000)
    small = simulated.config(piece_cells=1000, tiledb={"soma.init_buffer_bytes": "512"})
    with open_census(config) as census, open_census(small) as in_bits:
        layer = in_bits["census_data"]["homo_sapiens"].ms["RNA"].X["raw"]
        assert len(list(layer.read((slice(0, 99), slice(None))).tables())) > 10
        assert list_datasets(in_bits, small).equals(list_datasets(census, config))
        assert detection(in_bits, small).equals(detection(census, config))
        for name in ("cc-lung-and-heart", "aa-heart"):
            (whole, labels), (bits, same) = (next(stream_dataset(c, name, config).pieces(0)) for c in (census, in_bits))
            assert (whole != bits).nnz == 0
            pd.testing.assert_frame_equal(labels, same)


def test_tissues_choose_cells(simulated: Store) -> None:
    config = simulated.config(tissues=["heart"])
    with open_census(config) as census:
        table = list_datasets(census, config)
        assert table["dataset_id"].tolist() == ["aa-heart"]
        assert stream_dataset(census, "aa-heart", config).n_cells == table["cells"].item()
        with pytest.raises(InputDataError, match="no human cell of data set 'bb-lung'"):
            stream_dataset(census, "bb-lung", config)


def test_a_filter_with_or_does_not_let_other_data_sets_in(simulated: Store) -> None:
    config = simulated.config(value_filter=ALL_CELLS)
    with open_census(config) as census:
        assert list_datasets(census, config)["cells"].tolist() == [33, 140, 90]
        stream = stream_dataset(census, "aa-heart", config)
        assert stream.n_cells == 33
        assert {d for _, obs in stream.pieces(0) for d in obs["dataset_id"]} == {"aa-heart"}


def test_labels_may_be_dictionaries(simulated: Store, tmp_path: Path) -> None:
    """Releases since 2024-04-01 hold them so, and name each cell by an observation_joinid."""
    newer = Store(write_census(tmp_path / "soma", simulated.datasets, dictionary=True), simulated.datasets)
    for keys in ({}, {"tissues": ["lung"]}):
        with open_census(simulated.config()) as old, open_census(newer.config()) as new:
            config = newer.config(**keys)
            assert list_datasets(new, config).equals(list_datasets(old, config))
            assert detection(new, config).equals(detection(old, config))
            streams = [stream_dataset(census, "bb-lung", config) for census in (old, new)]
            (counts, obs, _), (same, labels, _) = (stacked(s.pieces(5), len(s.genes)) for s in streams)
        assert (counts != same).nnz == 0
        assert labels.pop("observation_joinid").tolist() == [f"joinid{k:05d}" for k in labels["soma_joinid"]]
        pd.testing.assert_frame_equal(labels, obs)


# genes


def test_detection_counts_data_sets_and_cells(store: Store) -> None:
    with open_census(store.config()) as census:
        table = detection(census, store.config()).set_index("ensembl_id")
    datasets: dict[str, int] = {}
    cells: dict[str, int] = {}
    listed = {d.dataset_id for d in with_primary(store)}
    for d in store.human:
        for gene, n in zip(d.cells.var_names, np.diff(d.cells.X.tocsc().indptr), strict=True):
            datasets[gene] = datasets.get(gene, 0) + (d.dataset_id in listed and n > 0)
            cells[gene] = cells.get(gene, 0) + n
    assert table["datasets"].to_dict() == {g: n for g, n in datasets.items() if n}
    assert table["cells"].to_dict() == {g: cells[g] for g in table.index}


def test_detection_counts_the_listed_data_sets_and_reads_no_expression(
    simulated: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    import tiledbsoma

    read = tiledbsoma.SparseNDArray.read
    opened: list[str] = []

    def spy(self: Any, *args: Any, **keys: Any) -> Any:
        opened.append(self.uri)
        return read(self, *args, **keys)

    monkeypatch.setattr(tiledbsoma.SparseNDArray, "read", spy)
    config = simulated.config(tissues=["heart"])
    with open_census(config) as census:
        table = detection(census, config)
        assert table.equals(detection(census, config, list_datasets(census, config)))
    heart = next(d for d in simulated.datasets if d.dataset_id == "aa-heart").cells
    seen = heart.var_names[np.diff(heart.X.tocsc().indptr) > 0]
    assert sorted(table["ensembl_id"]) == sorted(seen)
    assert set(table["datasets"]) == {1}
    assert opened
    assert not [uri for uri in opened if "X/raw" in uri]


def test_versions_of_gene_ids_do_not_count(tmp_path: Path) -> None:
    packages()
    dataset = simulated_datasets()[2]
    dataset.cells.var_names = [f"{name}.7" for name in dataset.cells.var_names[:-1]] + ["ERCC-00002"]
    one = Store(write_census(tmp_path / "soma", [dataset]), [dataset])
    with open_census(one.config()) as census:
        ids = detection(census, one.config())["ensembl_id"]
        assert stream_dataset(census, "aa-heart", one.config()).genes == list(dataset.cells.var_names)
    assert len(ids)
    assert ids.str.fullmatch(r"ENSG\d{11}").all()


# parts


def test_data_sets_are_divided_by_cells() -> None:
    random = np.random.default_rng(0)
    table = pd.DataFrame({"dataset_id": [f"d{k:03d}" for k in range(200)], "cells": random.integers(1, 9000, 200)})
    parts = divide(table, 7)
    assert sorted(i for ids in parts for i in ids) == table["dataset_id"].tolist()
    assert all(ids == sorted(ids) for ids in parts)
    cells = table.set_index("dataset_id")["cells"]
    loads = [cells[ids].sum() for ids in parts]
    assert max(loads) - min(loads) < 0.02 * max(loads)
    assert parts == divide(table.sample(frac=1, random_state=1), 7)


def test_equal_data_sets_are_divided_by_name_and_parts_may_stay_empty() -> None:
    table = pd.DataFrame({"dataset_id": ["b", "c", "a"], "cells": [5, 5, 5]})
    assert divide(table, 5) == [["a"], ["b"], ["c"], [], []]
    assert divide(table, 1) == [["a", "b", "c"]]
    assert divide(table.iloc[:0], 2) == [[], []]


# what is refused


def test_a_tissue_that_no_cell_has_names_the_nearest(simulated: Store) -> None:
    config = simulated.config(tissues=["lung", "hart"])
    with open_census(config) as census, pytest.raises(ConfigError) as caught:
        list_datasets(census, config)
    assert three_parts(caught.value, "'hart'", "did you mean 'heart'?", "'heart', 'lung'")


def test_an_unknown_data_set_names_the_nearest(simulated: Store) -> None:
    with open_census(simulated.config()) as census:
        with pytest.raises(InputDataError) as caught:
            stream_dataset(census, "bb-lun", simulated.config())
        assert three_parts(caught.value, "no data set 'bb-lun'", "did you mean 'bb-lung'?")
        with pytest.raises(InputDataError, match="no human cell of data set 'mouse-lung'"):
            stream_dataset(census, "mouse-lung", simulated.config())


def test_a_filter_that_keeps_nothing_is_an_error(simulated: Store) -> None:
    config = simulated.config(value_filter="is_primary_data == True and assay == 'none'")
    with open_census(config) as census, pytest.raises(InputDataError) as caught:
        list_datasets(census, config)
    assert three_parts(caught.value, "no human cell", "assay == 'none'")


@pytest.mark.parametrize(
    ("value_filter", "says"),
    [
        ("is_primary_data = True", "Could not parse"),
        ("is_primary == True", "Column is_primary does not exist"),
        ("is_primary_data == 'yes'", "Cannot cast"),
        ("tissue_general == lung", "quote the right-hand side"),
        ("is_primary_data", "Malformed"),
    ],
    ids=["syntax", "column", "type", "unquoted", "no_condition"],
)
def test_what_soma_says_of_a_filter_stands_in_the_error(simulated: Store, value_filter: str, says: str) -> None:
    config = simulated.config(value_filter=value_filter)
    with open_census(config) as census:
        for read in (lambda: list_datasets(census, config), lambda: stream_dataset(census, "bb-lung", config)):
            with pytest.raises(ConfigError) as caught:
                read()
            assert three_parts(
                caught.value, value_filter, says, "'tissue_general'", "correct corpus.census.value_filter"
            )


@pytest.mark.parametrize(
    ("values", "says"), [([2.5, 1.25], "not integers"), ([-1.0], "negative")], ids=["fractions", "negative"]
)
def test_values_that_are_no_counts_are_refused(tmp_path: Path, values: list[float], says: str) -> None:
    store = changed(tmp_path, simulated_datasets()[2], np.array(values))
    config = store.config(value_filter=ALL_CELLS)
    with open_census(config) as census:
        stream = stream_dataset(census, "aa-heart", config)
        with pytest.raises(InputDataError) as caught:
            list(stream.pieces(0))
    assert three_parts(caught.value, says, "aa-heart", "cells 17 to 32", "dataset_id != 'aa-heart'")


def test_genes_without_ensembl_ids_are_refused(tmp_path: Path) -> None:
    packages()
    dataset = simulated_datasets()[2]
    dataset.cells.var_names = dataset.cells.var["feature_name"]
    one = Store(write_census(tmp_path / "soma", [dataset]), [dataset])
    with open_census(one.config()) as census:
        for read in (detection, lambda *args: stream_dataset(args[0], "aa-heart", args[1])):
            with pytest.raises(InputDataError) as caught:
                read(census, one.config())
            assert three_parts(caught.value, "0 of 40 feature_id", "ENSG00000139618")


# the address


@pytest.mark.parametrize("inside", ["", "census_info", "census_data/homo_sapiens", "census_data/homo_sapiens/obs"])
def test_a_folder_that_is_no_census_is_refused(simulated: Store, tmp_path: Path, inside: str) -> None:
    folder = simulated.folder / inside if inside else tmp_path
    with pytest.raises(FetchError) as caught, open_census(CensusConfig(uri=str(folder))):
        pass
    assert three_parts(caught.value, str(folder))


def test_a_copy_of_another_release_is_refused(simulated: Store) -> None:
    config = simulated.config(version="2024-07-01")
    with pytest.raises(FetchError) as caught, open_census(config):
        pass
    assert three_parts(caught.value, RELEASE, "2024-07-01", f'version: "{RELEASE}"')


def test_a_damaged_copy_is_named(simulated: Store, tmp_path: Path) -> None:
    shutil.copytree(simulated.folder, tmp_path / "soma")
    for file in (tmp_path / "soma/census_data/homo_sapiens/ms/RNA/X/raw/__fragments").rglob("a0.tdb"):
        file.write_bytes(b"")
    config = CensusConfig(uri=str(tmp_path / "soma"))
    with open_census(config) as census:
        stream = stream_dataset(census, "bb-lung", config)
        with pytest.raises(FetchError) as caught:
            list(stream.pieces(0))
    assert three_parts(caught.value, "data set bb-lung of the Census cannot be read")


def answer(monkeypatch: pytest.MonkeyPatch, census: Path) -> None:
    """Let the public directory of releases have one release, which lies in a folder."""
    import requests

    class Answer:
        def __init__(self, content: Any) -> None:
            self.content = content

        def raise_for_status(self) -> None:
            pass

        def json(self) -> Any:
            return self.content

    release = {
        "release_date": None,
        "release_build": RELEASE,
        "flags": {"lts": True},
        "soma": {"uri": census.as_uri(), "s3_region": "us-west-2"},
    }
    mirrors = {"default": "here", "here": {"provider": "S3", "base_uri": "s3://nowhere/", "region": "us-west-2"}}
    pages = {"release.json": {RELEASE: release}, "mirrors.json": mirrors}
    monkeypatch.setattr(requests, "get", lambda url, **_: Answer(pages[url.rsplit("/", 1)[1]]))


def test_a_release_is_found_by_its_version(simulated: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    answer(monkeypatch, simulated.folder)
    config = CensusConfig()
    with open_census(config) as census:
        assert len(list_datasets(census, config)) == 3
    with pytest.raises(FetchError) as caught, open_census(CensusConfig(version="2023-12-16")):
        pass
    assert three_parts(caught.value, "no release '2023-12-16'", "corpus.census.version")


def test_no_network_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    packages()
    import requests

    def fail(*args: Any, **keys: Any) -> None:
        raise requests.ConnectionError("Failed to resolve 'census.cellxgene.cziscience.com'")

    monkeypatch.setattr(requests, "get", fail)
    with pytest.raises(FetchError) as caught, open_census(CensusConfig()):
        pass
    assert three_parts(caught.value, "release 2023-12-15", "Failed to resolve", "corpus.census.uri")


def test_a_missing_package_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cellxgene_census", None)
    with pytest.raises(FetchError) as caught, open_census(CensusConfig()):
        pass
    assert three_parts(caught.value, "2023-12-15", "pip install")


def test_errors_of_the_reader_of_a_stream_are_its_own(simulated: Store) -> None:
    """A full disk while cells are written must not be reported as a broken Census."""
    config = simulated.config()
    with pytest.raises(OSError, match="disk full"), open_census(config) as census:
        for _ in stream_dataset(census, "bb-lung", config).pieces(0):
            raise OSError("disk full")


def test_a_person_of_two_data_sets_is_never_trained_on_and_judged(tmp_path: Path) -> None:
    """Two data sets of one collection share their donors; a third, of another collection, has donors of those names."""
    packages()
    sets = [replace(d, collection="study") if "lung" in d.dataset_id else d for d in simulated_datasets()]
    store = Store(write_census(tmp_path / "soma", sets), sets)
    ids = [f"ENSG{k:011d}" for k in range(1, 61)]
    table = pd.DataFrame({"index": range(60), "ensembl_id": ids, "symbol": [f"G{k}" for k in range(1, 61)]})
    vocabulary = Vocabulary(table.assign(biotype="protein_coding", aliases="", entrez_id=""), {})
    config = store.config(parts=2)
    write_census_list(config, tmp_path / "list.tsv", tmp_path / "detected.tsv")
    filters = CellFilters(minimum_genes=1, cells_per_shard=50)
    parts = [tmp_path / f"census_{k:03d}" for k in range(2)]
    for number, part in enumerate(parts):
        work = tmp_path / "unfinished" / part.name
        write_census_part(tmp_path / "list.tsv", number, part, work, vocabulary, filters, config, code="x")
    build_corpus(parts, tmp_path / "corpus", vocabulary, tmp_path / "manifest.tsv")
    shards = ShardStore(tmp_path / "corpus")
    obs = shards.obs.astype(str)
    persons = {f"{study}:donor{k}" for study in ("study", "id-aa-heart") for k in range(3)}
    assert set(obs["donor"]) == persons
    in_sets = obs.groupby("donor")["dataset"].nunique()
    assert all(number == (2 if person.startswith("study") else 1) for person, number in in_sets.items())
    for seed in range(6):
        for how in ("donor", "dataset"):
            cells = PretrainingCells(
                shards, batch_size=8, held_out_fraction=0.2, validation_cells=999, seed=seed, held_out_by=how
            )
            trained, judged = (obs["donor"].to_numpy()[rows] for rows in (cells.order.rows, cells.validation))
            assert len(trained) and len(judged) and not set(trained) & set(judged)


def test_a_list_without_collections_is_refused() -> None:
    table = pd.DataFrame({"dataset_id": ["a", "b"], "collection_id": ["study", None], "part": 0})
    with pytest.raises(InputDataError) as caught:
        collections_of(table)
    assert three_parts(caught.value, "collection_id", "b")
