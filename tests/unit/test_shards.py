"""Shards: what goes in comes out, any cells in any order, and damage is seen."""

from __future__ import annotations

import gc
import os
import pickle
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from sclong.corpus.shard_writer import ShardWriter
from sclong.corpus.shards import OBS_COLUMNS, ShardStore, map_array
from sclong.errors import InputDataError
from sclong.io.files import read_json, write_json

N_GENES = 11


def cells(n: int, name: str, seed: int) -> tuple[sparse.csr_matrix, pd.DataFrame]:
    counts = np.random.default_rng(seed).poisson(0.7, size=(n, N_GENES))
    obs = pd.DataFrame({column: [f"{column}-{name}-{i % 3}" for i in range(n)] for column in OBS_COLUMNS})
    return sparse.csr_matrix(counts.astype(np.float32)), obs


@pytest.fixture
def written(tmp_path: Path) -> tuple[Path, np.ndarray, pd.DataFrame]:
    parts = [cells(5, "a", 0), cells(13, "b", 1), cells(1, "c", 2)]
    with ShardWriter(tmp_path / "shards", "feed", N_GENES, 4) as writer:
        for counts, obs in parts:
            writer.append(counts, obs)
    dense = np.concatenate([counts.toarray() for counts, _ in parts])
    return tmp_path / "shards", dense, pd.concat([obs for _, obs in parts], ignore_index=True)


def test_round_trip(written: tuple[Path, np.ndarray, pd.DataFrame]) -> None:
    folder, dense, obs = written
    store = ShardStore(folder)
    assert (len(store), store.n_genes, store.vocabulary_hash) == (19, N_GENES, "feed")
    assert [s["cells"] for s in store.facts["shards"]] == [4, 4, 4, 4, 3]
    np.testing.assert_array_equal(store.rows(np.arange(19)).toarray(), dense)
    assert store.obs.astype(str).equals(obs)
    store.verify()


def test_rows_in_any_order_and_again(written: tuple[Path, np.ndarray, pd.DataFrame]) -> None:
    folder, dense, _ = written
    order = np.array([18, 0, 7, 7, 3, 4])
    rows = ShardStore(folder).rows(order)
    assert rows.dtype == np.float32
    np.testing.assert_array_equal(rows.toarray(), dense[order])
    assert ShardStore(folder).rows(np.array([], dtype=int)).shape == (0, N_GENES)


def test_how_cells_arrive_does_not_matter(tmp_path: Path, written: tuple[Path, np.ndarray, pd.DataFrame]) -> None:
    folder, dense, obs = written
    with ShardWriter(tmp_path / "at_once", "feed", N_GENES, 4) as writer:
        writer.append(sparse.csr_matrix(dense), obs)
    assert read_json(tmp_path / "at_once" / "shards.json") == read_json(folder / "shards.json")


def test_an_interrupted_corpus_is_no_corpus(tmp_path: Path) -> None:
    counts, obs = cells(9, "a", 0)

    def interrupted() -> None:
        with ShardWriter(tmp_path, "feed", N_GENES, 4) as writer:
            writer.append(counts, obs)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    with pytest.raises(InputDataError, match=r"no shards\.json"):
        ShardStore(tmp_path)


def test_no_cell_at_all(tmp_path: Path) -> None:
    with pytest.raises(InputDataError, match="no cell"):
        ShardWriter(tmp_path, "feed", N_GENES, 4).close()


@pytest.mark.parametrize("array", ["data", "indices", "indptr"])
def test_a_truncated_array_is_seen_when_opened(written: tuple[Path, np.ndarray, pd.DataFrame], array: str) -> None:
    path = written[0] / "shard_00001" / f"{array}.npy"
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(InputDataError, match=rf"shard_00001.{array}\.npy"):
        ShardStore(written[0])


def test_arrays_of_other_lengths_are_seen_when_opened(written: tuple[Path, np.ndarray, pd.DataFrame]) -> None:
    path = written[0] / "shard_00002" / "data.npy"
    np.save(path, np.load(path)[:-1])
    with pytest.raises(InputDataError, match="shard_00002"):
        ShardStore(written[0])


