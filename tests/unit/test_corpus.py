"""From sources to the corpus, on files small enough to count by hand."""

from __future__ import annotations

from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from corpus_files import contents, counts_of, coverage_of, obs_of, write_file_part

from sclong.config.sections import CorpusSource
from sclong.corpus.assemble import build_corpus, detection_table
from sclong.corpus.shards import ShardStore
from sclong.corpus.source import scan_source
from sclong.errors import InputDataError, VocabularyMismatchError
from sclong.genes.vocabulary import Vocabulary, build_vocabulary
from sclong.io.files import read_json


def gene(n: int) -> str:
    return f"ENSG{n:011d}"


@pytest.fixture
def annotation(tmp_path: Path) -> Path:
    path = tmp_path / "genes.csv"
    rows = [
        f"{gene(n)}.1,{'MT-CO1' if n == 7 else f'SYM{n}'},{'protein_coding' if n < 4 else 'lncRNA'},chr1,1,2"
        for n in range(1, 8)
    ]
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


def write(path: Path, counts: np.ndarray, names: list[str], **obs: list[object]) -> Path:
    index = [f"c{n}" for n in range(len(counts))]
    ad.AnnData(counts, pd.DataFrame(obs, index=index), pd.DataFrame(index=names)).write_h5ad(path)
    return path


@pytest.fixture
def source_file(tmp_path: Path) -> Path:
    names = [f" {gene(1)}.4", "SYM1", "SYM3", gene(5), "virus"]
    donors, kinds = ["d1", "d1", "d2", None], ["T", "B", "T", "T"]
    return write(tmp_path / "one.h5ad", COUNTS, names, donor=donors, kind=kinds)


def test_scan_counts_cells_over_all_annotated_genes(tmp_path: Path, annotation: Path, source_file: Path) -> None:
    scan_source(source_file, SOURCE, annotation, None, tmp_path / "scan.tsv")
    table = pd.read_csv(tmp_path / "scan.tsv", sep="\t")
    assert dict(zip(table["ensembl_id"], table["cells"], strict=True)) == {gene(1): 3, gene(3): 2, gene(5): 1}
    facts = read_json(tmp_path / "scan.json")
    assert (facts["cells"], facts["by_ensembl"], facts["by_symbol"], facts["unmapped"]) == (4, 2, 2, 1)


def test_detection_adds_up_sources_and_the_census_counts_for_many(tmp_path: Path) -> None:
    for name, rows in {"a": [("g1", 3), ("g2", 1)], "b": [("g1", 4)]}.items():
        pd.DataFrame(rows, columns=["ensembl_id", "cells"]).to_csv(tmp_path / f"{name}.tsv", sep="\t", index=False)
    table = detection_table([tmp_path / "a.tsv", tmp_path / "b.tsv"])
    assert table.to_numpy().tolist() == [["g1", 2, 7], ["g2", 1, 1]]
    census = pd.DataFrame([("g2", 50, 1000)], columns=["ensembl_id", "datasets", "cells"])
    census.to_csv(tmp_path / "census.tsv", sep="\t", index=False)
    table = detection_table([tmp_path / "a.tsv", tmp_path / "census.tsv"])
    assert table.to_numpy().tolist() == [["g1", 1, 3], ["g2", 51, 1001]]


@pytest.fixture
def vocabulary(annotation: Path) -> Vocabulary:
    return build_vocabulary(annotation, None, None, None)


def test_a_part(tmp_path: Path, source_file: Path, vocabulary: Vocabulary) -> None:
    part = write_file_part(source_file, tmp_path / "out", vocabulary, SOURCE, minimum_genes=2)
    assert counts_of(part).toarray().tolist() == [[3, 0, 3, 0, 4, 0, 0], [1, 0, 1, 0, 0, 0, 0]]  # of gene 1 summed
    obs = obs_of(part)
    labels = ["source", "dataset", "donor", "tissue", "assay", "cell_type", "row"]
    assert obs[labels].to_numpy().tolist() == [
        ["one", "one", "one:d1", "lung", "A", "T", 0],
        ["one", "one", "one:unknown", "lung", "A", "T", 3],
    ]
    coverage = coverage_of(part)
    assert {k: v for k, v in coverage.items() if k.startswith("cells") and v} == {
        "cells_in": 4,
        "cells_kept": 2,
        "cells_empty": 1,
        "cells_few_genes": 1,
    }
    assert (coverage["duplicated"], coverage["with_version"], coverage["with_blanks"]) == (1, 1, 1)
    assert (coverage["share_of_counts"], coverage["donors"], coverage["median_genes"]) == (round(17 / 42, 4), 2, 2)
    assert read_json(part / "coverage.json")["vocabulary_hash"] == vocabulary.hash
    assert not list(tmp_path.glob("unfinished*"))


