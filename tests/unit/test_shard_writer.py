"""Writing shards: what is on the disk, and that a writer that was killed loses no cell and doubles none."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from corpus_files import contents, coverage_of
from scipy import sparse

from sclong.cells.hash import cell_hashes
from sclong.corpus.shard_writer import LABELS, ShardWriter
from sclong.errors import InputDataError
from sclong.genes.vocabulary import COLUMNS, Vocabulary
from sclong.io.files import read_json

N_GENES = 12


def cells(n: int, seed: int = 0) -> tuple[sparse.csr_matrix, pd.DataFrame]:
    counts = np.random.default_rng(seed).poisson(1.0, (n, N_GENES))
    obs = pd.DataFrame({label: f"a {label}" for label in LABELS if label != "dataset"}, index=range(n))
    return sparse.csr_matrix(counts), obs


def test_what_is_on_the_disk(tmp_path: Path) -> None:
    counts, obs = cells(5)
    with ShardWriter(tmp_path, "feed", N_GENES, 3) as writer:
        writer.append(counts, obs)
    facts = read_json(tmp_path / "shards.json")
    assert (facts["format"], facts["vocabulary_hash"], facts["n_genes"], facts["cells"]) == (2, "feed", N_GENES, 5)
    assert [(s["name"], s["cells"], s["kept"]) for s in facts["shards"]] == [
        ("shard_00000", 3, 3),
        ("shard_00001", 2, 2),
    ]
    folder = tmp_path / "shard_00000"
    arrays = [np.load(folder / f"{name}.npy") for name in ("data", "indices", "indptr")]
    assert [a.dtype for a in arrays] == [np.uint8, np.uint16, np.int64]
    assert (sparse.csr_matrix(tuple(arrays), (3, N_GENES)).toarray() == counts[:3].toarray()).all()
    table = pd.read_parquet(tmp_path / "shard_00001" / "obs.parquet")
    assert table["row"].tolist() == [3, 4]
    assert table["dataset"].tolist() == ["a source"] * 2
    assert (table[["hash_high", "hash_low"]].to_numpy() == cell_hashes(counts)[3:]).all()


@pytest.mark.parametrize(
    ("highest", "kind"), [(255, np.uint8), (256, np.uint16), (65_535, np.uint16), (65_536, np.uint32)]
)
def test_counts_take_the_smallest_type_that_holds_them(tmp_path: Path, highest: int, kind: type) -> None:
    counts, obs = cells(4)
    counts = counts.tolil()
    counts[3, 2] = highest
    counts = counts.tocsr()
    with ShardWriter(tmp_path, "feed", N_GENES, 10) as writer:
        writer.append(counts[:2], obs[:2])  # of another type than the rest of the shard
        writer.append(counts[2:], obs[2:])
    data = np.load(tmp_path / "shard_00000" / "data.npy")
    assert data.dtype == kind
    assert data.max() == highest


def test_pieces_do_not_show(tmp_path: Path) -> None:
    counts, obs = cells(23)
    for name, ends in {"one": [23], "many": [1, 2, 9, 9, 20, 23]}.items():
        with ShardWriter(tmp_path / name, "feed", N_GENES, 5) as writer:
            for start, stop in zip([0, *ends], ends, strict=False):
                writer.append(counts[start:stop], obs[start:stop])
    assert contents(tmp_path / "one") == contents(tmp_path / "many")


def test_a_writer_goes_on_after_the_cells_that_are_on_the_disk(tmp_path: Path) -> None:
    counts, obs = cells(23)
    writer = ShardWriter(tmp_path / "killed", "feed", N_GENES, 5)
    for start in (0, 6, 12):
        writer.append(counts[start : start + 6], obs[start : start + 6], {"row": start + 6})
    del writer  # 15 of 18 cells are on the disk, 3 of the last 6
    writer = ShardWriter(tmp_path / "killed", "feed", N_GENES, 5)
    assert writer.progress == {"row": 12}
    rest = obs[12:].assign(row=np.arange(12, 23))
    writer.append(counts[12:], rest, {"row": 23})
    writer.close()
    with ShardWriter(tmp_path / "whole", "feed", N_GENES, 5) as writer:
        writer.append(counts, obs)
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")


def test_another_job_does_not_go_on_with_these_shards(tmp_path: Path) -> None:
    counts, obs = cells(11)
    writer = ShardWriter(tmp_path, "feed", N_GENES, 5, {"file": "a"})
    writer.append(counts, obs, {"row": 11})
    writer = ShardWriter(tmp_path, "feed", N_GENES, 5, {"file": "b"})
    assert writer.progress is None
    assert not list(tmp_path.glob("shard_*"))


def test_no_cell_and_a_complete_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputDataError, match="no cell"):
        ShardWriter(tmp_path, "feed", N_GENES, 5).close()
    with ShardWriter(tmp_path, "feed", N_GENES, 5) as writer:
        writer.append(*cells(2))
    with pytest.raises(InputDataError, match="complete set"):
        ShardWriter(tmp_path, "feed", N_GENES, 5)


def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = ShardWriter(tmp_path, "feed", N_GENES, 5)
    writer.append(*cells(6))
    before = contents(tmp_path)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("sclong.corpus.shard_writer._save_pieces", full)
    with pytest.raises(InputDataError, match="No space left on device"):
        writer.append(*cells(6))
    assert contents(tmp_path) == before


@pytest.fixture
def two_files(tmp_path: Path) -> Path:
    genes = [f"ENSG{i:011d}" for i in range(N_GENES)]
    table = pd.DataFrame({"index": range(N_GENES), "ensembl_id": genes, "symbol": genes})
    Vocabulary(table.assign(biotype="protein_coding", aliases="", entrez_id="")[list(COLUMNS)]).write(
        tmp_path / "vocabulary.tsv"
    )
    for seed, name in enumerate(("first", "second")):
        counts, _ = cells(40 + 13 * seed, seed)
        counts[::5] = 0  # cells that are left out
        ad.AnnData(counts.astype(np.float32), var=pd.DataFrame(index=genes)).write_h5ad(tmp_path / f"{name}.h5ad")
    return tmp_path


def write_and_kill(folder: Path, events: int) -> subprocess.CompletedProcess[str]:
    script = Path(__file__).with_name("killed_part.py")
    path = os.pathsep.join([*map(str, Path(__file__).parents[1:3]), os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        [sys.executable, str(script), str(folder), "first,second", str(events)],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
def test_killed_at_random_points_no_cell_is_lost_or_doubled(two_files: Path) -> None:
    whole = write_and_kill(two_files, 0)
    assert whole.returncode == 0, whole.stderr
    expected, n_events = contents(two_files / "out"), int(whole.stdout)
    assert coverage_of(two_files / "out", 1)["cells_kept"] == 42
    (two_files / "out").rename(two_files / "expected")
    random, killed = np.random.default_rng(0), 0
    for _ in range(40):
        # seldom before the next shard is whole, so that it gets somewhere
        done = write_and_kill(two_files, int(random.integers(n_events // 12, n_events // 3)))
        if done.returncode == 0:
            break
        assert done.returncode == -9, done.stderr
        assert not (two_files / "out").exists()
        killed += 1
    assert killed >= 3
    assert contents(two_files / "out") == expected
    assert not (two_files / "unfinished").exists()