def test_verify_sees_one_changed_count(written: tuple[Path, np.ndarray, pd.DataFrame]) -> None:
    path = written[0] / "shard_00003" / "data.npy"
    data = np.load(path)
    data[0] += 1
    np.save(path, data)
    with pytest.raises(InputDataError, match=r"1 files are not what was written: 'shard_00003/data\.npy \(changed\)'"):
        ShardStore(written[0]).verify()


@pytest.mark.skipif(sys.platform != "linux", reason="counts open files in /proc")
def test_no_file_stays_open(written: tuple[Path, np.ndarray, pd.DataFrame]) -> None:
    """300 shards of four files are more than the 1,024 that a process may often have open."""
    folder, dense, _ = written
    before = sorted(os.listdir("/proc/self/fd"))
    store = ShardStore(folder)
    assert sorted(os.listdir("/proc/self/fd")) == before
    for array in store._arrays[0][:3]:
        assert not array.flags.owndata and not array.flags.writeable, "mapped, not read"
    order = np.random.default_rng(0).permutation(len(store))
    np.testing.assert_array_equal(store.rows(order).toarray(), dense[order])


def test_a_map_outlives_its_store_and_empty_arrays_are_read(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.arange(100_000, dtype=np.uint16))
    np.save(tmp_path / "empty.npy", np.empty(0, np.uint8))
    part = map_array(tmp_path / "x.npy")[70:80]
    (tmp_path / "x.npy").unlink()
    gc.collect()
    assert part.tolist() == list(range(70, 80))
    assert len(map_array(tmp_path / "empty.npy")) == 0


@pytest.mark.parametrize("columns", [("donor",), ("tissue", "source")])
def test_only_the_columns_asked_for_are_read_as_categories(
    written: tuple[Path, np.ndarray, pd.DataFrame], columns: tuple[str, ...]
) -> None:
    folder, _, obs = written
    found = ShardStore(folder, columns).obs
    assert found.astype(str).equals(obs[list(columns)])
    assert all(isinstance(kind, pd.CategoricalDtype) for kind in found.dtypes)


def test_a_store_goes_to_a_worker_without_its_files(written: tuple[Path, np.ndarray, pd.DataFrame]) -> None:
    store = ShardStore(written[0])
    text = pickle.dumps(store)
    assert len(text) < 20_000
    np.testing.assert_array_equal(pickle.loads(text).rows(np.array([3])).toarray(), written[1][[3]])


def test_cells_that_are_left_out_are_not_there(written: tuple[Path, np.ndarray, pd.DataFrame]) -> None:
    folder, dense, obs = written
    np.save(folder / "shard_00001" / "kept.npy", np.array([0, 3]))
    facts = read_json(folder / "shards.json")
    facts["shards"][1]["kept"] = 2
    write_json(folder / "shards.json", facts)
    left = np.setdiff1d(np.arange(19), [5, 6])
    store = ShardStore(folder)
    assert len(store) == 17
    np.testing.assert_array_equal(store.rows(np.arange(17)).toarray(), dense[left])
    assert store.obs.astype(str).equals(obs.iloc[left].reset_index(drop=True))


def test_an_older_format_is_refused(written: tuple[Path, np.ndarray, pd.DataFrame]) -> None:
    facts = read_json(written[0] / "shards.json")
    del facts["format"]
    write_json(written[0] / "shards.json", facts)
    with pytest.raises(InputDataError, match=r"(?s)shards of format 1.*make the corpus again"):
        ShardStore(written[0])


def test_verify_names_missing_and_foreign_files(written: tuple[Path, np.ndarray, pd.DataFrame]) -> None:
    store = ShardStore(written[0])
    (written[0] / "shard_00000" / "kept.npy").write_bytes(b"")
    (written[0] / "shard_00001" / "data.npy").unlink()
    (written[0] / "shard_00099").mkdir()
    with pytest.raises(InputDataError) as caught:
        store.verify()
    for found in (
        "kept.npy (not of this corpus)",
        "shard_00001/data.npy (missing)",
        "shard_00099 (not of this corpus)",
    ):
        assert found in caught.value.found