def test_sources_of_one_study_share_their_donors(tmp_path: Path, source_file: Path, vocabulary: Vocabulary) -> None:
    first, second = (SOURCE.model_copy(update={"name": name, "collection": "study"}) for name in ("a", "b"))
    parts = [
        write_file_part(source_file, tmp_path / s.name, vocabulary, s, minimum_genes=2) for s in (first, second, SOURCE)
    ]
    persons = [obs_of(part)["donor"].tolist() for part in parts]
    assert persons[0] == persons[1] == ["study:d1", "study:unknown"] and persons[2] == ["one:d1", "one:unknown"]


def test_only_wanted_cells(tmp_path: Path, source_file: Path, vocabulary: Vocabulary) -> None:
    source = SOURCE.model_copy(update={"keep_cells": "kind == 'T' and donor == 'd1'"})
    coverage = coverage_of(write_file_part(source_file, tmp_path / "out", vocabulary, source, minimum_genes=1))
    assert (coverage["cells_in"], coverage["cells_not_wanted"], coverage["cells_kept"]) == (4, 3, 1)


def test_every_cell_that_is_left_out_has_one_reason(tmp_path: Path, vocabulary: Vocabulary) -> None:
    """Each cell fails one filter, the last one two: it counts under the first."""
    names = [gene(1), gene(2), gene(7)]
    counts = np.array([[5, 5, 1], [5, 5, 1], [5, 5, 30], [5, 0, 0], [0, 0, 0], [5, 0, 0]], dtype=np.float32)
    flags = ["", "doublet", "singlet", "0", "", "True"]
    path = write(tmp_path / "x.h5ad", counts, names, flag=flags, tissue=list("aabbcc"), assay=list("ABABAB"))
    source = CorpusSource(name="x", input="file:x", doublet_column="flag", tissue_column="tissue", assay_column="assay")
    part = write_file_part(path, tmp_path / "out", vocabulary, source, minimum_genes=2, maximum_mitochondrial_share=0.5)
    coverage = coverage_of(part)
    reasons = ("doublet", "mitochondrial", "few_genes", "empty", "not_wanted", "kept")
    assert [coverage[f"cells_{reason}"] for reason in reasons] == [2, 1, 1, 1, 0, 1]
    assert (coverage["tissue"], coverage["assay"]) == ("a", "A")
    assert obs_of(part)[["tissue", "assay", "row"]].to_numpy().tolist() == [["a", "A", 0]]


def test_a_limit_for_mitochondrial_genes_needs_them(tmp_path: Path, source_file: Path, annotation: Path) -> None:
    annotation.write_text(annotation.read_text().replace("MT-CO1", "CO1"))
    vocabulary = build_vocabulary(annotation, None, None, None)
    with pytest.raises(InputDataError, match="no gene whose symbol begins with MT-"):
        write_file_part(source_file, tmp_path / "out", vocabulary, SOURCE, maximum_mitochondrial_share=0.1)


@pytest.mark.parametrize("column", ["organism", "species"])
def test_cells_of_another_species_are_refused(tmp_path: Path, vocabulary: Vocabulary, column: str) -> None:
    obs = {column: ["Homo sapiens", "Mus musculus", "Homo sapiens", "Homo sapiens"]}
    path = write(tmp_path / "x.h5ad", COUNTS, [gene(n) for n in range(1, 6)], **obs)
    with pytest.raises(InputDataError, match=r"(?s)Mus musculus.*human cells"):
        write_file_part(path, tmp_path / "out", vocabulary, minimum_genes=1)
    assert not (tmp_path / "out").exists()
    source = CorpusSource(name="x", input="file:x", keep_cells=f"{column} == 'Homo sapiens'")
    part = write_file_part(path, tmp_path / "human", vocabulary, source, minimum_genes=1)
    assert obs_of(part)["row"].tolist() == [0, 2, 3]


