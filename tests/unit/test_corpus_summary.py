"""The corpus is counted right, cells that were left out not at all."""

from __future__ import annotations

from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from corpus_files import write_file_part

from sclong.config.sections import CorpusSource
from sclong.corpus.assemble import build_corpus
from sclong.corpus.summary import BIN, _median, summarise_corpus
from sclong.genes.vocabulary import COLUMNS, Vocabulary
from sclong.report.corpus_figure import corpus_figure

N = 600
IDS = [f"ENSG{i:011d}" for i in range(N)]


@pytest.fixture
def vocabulary() -> Vocabulary:
    table = pd.DataFrame({"index": range(N), "ensembl_id": IDS, "symbol": IDS})
    return Vocabulary(table.assign(biotype="protein_coding", aliases="", entrez_id="")[list(COLUMNS)])


def test_counts_equal_those_of_the_matrix(tmp_path: Path, vocabulary: Vocabulary) -> None:
    random = np.random.default_rng(0)
    counts = random.poisson(random.gamma(0.5, 1.0, (40, 1)), (40, N)).astype(np.float32)
    counts[7] = counts[3]  # a duplicate, left out
    obs = pd.DataFrame({"organ": random.choice(["lung", "liver", "skin"], 40), "person": random.choice(list("ab"), 40)})
    obs.index = obs.index.astype(str)
    ad.AnnData(counts, obs, pd.DataFrame(index=IDS)).write_h5ad(tmp_path / "x.h5ad")
    source = CorpusSource(name="x", input="file:x", tissue_column="organ", donor_column="person", assay="A")
    part = write_file_part(
        tmp_path / "x.h5ad", tmp_path / "part", vocabulary, source, minimum_genes=30, cells_per_shard=9
    )
    build_corpus([part], tmp_path / "shards", vocabulary, tmp_path / "manifest.tsv")
    summarise_corpus(tmp_path / "shards", vocabulary, tmp_path / "cells.tsv", tmp_path / "genes.tsv")

    detected = (counts > 0).sum(axis=1)
    kept = (detected >= 30) & (np.arange(40) != 7)
    cells = pd.read_csv(tmp_path / "cells.tsv", sep="\t")
    tissue = cells[cells["group"] == "tissue"].set_index("name")
    for name, part_of in obs.assign(detected=detected)[kept].groupby("organ"):
        row = tissue.loc[name]
        assert (row["cells"], row["donors"]) == (len(part_of), part_of["person"].nunique())
        assert row["median_genes"] == part_of["detected"].median()
    assert tissue["cells"].is_monotonic_decreasing
    bins = cells[cells["group"] == "genes_per_cell"]
    assert dict(zip(bins["name"].astype(int), bins["cells"], strict=True)) == (
        pd.Series(detected[kept] // BIN * BIN).value_counts().to_dict()
    )
    genes = pd.read_csv(tmp_path / "genes.tsv", sep="\t")
    assert genes["cells"].tolist() == (counts[kept] > 0).sum(axis=0).tolist()
    assert corpus_figure(cells, genes).startswith("<svg")


@pytest.mark.parametrize("values", [[3], [1, 2], [5, 5, 9], [1, 2, 2, 8], [4, 1, 1, 1, 7, 9]])
def test_median_of_counted_values(values: list[int]) -> None:
    counted = pd.Series(values).value_counts().sort_index()
    table = pd.DataFrame({"genes": counted.index, "cells": counted.to_numpy()})
    assert _median(table) == np.median(values)
