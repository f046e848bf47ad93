"""What users bring that cannot be used, or only just: one error with what was found, expected and to do, or a count."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from corpus_files import counts_of, coverage_of, write_file_part

from sclong.cells.h5ad import read_expression
from sclong.cells.normalize import check_counts, log1p_cp10k
from sclong.config.sections import CorpusSource
from sclong.corpus.assemble import detection_table
from sclong.corpus.source import file_dataset, read_pieces, require_wanted
from sclong.errors import InputDataError, SclongError, VocabularyMismatchError
from sclong.genes.align import align_genes
from sclong.genes.vocabulary import COLUMNS, Vocabulary, read_annotation, require_same_vocabulary

N = 40
COUNTS = np.random.default_rng(0).poisson(2.0, size=(6, N)).astype(np.float32)


def ids(prefix: str = "ENSG") -> list[str]:
    return [f"{prefix}{i:011d}" for i in range(N)]


@pytest.fixture
def vocabulary() -> Vocabulary:
    table = pd.DataFrame({"index": range(N), "ensembl_id": ids(), "symbol": [f"SYM{i}" for i in range(N)]})
    table = table.assign(biotype="protein_coding", aliases="", entrez_id=[str(i) for i in range(N)])
    return Vocabulary(table[list(COLUMNS)])


def write(path: Path, values: np.ndarray = COUNTS, names: list[str] | None = None) -> Path:
    obs = pd.DataFrame({"donor_id": list("aabbcc")}, index=[f"c{i}" for i in range(len(values))])
    ad.AnnData(values, obs, pd.DataFrame(index=names or ids())).write_h5ad(path)
    return path


def refused(call: Callable[[], object], kind: type[SclongError] = InputDataError) -> SclongError:
    """Return the error of a call, having looked that it has its three parts, each in words."""
    with pytest.raises(kind) as caught:
        call()
    assert type(caught.value) is kind
    assert all(len(part) > 5 for part in (caught.value.found, caught.value.expected, caught.value.action))
    return caught.value


# -------------------- gene names


@pytest.mark.parametrize(
    ("names", "found", "action"),
    [
        ([f"{1000 + i}_at" for i in range(N)], "probe ids ('1000_at'", "gene_column"),
        (ids("ENSMUSG"), "mouse Ensembl ids", "orthologues"),
        ([f"Sym{'abcdefghij'[i % 10]}{i}" for i in range(N)], "title-case symbols, as mouse genes have", "orthologues"),
        (ids("ENST"), "of transcripts", "gene_column"),
        ([f"peak{i}" for i in range(N)], "0 of 40 gene names", "gene_column"),
        ([str(i) for i in range(N)], "running numbers", "gene_column"),  # would pass for Entrez ids
        ([], "no gene names", "var_names"),
    ],
)
def test_wrong_gene_names(vocabulary: Vocabulary, names: list[str], found: str, action: str) -> None:
    error = refused(lambda: align_genes(names, vocabulary))
    assert found in error.found
    assert action in error.action


def test_mouse_is_named_even_if_some_symbols_are_shared(vocabulary: Vocabulary) -> None:
    names = [f"SYM{i}" for i in range(10)] + [f"Gene{'abcdefghij'[i % 10]}" for i in range(30)]
    assert "mouse" in refused(lambda: align_genes(names, vocabulary)).found


@pytest.mark.parametrize(
    ("names", "counted"),
    [
        ([f"{i}.12" for i in ids()], {"with_version": N, "with_blanks": 0, "duplicated": 0}),
        ([f" {i} " for i in ids()], {"with_version": 0, "with_blanks": N, "duplicated": 0}),
        ([*ids()[:-1], ids()[0]], {"with_version": 0, "with_blanks": 0, "duplicated": 1}),
    ],
)
def test_names_that_are_untidy_but_work(vocabulary: Vocabulary, names: list[str], counted: dict[str, int]) -> None:
    alignment = align_genes(names, vocabulary)
    assert (alignment.positions >= 0).all()
    assert {key: alignment.report[key] for key in counted} == counted


def test_duplicated_genes_are_summed_and_counted(tmp_path: Path, vocabulary: Vocabulary) -> None:
    path = write(tmp_path / "x.h5ad", names=[*ids()[:-1], ids()[0]])
    part = write_file_part(path, tmp_path / "out", vocabulary, minimum_genes=1)
    out = counts_of(part).toarray()
    np.testing.assert_array_equal(out[:, 0], COUNTS[:, 0] + COUNTS[:, -1])
    assert out.sum() == COUNTS.sum()
    assert coverage_of(part)["duplicated"] == 1


def read_all(path: Path, source: CorpusSource) -> None:
    dataset = file_dataset(path, source)
    stream = dataset.open()
    pieces = list(read_pieces(dataset, stream))
    require_wanted(dataset, stream.n_cells, sum(int((~piece.wanted).sum()) for piece in pieces))


# -------------------- values


def with_value(value: float) -> np.ndarray:
    values = COUNTS.copy()
    values[3, 5] = value
    return values


@pytest.mark.parametrize(
    ("values", "found"),
    [
        (with_value(-1), "1 negative values, the lowest -1"),
        (with_value(np.nan), "1 values are NaN or infinite"),
        (with_value(np.inf), "1 values are NaN or infinite"),
        (with_value(2.5), "not integers (for example 2.5"),
        (COUNTS * 1e3 / 7, "not integers"),
        (log1p_cp10k(COUNTS), "looks log-normalised already"),
        (log1p_cp10k(COUNTS).toarray() / np.log(2), "looks log-normalised already"),
    ],
)
def test_values_that_are_no_counts(values: np.ndarray, found: str) -> None:
    error = refused(lambda: check_counts(values, "the file"))
    assert error.found.startswith("the file: ")
    assert found in error.found
    assert "counts" in error.expected or "non-negative" in error.expected


def test_a_source_says_which_matrix_holds_no_counts(tmp_path: Path) -> None:
    path = write(tmp_path / "x.h5ad", log1p_cp10k(COUNTS).toarray())
    error = refused(lambda: read_all(path, CorpusSource(name="x", input="file:x")))
    assert f"{path} (X): looks log-normalised" in error.found


def test_empty_cells_are_dropped_and_counted(tmp_path: Path, vocabulary: Vocabulary) -> None:
    values = COUNTS.copy()
    values[[1, 4]] = 0
    path = write(tmp_path / "x.h5ad", values)
    part = write_file_part(path, tmp_path / "out", vocabulary, minimum_genes=1)
    coverage = coverage_of(part)
    assert (coverage["cells_in"], coverage["cells_empty"], coverage["cells_kept"]) == (6, 2, 4)
    assert counts_of(part).shape[0] == 4


def test_no_cell_has_enough_genes(tmp_path: Path, vocabulary: Vocabulary) -> None:
    path = write(tmp_path / "x.h5ad")
    error = refused(lambda: write_file_part(path, tmp_path / "out", vocabulary, minimum_genes=200))
    assert "none of 6 cells is left" in error.found
    assert "6 few_genes" in error.found
    assert "at least 200 genes" in error.expected
    assert "minimum_genes" in error.action
    assert not (tmp_path / "out").exists()


# -------------------- files


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.95])
def test_a_truncated_h5ad(tmp_path: Path, share: float) -> None:
    path = write(tmp_path / "x.h5ad")
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    error = refused(lambda: read_expression(path))
    assert str(path) in error.found


@pytest.mark.parametrize("format", ["h5ad", "10x_h5", "csv"])
@pytest.mark.parametrize("content", [b"", b"<html><body>404 Not Found</body></html>", b"\x00\xff" * 500])
def test_a_file_that_is_something_else(tmp_path: Path, format: str, content: bytes) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes(content)
    assert str(path) in refused(lambda: read_expression(path, format)).found


def test_a_missing_file(tmp_path: Path) -> None:
    assert "no such file" in refused(lambda: read_expression(tmp_path / "x.h5ad")).found


def test_a_table_with_text(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("cell,SYM1,kind\nc1,3,T\nc2,4,B\n")
    assert "columns 'kind' hold text" in refused(lambda: read_expression(tmp_path / "x.csv", "csv")).found


@pytest.mark.parametrize("key", ["donor_column", "cell_type_column"])
def test_a_missing_column_of_obs(tmp_path: Path, key: str) -> None:
    path = write(tmp_path / "x.h5ad")
    error = refused(lambda: read_all(path, CorpusSource(name="lung", input="file:x", **{key: "donor"})))
    assert "obs has no column 'donor'" in error.found
    assert "'lung'" in error.expected
    assert error.action == f"write {key}: donor_id"


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("donor == 'a'", "cannot be evaluated"),
        ("donor_id ==", "cannot be evaluated"),
        ("donor_id == 'z'", "keeps none of 6 cells"),
        ("donor_id", "not true or false"),
    ],
)
def test_a_bad_keep_cells(tmp_path: Path, query: str, found: str) -> None:
    path = write(tmp_path / "x.h5ad")
    error = refused(lambda: read_all(path, CorpusSource(name="x", input="file:x", keep_cells=query)))
    assert found in error.found


def test_an_annotation_without_its_columns(tmp_path: Path) -> None:
    (tmp_path / "genes.csv").write_text("gene_id,gene_names,biotype,chromosome\nENSG00000000001,A,x,1\n")
    assert "rename 'gene_names' to 'gene_name'" in refused(lambda: read_annotation(tmp_path / "genes.csv")).action


def test_no_source_at_all() -> None:
    assert "corpus.sources" in refused(lambda: detection_table([])).action


# -------------------- vocabulary


@pytest.mark.parametrize(
    "edit",
    [
        lambda lines: lines[:-1],
        lambda lines: [*lines[:-2], lines[-1], lines[-2]],
        lambda lines: [*lines[:-1], lines[-1].replace("ENSG00000000039", "ENSG00000000139")],
        lambda lines: [line for line in lines if not line.startswith("# hash")],
        lambda lines: [line for line in lines if not line.startswith("# ")],
    ],
    ids=["a gene less", "order", "another id", "no hash", "no header"],
)
def test_an_edited_vocabulary(tmp_path: Path, vocabulary: Vocabulary, edit: Callable[[list[str]], list[str]]) -> None:
    path = tmp_path / "vocabulary.tsv"
    vocabulary.write(path)
    path.write_text("".join(edit(path.read_text().splitlines(keepends=True))))
    error = refused(lambda: Vocabulary.read(path), VocabularyMismatchError)
    assert str(path) in error.found
    assert "the file was edited" in error.action


def test_a_vocabulary_with_a_gene_twice(tmp_path: Path, vocabulary: Vocabulary) -> None:
    path = tmp_path / "vocabulary.tsv"
    vocabulary.write(path)
    path.write_text(path.read_text() + path.read_text().splitlines()[-1] + "\n")
    assert "'ENSG00000000039' appear twice" in refused(lambda: Vocabulary.read(path)).found


def test_shards_of_another_vocabulary(vocabulary: Vocabulary) -> None:
    other = Vocabulary(vocabulary.table.iloc[:-1])
    error = refused(
        lambda: require_same_vocabulary(vocabulary.hash, "the corpus", other.hash, "the vocabulary"),
        VocabularyMismatchError,
    )
    assert vocabulary.hash in error.found
    assert other.hash in error.found