def two_parts(tmp_path: Path, vocabulary: Vocabulary) -> list[Path]:
    """Source b has a cell twice, and one that source a has too, its genes in another order."""
    a = write(tmp_path / "a.h5ad", np.array([[1, 2, 0], [3, 0, 4]]), [gene(1), gene(2), gene(3)])
    counts = np.array([[4, 3, 0, 0], [7, 0, 1, 0], [7, 0, 1, 0], [1, 1, 0, 9]])
    b = write(tmp_path / "b.h5ad", counts, [gene(3), gene(1), "SYM6", "virus"])
    sources = {name: CorpusSource(name=name, input="file:x") for name in "ab"}
    return [
        write_file_part(path, tmp_path / "parts" / name, vocabulary, sources[name], minimum_genes=1, cells_per_shard=2)
        for name, path in (("a", a), ("b", b))
    ]


def test_of_equal_cells_the_first_stays(tmp_path: Path, vocabulary: Vocabulary) -> None:
    parts = two_parts(tmp_path, vocabulary)
    build_corpus(parts, tmp_path / "shards", vocabulary, tmp_path / "manifest.tsv", left_out=["three"])
    store = ShardStore(tmp_path / "shards")
    store.verify()
    assert store.vocabulary_hash == vocabulary.hash
    assert store.obs["dataset"].tolist() == ["a", "a", "b", "b"]
    assert store.rows(np.arange(4))[:, [0, 1, 2, 5]].toarray().tolist() == [
        [1, 2, 0, 0],
        [3, 0, 4, 0],
        [0, 0, 7, 1],
        [1, 0, 1, 0],
    ]
    manifest = pd.read_csv(tmp_path / "manifest.tsv", sep="\t").set_index("source")
    columns = ["cells_in", "cells_kept", "cells_duplicate", "cells_of_benchmarks"]
    assert manifest.loc["a", columns].tolist() == [2, 2, 0, 0]
    assert manifest.loc["b", columns].tolist() == [4, 2, 2, 0]
    assert manifest.loc["three", "status"].startswith("left out")


def test_the_corpus_takes_no_second_place_on_the_disk(tmp_path: Path, vocabulary: Vocabulary) -> None:
    parts = two_parts(tmp_path, vocabulary)
    build_corpus(parts, tmp_path / "shards", vocabulary, tmp_path / "manifest.tsv")
    files = [p for p in (tmp_path / "shards").rglob("*.npy") if p.name != "kept.npy"]
    assert files
    assert all(p.stat().st_nlink == 2 for p in files)


def test_a_source_that_is_added_leaves_the_others_as_they_are(tmp_path: Path, vocabulary: Vocabulary) -> None:
    parts = two_parts(tmp_path, vocabulary)
    build_corpus(parts[:1], tmp_path / "one", vocabulary, tmp_path / "manifest.tsv")
    before = contents(parts[0])
    build_corpus(parts, tmp_path / "two", vocabulary, tmp_path / "manifest.tsv")
    assert contents(parts[0]) == before
    assert (ShardStore(tmp_path / "two").rows(np.arange(2)) != ShardStore(tmp_path / "one").rows(np.arange(2))).nnz == 0


def test_a_source_of_another_vocabulary_is_refused(
    tmp_path: Path, source_file: Path, vocabulary: Vocabulary, annotation: Path
) -> None:
    part = write_file_part(source_file, tmp_path / "one", vocabulary, SOURCE, minimum_genes=2)
    other = build_vocabulary(annotation, None, None, 4)
    with pytest.raises(VocabularyMismatchError, match=f"{vocabulary.hash}.*{other.hash}"):
        build_corpus([part], tmp_path / "shards", other, tmp_path / "manifest.tsv")
    assert not (tmp_path / "shards").exists()
