"""Cells of benchmarks are found in the corpus by their counts, and only they."""

from __future__ import annotations

from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from corpus_files import counts_of, write_file_part
from scipy import sparse
from scipy.stats import rankdata

from sclong.cells.hash import among, cell_hashes, first_of_equals
from sclong.cells.normalize import log1p_cp10k
from sclong.corpus.assemble import build_corpus
from sclong.corpus.leakage import (
    LEAST_GENES,
    benchmark_cells,
    find_overlap,
    leakage_table,
    ranks,
    recover_counts,
    require_compared,
)
from sclong.errors import InputDataError
from sclong.genes.vocabulary import COLUMNS, Vocabulary

N = 600
COUNTS = np.random.default_rng(0).poisson(2.0, size=(8, N)).astype(np.float32)
IDS = [f"ENSG{i:011d}" for i in range(N)]


@pytest.fixture
def vocabulary() -> Vocabulary:
    table = pd.DataFrame({"index": range(N), "ensembl_id": IDS, "symbol": [f"SYM{i}" for i in range(N)]})
    return Vocabulary(table.assign(biotype="protein_coding", aliases="", entrez_id="")[list(COLUMNS)])


def write(path: Path, values: np.ndarray, names: list[str], value_kind: str = "counts") -> Path:
    path.parent.mkdir(exist_ok=True)
    obs = pd.DataFrame(index=[f"c{i}" for i in range(len(values))])
    uns = {"value_kind": value_kind}
    ad.AnnData(sparse.csr_matrix(values), obs, pd.DataFrame(index=names), uns=uns).write_h5ad(path)
    return path


@pytest.fixture
def part(tmp_path: Path, vocabulary: Vocabulary) -> Path:
    path = write(tmp_path / "source.h5ad", COUNTS, IDS)
    return write_file_part(path, tmp_path / "parts" / "x", vocabulary, minimum_genes=1, cells_per_shard=3)


def overlap(tmp_path: Path, vocabulary: Vocabulary, part: Path, expression: Path, processes: int = 1) -> pd.DataFrame:
    benchmark_cells(expression.parent, vocabulary, tmp_path / "cells.npz")
    find_overlap([part], tmp_path / "cells.npz", tmp_path / "overlap.parquet", processes)
    return pd.read_parquet(tmp_path / "overlap.parquet")


def places(table: pd.DataFrame) -> list[tuple[str, int]]:
    return list(zip(table["shard"], table["place"], strict=True))


@pytest.mark.parametrize("processes", [1, 2])
def test_cells_are_found_with_fewer_genes_in_another_order(
    tmp_path: Path, vocabulary: Vocabulary, part: Path, processes: int
) -> None:
    genes = np.random.default_rng(1).permutation(N)[:500]
    values = COUNTS[[1, 7]][:, genes]
    expression = write(tmp_path / "b" / "expression.h5ad", values, [f"SYM{i}" for i in genes])
    found = overlap(tmp_path, vocabulary, part, expression, processes)
    assert places(found) == [("shard_00000", 1), ("shard_00002", 1)]
    assert set(found["part"]) == {"x"}


def test_some_genes_that_went_elsewhere_do_not_hide_a_cell(tmp_path: Path, vocabulary: Vocabulary, part: Path) -> None:
    values = COUNTS[:2].copy()
    values[0, [5, 13, 40]] += 1
    found = overlap(tmp_path, vocabulary, part, write(tmp_path / "b" / "expression.h5ad", values, IDS))
    assert places(found) == [("shard_00000", 0), ("shard_00000", 1)]


def test_a_second_file_with_more_cells_counts(tmp_path: Path, vocabulary: Vocabulary, part: Path) -> None:
    write(tmp_path / "b" / "cells.h5ad", COUNTS[[4]], IDS)
    found = overlap(tmp_path, vocabulary, part, write(tmp_path / "b" / "expression.h5ad", COUNTS[[0]], IDS))
    assert places(found) == [("shard_00000", 0), ("shard_00001", 1)]


