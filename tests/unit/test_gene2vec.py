"""Gene2Vec: files in, rows in the vocabulary's order, and a model that starts from them."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file
from toy_training import ARCH, CONFIG, toy_corpus, toy_graph, toy_vocabulary

from sclong.checkpoint.folder import initialise, load_checkpoint
from sclong.errors import CheckpointError, ConfigError, InputDataError, VocabularyMismatchError
from sclong.genes.gene2vec import GeneVectors, build_gene_vectors, principal_components, read_vectors
from sclong.genes.vocabulary import Vocabulary
from sclong.plan.plan import make_plan
from sclong.train.loop import pretrain

DIM = ARCH.base_dim


def rows_of(n: int, dim: int = DIM, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(1.0, 0.5, (n, dim)).astype(np.float32)


def write_text(path: Path, names: list[str], rows: np.ndarray, header: bool = True, between: str = " ") -> Path:
    lines = [f"{len(names)} {rows.shape[1]}"] if header else []
    lines += [name + between + " ".join(f"{v:.9g}" for v in row) for name, row in zip(names, rows, strict=True)]
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture
def vocabulary() -> Vocabulary:
    """Toy genes; TOY3 was called OLD3, and TOY4 and TOY5 were both called BOTH."""
    table = toy_vocabulary().table.copy()
    table.loc[3, "aliases"] = "OLD3"
    table.loc[[4, 5], "aliases"] = "BOTH"
    return Vocabulary(table, {})


# ------------------------------------------------------------------ files


@pytest.mark.parametrize("header", [True, False])
@pytest.mark.parametrize("between", [" ", "\t"])
def test_text_is_read_with_and_without_its_first_line(tmp_path: Path, header: bool, between: str) -> None:
    rows = rows_of(3)
    names, found = read_vectors(write_text(tmp_path / "v.txt", ["A", "B", "C"], rows, header, between))
    assert names == ["A", "B", "C"]
    np.testing.assert_allclose(found, rows, rtol=1e-6)
    assert found.dtype == np.float32


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("3 2\nA 1 2\nB 1 2\n", "its first line says 3 of 2"),
        ("2 2\nA 1 2 3\nB 1 2 3\n", "its first line says 2 of 2"),
        ("A 1 2\nB 1\n", "line 2 ('B'): 1 numbers, 2 on the first"),
        ("A 1 2\nB 1 x\n", "line 2 ('B')"),
        ("A 1 2\nB 1 nan\n", "row 1 (from 0) is not finite"),
        ("A\nB\n", "line 1 ('A')"),
        ("", "0 vectors"),
    ],
)
def test_damaged_text_is_refused_with_the_place(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "v.txt"
    path.write_text(text)
    with pytest.raises(InputDataError) as error:
        read_vectors(path)
    assert says in str(error.value)


def test_arrays_are_read_by_names_or_in_the_vocabularys_order(tmp_path: Path, vocabulary: Vocabulary) -> None:
    rows = rows_of(len(vocabulary))
    np.save(tmp_path / "v.npy", rows.astype(np.float64))
    in_order = build_gene_vectors(tmp_path / "v.npy", None, vocabulary, width=DIM)
    np.testing.assert_array_equal(in_order.vectors, rows)
    assert in_order.known.all()

    names = [f"TOY{i}" for i in reversed(range(len(vocabulary)))]
    (tmp_path / "names.txt").write_text("\n".join(names) + "\n")
    by_name = build_gene_vectors(tmp_path / "v.npy", tmp_path / "names.txt", vocabulary, width=DIM)
    np.testing.assert_array_equal(by_name.vectors, rows[::-1])

    np.save(tmp_path / "short.npy", rows[:-1])
    with pytest.raises(InputDataError, match="39 rows without names"):
        build_gene_vectors(tmp_path / "short.npy", None, vocabulary, width=DIM)
    with pytest.raises(InputDataError, match="names 40 genes"):
        read_vectors(tmp_path / "short.npy", tmp_path / "names.txt")
    np.save(tmp_path / "objects.npy", np.array([{"a": 1}]), allow_pickle=True)
    with pytest.raises(InputDataError, match="pickle"):
        read_vectors(tmp_path / "objects.npy")


def test_names_are_aligned_and_a_current_name_wins(tmp_path: Path, vocabulary: Vocabulary) -> None:
    names = ["OLD3", "TOY3", "TOY1", "TOY1", "BOTH", "NOSUCH", "ENSG90000000007.2"]
    rows = rows_of(len(names))
    made = build_gene_vectors(write_text(tmp_path / "v.txt", names, rows), None, vocabulary, width=DIM)
    assert np.flatnonzero(made.known).tolist() == [1, 3, 7]
    np.testing.assert_allclose(made.vectors[[1, 3, 7]], rows[[2, 1, 6]], rtol=1e-6)
    assert not made.vectors[~made.known].any()
    assert made.metadata["genes_with_vector"] == 3 and made.metadata["alignment"]["ambiguous"] == 1

    old = build_gene_vectors(write_text(tmp_path / "o.txt", names[:1], rows[:1]), None, vocabulary, width=DIM)
    assert np.flatnonzero(old.known).tolist() == [3]


def test_a_folder_comes_back_as_it_was_and_is_the_same_bytes(tmp_path: Path, vocabulary: Vocabulary) -> None:
    path = write_text(tmp_path / "v.txt", ["TOY1", "TOY2"], rows_of(2))
    made = build_gene_vectors(path, None, vocabulary, width=DIM)
    for name in ("a", "b"):
        made.write(tmp_path / name, vocabulary)
    again = GeneVectors.read(tmp_path / "a")
    np.testing.assert_array_equal(again.vectors, made.vectors)
    assert again.metadata == made.metadata and again.describe().startswith("2 of 40 genes, v.txt (sha256 ")
    assert (tmp_path / "a/gene_vectors.npz").read_bytes() == (tmp_path / "b/gene_vectors.npz").read_bytes()
    (tmp_path / "a/gene_vectors.npz").write_bytes(b"PK")
    with pytest.raises(InputDataError, match="run rule gene2vec"):
        GeneVectors.read(tmp_path / "a")


# ------------------------------------------------------------------ rows of a table


def test_genes_without_a_vector_get_numbers_of_the_same_size(vocabulary: Vocabulary) -> None:
    known = np.arange(4000) % 2 == 0
    rows = rows_of(4000) * np.arange(1, DIM + 1, dtype=np.float32)
    vectors = GeneVectors(np.where(known[:, None], rows, 0).astype(np.float32), known)
    table = vectors.table(DIM, seed=1)
    assert table.shape == (4001, DIM) and table.dtype == np.float32
    np.testing.assert_array_equal(table[:-1][known], rows[known])
    assert not table[-1].any()
    drawn = table[:-1][~known]
    np.testing.assert_allclose(drawn.mean(0), rows[known].mean(0), rtol=0.1)
    np.testing.assert_allclose(drawn.std(0), rows[known].std(0), rtol=0.1)
    np.testing.assert_array_equal(table, vectors.table(DIM, seed=1))
    assert (vectors.table(DIM, seed=2)[:-1][~known] != drawn).all()


def test_another_width_is_an_error_unless_it_is_to_be_reduced(tmp_path: Path, vocabulary: Vocabulary) -> None:
    wide = write_text(tmp_path / "wide.txt", [f"TOY{i}" for i in range(30)], rows_of(30, dim=2 * DIM))
    with pytest.raises(ConfigError) as error:
        build_gene_vectors(wide, None, vocabulary, width=DIM)
    assert "16 dimensions" in str(error.value) and "base_dim is 8" in str(error.value)
    assert "gene2vec.reduce: true" in str(error.value) and "gene2vec.vectors: null" in str(error.value)
    made = build_gene_vectors(wide, None, vocabulary, width=DIM, reduce=True)
    assert made.vectors.shape[1] == 2 * DIM and made.table(DIM, 0).shape[1] == DIM
    narrow = write_text(tmp_path / "narrow.txt", [f"TOY{i}" for i in range(30)], rows_of(30, dim=4))
    with pytest.raises(ConfigError, match="4 dimensions"):
        build_gene_vectors(narrow, None, vocabulary, width=DIM, reduce=True)


def test_reduction_keeps_the_distances_that_fit() -> None:
    """Points of a plane in ten dimensions are as far from each other in the two components."""
    plane = rows_of(50, 2).astype(float) @ np.linalg.qr(rows_of(10, 10, seed=1))[0][:2] + 7
    small = principal_components(plane, 2)

    def distances(x: np.ndarray) -> np.ndarray:
        return np.linalg.norm(x[:, None] - x[None], axis=2)

    np.testing.assert_allclose(distances(small), distances(plane), atol=1e-5)


# ------------------------------------------------------------------ the model


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory):
    """A corpus, and gene vectors for 25 of its 40 genes."""
    folder = tmp_path_factory.mktemp("start")
    corpus = toy_corpus(folder)
    text = write_text(folder / "v.txt", [f"TOY{i}" for i in range(25)], rows_of(25))
    build_gene_vectors(text, None, corpus[1], width=DIM).write(folder / "gene2vec", corpus[1])
    return corpus, folder / "gene2vec", folder


def test_both_tables_start_from_the_vectors_and_nothing_else_changes(start, tmp_path: Path) -> None:
    (_, vocabulary, graph), gene2vec, _ = start
    initialise(tmp_path / "with", ARCH, vocabulary, graph, 0, gene2vec)
    initialise(tmp_path / "without", ARCH, vocabulary, graph, 0)
    weights, plain = (load_file(tmp_path / name / "model.safetensors") for name in ("with", "without"))
    tables = {"pos_emb.emb.weight", "go_conv.emb.weight"}
    assert {name for name in plain if not np.array_equal(weights[name], plain[name])} == tables
    expected = GeneVectors.read(gene2vec).table(DIM, 0)
    for name in tables:
        np.testing.assert_array_equal(weights[name], expected)
        assert not weights[name][-1].any()
    assert "gene2vec: 25 of 40 genes, v.txt" in (tmp_path / "with/README.md").read_text()
    assert "gene2vec: not used" in (tmp_path / "without/README.md").read_text()
    assert load_checkpoint(tmp_path / "with").model.pos_emb.emb.weight.dtype.is_floating_point


def test_pretraining_and_the_untrained_control_start_from_the_same_weights(start, tmp_path: Path) -> None:
    corpus, gene2vec, _ = start
    config = CONFIG.model_copy(update={"steps": 0})
    pretrain(*corpus, ARCH, config, tmp_path / "work", tmp_path / "trained", gene2vec)
    initialise(tmp_path / "random", ARCH, corpus[1], corpus[2], config.seed, gene2vec)
    one, other = (load_file(tmp_path / name / "model.safetensors") for name in ("trained", "random"))
    assert all(np.array_equal(one[name], other[name]) for name in one)


def test_a_training_does_not_go_on_with_other_vectors(start, tmp_path: Path) -> None:
    corpus, gene2vec, _ = start
    config = CONFIG.model_copy(update={"steps": 1})
    pretrain(*corpus, ARCH, config, tmp_path / "work", tmp_path / "out", gene2vec)
    with pytest.raises(CheckpointError, match="gene2vec"):
        pretrain(*corpus, ARCH, config, tmp_path / "work", tmp_path / "out")


def test_without_vectors_the_model_is_as_it_was(start, tmp_path: Path) -> None:
    (_, vocabulary, graph), _, _ = start
    none = build_gene_vectors(None, None, vocabulary, width=DIM)
    assert not none.used and none.describe() == "not used"
    none.write(tmp_path / "none", vocabulary)
    initialise(tmp_path / "with", ARCH, vocabulary, graph, 0, tmp_path / "none")
    initialise(tmp_path / "without", ARCH, vocabulary, graph, 0)
    one, other = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("with", "without"))
    assert one == other


def test_vectors_of_another_vocabulary_are_refused(start, tmp_path: Path) -> None:
    _, gene2vec, _ = start
    other = toy_vocabulary(30)
    toy_graph(other).write(tmp_path / "go.npz")
    with pytest.raises(VocabularyMismatchError):
        initialise(tmp_path / "x", ARCH, other, tmp_path / "go.npz", 0, gene2vec)


# ------------------------------------------------------------------ the plan


@pytest.mark.parametrize("null", [None, "null"])  # in config.yaml, and as Snakemake hands over --config
def test_null_turns_the_demos_vectors_off_and_their_row_is_not_applicable(root: Path, null: str | None) -> None:
    cwd = Path.cwd()
    os.chdir(root)
    try:
        on, off = make_plan({}), make_plan({"gene2vec": {"vectors": null}})
    finally:
        os.chdir(cwd)
    assert on.config.gene2vec.vectors == "world:gene2vec.txt" and off.config.gene2vec.vectors is None
    assert "gene2vec" in on.rows.models_of("gene_pairs") and "gene2vec" not in off.rows.models_of("gene_pairs")
    reasons = {(b, m): why for b, m, why in off.rows.not_applicable()}
    assert reasons["gene_pairs", "gene2vec"] == "the configuration does not set gene2vec.vectors"
    assert ("gene_pairs", "gene2vec") not in {(b, m) for b, m, _ in on.rows.not_applicable()}
