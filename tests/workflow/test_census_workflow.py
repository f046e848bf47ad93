"""The workflow on cells of a Census, and on a source that is added later, from one command each."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
from census_store import CensusDataset, labelled, write_census

from sclong.corpus.shards import ShardStore
from sclong.world.simulation import simulate


def run(clone: Path, target: str, *config: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", "--cores", "1", target, "--config", *config],
        cwd=clone,
        capture_output=True,
        text=True,
        timeout=600,
        env=dict(os.environ),
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_from_the_census_to_shards(clone: Path, tmp_path: Path) -> None:
    """Blood of the simulated world as two data sets of a Census, which share cells, and liver from a file."""
    pytest.importorskip("cellxgene_census", reason="pip install -c envs/constraints.txt -e '.[census]'")
    pytest.importorskip("tiledbsoma", reason="pip install -c envs/constraints.txt -e '.[census]'")
    simulate(tmp_path / "world", seed=0)
    blood = anndata.read_h5ad(tmp_path / "world/corpus_blood.h5ad")[:150].copy()
    blood.obs["donor_id"] = blood.obs["donor"]
    blood.var_names = [name.split(".")[0] for name in blood.var_names]
    cells = labelled(blood, "blood", np.arange(150) % 5 != 4)
    sets = [CensusDataset("one", cells[:100]), CensusDataset("two", cells[50:])]
    uri = write_census(tmp_path / "census", sets)
    liver = "{name: liver, input: 'world:corpus_liver.h5ad', donor_column: donor, tissue: liver}"
    keys = f"corpus={{census: {{uri: {uri}, parts: 2}}, exclude_benchmarks: [], sources: [{liver}]}}"
    results = clone / "results"
    run(clone, "results/corpus/manifest.tsv", keys)

    table = pd.read_csv(results / "corpus/manifest.tsv", sep="\t").set_index("dataset")
    assert sorted(table.index) == ["liver", "one", "two"]
    assert table.loc[["one", "two"], "cells_in"].tolist() == [80, 80]
    assert table.loc[["one", "two"], "cells_duplicate"].sum() == 40
    store = ShardStore(results / "corpus/shards")
    assert len(store) == table["cells_kept"].sum() == 120 + table.loc["liver", "cells_kept"]
    assert set(store.obs["tissue"]) == {"blood", "liver"}
    parts = {p: p.stat().st_mtime_ns for p in (results / "corpus/parts").glob("*/coverage.json")}

    second = "{name: again, input: 'world:corpus_blood.h5ad', donor_column: donor, tissue: blood, optional: true}"
    run(clone, "results/corpus/manifest.tsv", keys.replace("]}", f", {second}]}}"))
    table = pd.read_csv(results / "corpus/manifest.tsv", sep="\t").set_index("dataset")
    assert table.loc[["one", "two"], "cells_duplicate"].sum() == 160  # of equal cells those of the file come first now
    assert table.loc[["one", "two"], "status"].tolist() == ["no cell is left"] * 2
    assert {p: p.stat().st_mtime_ns for p in parts} == parts  # no source was read again
