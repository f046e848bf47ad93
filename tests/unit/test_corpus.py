"""From sources to shards, on files small enough to count by hand."""

from __future__ import annotations

from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from sclong.config_sections import CorpusSource
from sclong.data.corpus import build_shards, detection_table, harmonize_source, scan_source
from sclong.data.vocabulary import Vocabulary, build_vocabulary
from sclong.errors import VocabularyMismatchError
from sclong.io.files import read_json
from sclong.io.shards import ShardStore


def gene(n: int) -> str:
    return f"ENSG{n:011d}"


@pytest.fixture
def annotation(tmp_path: Path) -> Path:
    path = tmp_path / "genes.csv"
    rows = [f"{gene(n)}.1,SYM{n},{'protein_coding' if n < 4 else 'lncRNA'},chr1,1,2" for n in range(1, 8)]
    path.write_text("gene_id,gene_name,biotype,chromosome,start,end\n" + "\n".join(rows) + "\n")
    return path


COUNTS = np.array(
    [
        [1, 2, 3, 4, 9],
        [0, 0, 0, 0, 9],  # only a gene that nobody knows: empty
        [5, 0, 0, 0, 0],  # too few genes
        [1, 0, 1, 0, 7],
    ],
    dtype=np.float32,
)
SOURCE = CorpusSource(
    name="one", input="file:x", donor_column="donor", cell_type_column="kind", tissue="lung", assay="A"
)


@pytest.fixture
def source_file(tmp_path: Path) -> Path:
    obs = pd.DataFrame({"donor": ["d1", "d1", "d2", None], "kind": ["T", "B", "T", "T"]}, index=list("abcd"))
    names = [f" {gene(1)}.4", "SYM1", "SYM3", gene(5), "virus"]
    ad.AnnData(COUNTS, obs, pd.DataFrame(index=names)).write_h5ad(tmp_path / "one.h5ad")
    return tmp_path / "one.h5ad"


def test_scan_counts_cells_over_all_annotated_genes(tmp_path: Path, annotation: Path, source_file: Path) -> None:
    scan_source(source_file, SOURCE, annotation, None, tmp_path / "scan.tsv")
    table = pd.read_csv(tmp_path / "scan.tsv", sep="\t")
    assert dict(zip(table["ensembl_id"], table["cells"], strict=True)) == {gene(1): 3, gene(3): 2, gene(5): 1}
    facts = read_json(tmp_path / "scan.json")
    assert (facts["cells"], facts["by_ensembl"], facts["by_symbol"], facts["unmapped"]) == (4, 2, 2, 1)


def test_detection_adds_up_sources(tmp_path: Path) -> None:
    for name, rows in {"a": [("g1", 3), ("g2", 1)], "b": [("g1", 4)]}.items():
        pd.DataFrame(rows, columns=["ensembl_id", "cells"]).to_csv(tmp_path / f"{name}.tsv", sep="\t", index=False)
    table = detection_table([tmp_path / "a.tsv", tmp_path / "b.tsv"])
    assert table.to_numpy().tolist() == [["g1", 2, 7], ["g2", 1, 1]]


@pytest.fixture
def vocabulary(annotation: Path) -> Vocabulary:
    return build_vocabulary(annotation, None, None, None)


def test_harmonized_source(tmp_path: Path, source_file: Path, vocabulary: Vocabulary) -> None:
    harmonize_source(source_file, SOURCE, vocabulary, 2, tmp_path / "out")
    counts = sparse.load_npz(tmp_path / "out" / "counts.npz")
    assert counts.toarray().tolist() == [[3, 0, 3, 0, 4, 0, 0], [1, 0, 1, 0, 0, 0, 0]]  # duplicates of gene 1 summed
    obs = pd.read_parquet(tmp_path / "out" / "obs.parquet")
    assert obs.to_numpy().tolist() == [["one", "one:d1", "lung", "A", "T"], ["one", "one:unknown", "lung", "A", "T"]]
    coverage = read_json(tmp_path / "out" / "coverage.json")
    assert {k: v for k, v in coverage.items() if k.startswith("cells")} == {
        "cells_in": 4, "cells_kept": 2, "cells_empty": 1, "cells_few_genes": 1, "cells_not_wanted": 0,
    }  # fmt: skip
    assert (coverage["duplicated"], coverage["with_version"], coverage["with_blanks"]) == (1, 1, 1)
    assert coverage["share_of_counts"] == round(17 / 42, 4)
    assert coverage["vocabulary_hash"] == vocabulary.hash


def test_only_wanted_cells(tmp_path: Path, source_file: Path, vocabulary: Vocabulary) -> None:
    source = SOURCE.model_copy(update={"keep_cells": "kind == 'T' and donor == 'd1'"})
    harmonize_source(source_file, source, vocabulary, 1, tmp_path / "out")
    coverage = read_json(tmp_path / "out" / "coverage.json")
    assert (coverage["cells_in"], coverage["cells_not_wanted"], coverage["cells_kept"]) == (4, 3, 1)


def test_shards_hold_every_kept_cell_and_the_manifest_every_source(
    tmp_path: Path, source_file: Path, vocabulary: Vocabulary
) -> None:
    names = ("one", "two")
    for name in names:
        source = SOURCE.model_copy(update={"name": name})
        harmonize_source(source_file, source, vocabulary, 2, tmp_path / "harmonized" / name)
    folders = [tmp_path / "harmonized" / name for name in names]
    build_shards(folders, tmp_path / "shards", vocabulary, 3, tmp_path / "manifest.tsv", left_out=["three"])
    store = ShardStore(tmp_path / "shards")
    store.verify()
    assert store.vocabulary_hash == vocabulary.hash
    assert store.obs["source"].tolist() == ["one", "one", "two", "two"]
    assert store.obs["donor"].tolist() == ["one:d1", "one:unknown", "two:d1", "two:unknown"]
    assert store.rows(np.array([3])).toarray().tolist() == [[1, 0, 1, 0, 0, 0, 0]]
    manifest = pd.read_csv(tmp_path / "manifest.tsv", sep="\t").set_index("source")
    assert manifest["status"].tolist()[:2] == ["used", "used"]
    assert manifest.loc["three", "status"].startswith("left out")
    assert manifest.loc["one", ["cells_in", "cells_kept", "mapped", "donors"]].tolist() == [4, 2, 4, 2]


def test_a_source_of_another_vocabulary_is_refused(
    tmp_path: Path, source_file: Path, vocabulary: Vocabulary, annotation: Path
) -> None:
    harmonize_source(source_file, SOURCE, vocabulary, 2, tmp_path / "one")
    other = build_vocabulary(annotation, None, None, 4)
    with pytest.raises(VocabularyMismatchError, match=f"{vocabulary.hash}.*{other.hash}"):
        build_shards([tmp_path / "one"], tmp_path / "shards", other, 3, tmp_path / "manifest.tsv")
    assert not (tmp_path / "shards").exists()