def test_a_benchmark_without_cells(tmp_path: Path, vocabulary: Vocabulary, part: Path) -> None:
    assert overlap(tmp_path, vocabulary, part, write(tmp_path / "b" / "expression.h5ad", COUNTS[:0], IDS)).empty
    with np.load(tmp_path / "cells.npz") as file:
        assert "0 cells" in str(file["status"])


def test_another_cell_is_another_cell(tmp_path: Path, vocabulary: Vocabulary, part: Path) -> None:
    values = COUNTS[:2].copy()
    values[0, :16] += 1  # a gene of each of the sets that are compared
    found = overlap(tmp_path, vocabulary, part, write(tmp_path / "b" / "expression.h5ad", values, IDS))
    assert places(found) == [("shard_00000", 1)]


def test_cells_of_few_genes_are_not_compared(tmp_path: Path, vocabulary: Vocabulary, part: Path) -> None:
    expression = write(tmp_path / "b" / "expression.h5ad", COUNTS[:, : LEAST_GENES - 1], IDS[: LEAST_GENES - 1])
    assert overlap(tmp_path, vocabulary, part, expression).empty
    with np.load(tmp_path / "cells.npz") as file:
        assert str(file["status"]).startswith("not compared: no cell with values of 50 genes")


def test_counts_are_recovered_from_log_normalised_values(tmp_path: Path, vocabulary: Vocabulary, part: Path) -> None:
    logged = log1p_cp10k(COUNTS)
    assert (recover_counts(logged).toarray() == COUNTS).all()
    found = overlap(
        tmp_path, vocabulary, part, write(tmp_path / "b" / "expression.h5ad", logged.toarray(), IDS, "log1p_cp10k")
    )
    assert len(found) == len(COUNTS)
    assert status_of(tmp_path) == "compared"
    noise = logged.toarray() * np.random.default_rng(2).uniform(0.9, 1.1, (len(COUNTS), N))
    assert recover_counts(noise).nnz == 0


def status_of(tmp_path: Path) -> str:
    with np.load(tmp_path / "cells.npz") as file:
        return str(file["status"])


SIZE_FACTORS = np.random.default_rng(3).uniform(0.2, 5.0, (len(COUNTS), 1)).astype(np.float32)
NORMALISED = {
    "log1p, size factors of a pool": np.log1p(COUNTS / SIZE_FACTORS),
    "log2": np.log2(1 + COUNTS / SIZE_FACTORS),
    "square root": np.sqrt(COUNTS / SIZE_FACTORS),
    "counts per million, no logarithm": 1e6 * COUNTS / COUNTS.sum(1, keepdims=True),
    "rounded, as in a text file": np.round(np.log1p(1e4 * COUNTS / COUNTS.sum(1, keepdims=True)), 4),
}


@pytest.mark.parametrize("how", NORMALISED)
def test_normalised_copies_are_found_by_ranks(tmp_path: Path, vocabulary: Vocabulary, part: Path, how: str) -> None:
    genes = np.random.default_rng(1).permutation(N)[:500]
    others = np.random.default_rng(9).poisson(2.0, size=(5, 500))
    values = np.vstack([np.log1p(others), NORMALISED[how][[1, 7]][:, genes]]).astype(np.float32)
    expression = write(tmp_path / "b" / "expression.h5ad", values, [IDS[i] for i in genes], "nonnegative")
    assert places(overlap(tmp_path, vocabulary, part, expression)) == [("shard_00000", 1), ("shard_00002", 1)]
    assert status_of(tmp_path) == "compared by ranks"


def test_log_values_whose_counts_are_lost_are_found_by_ranks(
    tmp_path: Path, vocabulary: Vocabulary, part: Path
) -> None:
    values = log1p_cp10k(COUNTS).toarray()
    values[3] = np.log1p(10 * np.expm1(values[3]) ** 0.9)  # no multiple of whole numbers any more
    expression = write(tmp_path / "b" / "expression.h5ad", values, IDS, "log1p_cp10k")
    assert len(overlap(tmp_path, vocabulary, part, expression)) == len(COUNTS)
    assert status_of(tmp_path) == "compared by ranks"


def test_values_changed_gene_by_gene_are_not_found(tmp_path: Path, vocabulary: Vocabulary, part: Path) -> None:
    lengths = np.random.default_rng(4).uniform(1, 2, N)
    expression = write(tmp_path / "b" / "expression.h5ad", COUNTS / lengths, IDS, "nonnegative")
    assert overlap(tmp_path, vocabulary, part, expression).empty


def test_ranks_are_those_of_scipy() -> None:
    values = np.random.default_rng(5).poisson(1.5, size=(20, 40)).astype(float) ** 0.5
    values[3] = 0
    expected = np.array([rankdata(np.where(row > 0, row, 0), "dense") - (row.min() == 0) for row in values])
    assert (ranks(sparse.csr_matrix(values)).toarray() == np.where(values > 0, expected, 0)).all()


def test_a_corpus_that_was_not_compared_with_what_it_leaves_out_is_refused(
    tmp_path: Path, vocabulary: Vocabulary
) -> None:
    for name, values in (("good", COUNTS), ("bad", COUNTS[:, : LEAST_GENES - 1])):
        expression = write(tmp_path / name / "expression.h5ad", values, IDS[: values.shape[1]])
        benchmark_cells(expression.parent, vocabulary, tmp_path / f"{name}.npz")
    require_compared({"good": tmp_path / "good.npz"})
    with pytest.raises(InputDataError, match=r"(?s)bad .not compared.*exclude_benchmarks") as caught:
        require_compared({name: tmp_path / f"{name}.npz" for name in ("good", "bad")})
    assert "good" not in caught.value.found


def test_excluded_cells_are_gone_and_the_audit_says_so(tmp_path: Path, vocabulary: Vocabulary, part: Path) -> None:
    names = ("inside", "outside")
    for name, rows in zip(names, ([0, 3, 4], [6]), strict=True):
        expression = write(tmp_path / name / "expression.h5ad", COUNTS[rows], IDS)
        benchmark_cells(expression.parent, vocabulary, tmp_path / f"{name}.npz")
        find_overlap([part], tmp_path / f"{name}.npz", tmp_path / f"{name}.parquet")
    build_corpus(
        [part], tmp_path / "shards", vocabulary, tmp_path / "manifest.tsv", overlaps=[tmp_path / "inside.parquet"]
    )
    assert (counts_of(tmp_path / "shards").toarray() == COUNTS[[1, 2, 5, 6, 7]]).all()
    assert pd.read_csv(tmp_path / "manifest.tsv", sep="\t").loc[0, "cells_of_benchmarks"] == 3
    leakage_table(
        {name: [f"bench_{name}"] for name in names},
        {name: tmp_path / f"{name}.npz" for name in names},
        {name: tmp_path / f"{name}.parquet" for name in names},
        ["inside"],
        {"absent": "no file"},
        tmp_path / "shards",
        tmp_path / "leakage.tsv",
    )
    table = pd.read_csv(tmp_path / "leakage.tsv", sep="\t").set_index("benchmarks")
    columns = ["cells_in_sources", "excluded", "cells_in_corpus"]
    assert table.loc["bench_inside", columns].tolist() == [3, "yes", 0]
    assert table.loc["bench_outside", columns].tolist() == [1, "no", 1]
    assert table.loc["bench_inside", "sources"] == "x: 3"
    assert table.loc["absent", "status"] == "not compared: no file"


def test_hashes() -> None:
    counts = sparse.csr_matrix(COUNTS)
    hashes = cell_hashes(counts)
    assert len(np.unique(hashes, axis=0)) == len(COUNTS)
    with_zeros = sparse.csr_matrix(
        (np.append(counts.data, 0), np.append(counts.indices, 0), np.append(counts.indptr[:-1], counts.nnz + 1)),
        shape=counts.shape,
    )
    assert (cell_hashes(with_zeros) == hashes).all()  # stored zeros and the order of entries do not count
    assert (cell_hashes(counts.astype(np.int64)) == hashes).all()
    swapped = COUNTS[:, ::-1]
    assert not among(cell_hashes(sparse.csr_matrix(swapped)), hashes).any()
    twice = np.vstack([hashes, hashes[::-1]])
    assert first_of_equals(twice).tolist() == [True] * 8 + [False] * 8
    assert among(twice, hashes[[2]]).nonzero()[0].tolist() == [2, 13]
