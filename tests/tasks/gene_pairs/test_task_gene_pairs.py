"""Pairs of genes: what is planted is found, and what only counts genes is shown for what it is."""

from __future__ import annotations

import os
from itertools import pairwise
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
from toy_training import ARCH, toy_graph, toy_vocabulary

from sclong.benchmark.controls import Constant, Shuffled, Truth
from sclong.benchmark.features import read_features, write_features
from sclong.benchmark.gene_tables import CheckpointTable, Gene2Vec, RandomGeneTable
from sclong.benchmark.names import output_names
from sclong.benchmark.problem import Predictions
from sclong.benchmark.sclong import ScLong
from sclong.benchmark.split import check_split
from sclong.checkpoint.folder import initialise, load_checkpoint
from sclong.errors import CheckpointError, InputDataError
from sclong.genes.gene2vec import build_gene_vectors
from sclong.genes.go_graph import GoGraph
from sclong.genes.vocabulary import build_vocabulary
from sclong.tasks.gene_pairs.classical import GoAnnotationCount, GoSimilarity, GoTermsSvd, PairDegree
from sclong.tasks.gene_pairs.prepare import clean_pairs
from sclong.tasks.gene_pairs.probe import cosine, fit_and_answer, pair_features, standardise_genes
from sclong.tasks.gene_pairs.split import shared_genes
from sclong.tasks.gene_pairs.task import TASK
from sclong.world.gene_vectors import PAIR_FILES
from sclong.world.simulation import simulate

ROLES = {"train": "train", "validation": "valid", "test": "test"}


def inputs_in(folder: Path, prefix: str = "gene_pairs_") -> dict[str, Path]:
    return {
        f"{role}_{kind}s": folder / f"{prefix}{file}_{name}.txt"
        for role, file in ROLES.items()
        for kind, name in (("pair", "text"), ("label", "label"))
    }


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    simulate(folder, only={*PAIR_FILES, "gene2vec.txt", "go.obo", "genes.csv"})
    return folder


@pytest.fixture(scope="module")
def dataset(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("data") / "set"
    out.mkdir()
    inputs = inputs_in(world) | {"obo": world / "go.obo", "annotation": world / "goa.gaf"}
    facts = TASK.prepare(inputs, {}, out)
    assert facts["train"]["pairs"] == facts["train"]["in_file"] == 5000
    return out


@pytest.fixture(scope="module")
def split(dataset: Path) -> pd.DataFrame:
    return TASK.split(dataset, "published", {"held_out_fraction": 0.1}, 1).astype(str)


def problem_of(dataset: Path, split: pd.DataFrame, sees_truth: bool = False):
    (problem,) = TASK.problems(dataset, split, sees_truth=sees_truth)
    return problem


def scores(dataset: Path, split: pd.DataFrame, answer: np.ndarray) -> pd.Series:
    problem = problem_of(dataset, split)
    samples, names = np.array(problem.test_samples), np.array(output_names(problem.outputs, answer.shape[1]))
    found = Predictions(np.array(["0"] * len(samples)), samples, answer, names)
    return TASK.score(dataset, split, found).set_index(["scenario", "metric"])["value"]


def embedded(dataset: Path, split: pd.DataFrame, model, folder: Path, checkpoint: Path | None = None) -> pd.Series:
    """Scores of an embedder, its vectors having been on disk."""
    adata = anndata.read_h5ad(dataset / "expression.h5ad")
    write_features(folder, "m", model.embed(adata, checkpoint=checkpoint, seed=0, batch_size=4), adata)
    return scores(dataset, split, TASK.solve(problem_of(dataset, split), read_features(folder), 0))


# ------------------------------------------------------------------ data and split


def test_evidence_that_contradicts_itself_is_left_out() -> None:
    lines = [("B", "A", 1), ("A", "B", 1), ("A", "C", 1), ("C", "A", 0), ("D", "D", 1), ("A", "D", 0)]
    pairs, facts = clean_pairs(pd.DataFrame(lines, columns=["gene1", "gene2", "label"]))
    assert pairs["pair"].tolist() == ["A|B", "A|D"] and pairs["label"].tolist() == [1, 0]
    assert facts == {"in_file": 6, "pairs": 2, "positive": 1, "self_pairs": 1, "both_labels": 1, "repeated": 1}


def test_files_that_do_not_belong_together_are_refused(world: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    swapped = inputs_in(world)
    swapped["train_labels"] = swapped["test_labels"]
    with pytest.raises(InputDataError, match="5,000 lines"):
        TASK.prepare(swapped, {}, out)
    leaking = inputs_in(world)
    leaking["test_pairs"], leaking["test_labels"] = leaking["train_pairs"], leaking["train_labels"]
    with pytest.raises(InputDataError, match="appear in two of the files"):
        TASK.prepare(leaking, {}, out)
    bad = tmp_path / "bad.txt"
    bad.write_text("A B\nA\n")
    with pytest.raises(InputDataError, match="line 2: 1 names"):
        TASK.prepare(inputs_in(world) | {"train_pairs": bad}, {}, out)


def test_gene_disjoint_test_pairs_share_no_gene_with_training(dataset: Path, split: pd.DataFrame) -> None:
    check_split(split, needs_validation=True)
    pairs = pd.read_csv(dataset / "pairs.tsv", sep="\t", dtype=str, keep_default_na=False).set_index("pair")
    genes = {
        name: set(pairs.loc[rows["sample"], ["gene1", "gene2"]].to_numpy().ravel())
        for name, rows in split.groupby(split["part"] + " " + split["scenario"])
    }
    assert set(genes) == {"train ", "validation ", "test gene_disjoint", "test shared_genes"}
    assert not genes["test gene_disjoint"] & (genes["train "] | genes["validation "])
    assert not genes["validation "] & genes["train "]
    assert genes["test shared_genes"] <= genes["train "]
    assert not split["sample"].duplicated().any()
    counts = split[split["part"] == "test"]["scenario"].value_counts()
    assert counts["gene_disjoint"] == 1200 and counts["shared_genes"] > 450


def test_a_pair_whose_gene_would_be_lost_stays_in_training(tmp_path: Path) -> None:
    """A chain: every gene at an end is in one pair only, which can therefore never be held out."""
    names = [f"G{i}" for i in range(12)]
    chain = [(a, b, i % 2) for i, (a, b) in enumerate(pairwise(names))]
    table = clean_pairs(pd.DataFrame(chain, columns=["gene1", "gene2", "label"]))[0]
    other = clean_pairs(pd.DataFrame([("X", "Y", 1), ("X", "Z", 0)], columns=["gene1", "gene2", "label"]))[0]
    pd.concat([table.assign(file="train"), other.assign(file="test")]).to_csv(
        tmp_path / "pairs.tsv", sep="\t", index=False
    )
    for seed in range(5):
        split = TASK.split(tmp_path, "published", {"held_out_fraction": 0.4}, seed)
        of = table.set_index("pair")
        part = split.set_index("sample")["part"]
        train = of[part[of.index] == "train"]
        held = split[(split["scenario"] == "shared_genes")]["sample"]
        assert (shared_genes(of.loc[held], train) == 2).all()
        assert set(split[split["part"] == "test"]["scenario"]) <= {"shared_genes", "gene_disjoint"}


def test_test_labels_are_hidden_and_the_data_set_has_genes_but_no_cell(dataset: Path, split: pd.DataFrame) -> None:
    problem = problem_of(dataset, split)
    assert np.isnan(problem.targets[problem.rows("test")]).all()
    assert np.isfinite(problem.targets[problem.rows("train")]).all()
    adata = anndata.read_h5ad(dataset / "expression.h5ad")
    assert adata.n_obs == 0 and adata.var_names.tolist() == problem.context.annotated_genes


# ------------------------------------------------------------------ controls


def test_ceiling_and_floors(dataset: Path, split: pd.DataFrame) -> None:
    problem = problem_of(dataset, split)
    assert (scores(dataset, split, Truth().predict(problem_of(dataset, split, True), 0)) == 1).all()
    constant = scores(dataset, split, Constant().predict(problem, 0))
    assert (constant[:, "auroc"] == 0.5).all()
    shuffled = [scores(dataset, split, Shuffled().predict(problem, seed))[:, "auroc"] for seed in range(10)]
    np.testing.assert_allclose(np.mean(shuffled, axis=0), 0.5, atol=0.02)


def test_counting_positive_pairs_goes_far_where_genes_are_shared_and_nowhere_else(
    dataset: Path, split: pd.DataFrame
) -> None:
    found = scores(dataset, split, PairDegree().predict(problem_of(dataset, split), 0))
    assert found["gene_disjoint", "auroc"] == 0.5
    assert found["shared_genes", "auroc"] > 0.8


def test_degree_counts_positive_training_pairs_only(dataset: Path, split: pd.DataFrame) -> None:
    problem = problem_of(dataset, split)
    pairs = pd.read_csv(dataset / "pairs.tsv", sep="\t", dtype=str, keep_default_na=False).set_index("pair")
    train = pairs.loc[split.loc[split["part"] == "train", "sample"]]
    positive = train[train["label"] == "1"]
    row = next(i for i, s in enumerate(split[split["part"] == "test"]["scenario"]) if s == "shared_genes")
    a, b = pairs.loc[problem.test_samples[row], ["gene1", "gene2"]]
    count = [((positive["gene1"] == g) | (positive["gene2"] == g)).sum() for g in (a, b)]
    assert PairDegree().predict(problem, 0)[row, 0] == pytest.approx(np.log1p(count).sum(), rel=1e-5)


def test_go_answers(dataset: Path, split: pd.DataFrame) -> None:
    """Terms of the simulated ontology follow modules, so that similarity tells more than how many terms there are."""
    problem = problem_of(dataset, split)
    count, similarity, svd = (
        scores(dataset, split, m.predict(problem, 0))["gene_disjoint", "auroc"]
        for m in (GoAnnotationCount(), GoSimilarity(), GoTermsSvd())
    )
    assert similarity > count + 0.1 and svd > count + 0.1
    terms = problem.context.go_terms.toarray() > 0
    names = {g: i for i, g in enumerate(problem.context.annotated_genes)}
    a, b = (terms[names[problem.samples[c].iloc[problem.rows("test")[0]]]] for c in ("gene1", "gene2"))
    assert GoSimilarity().predict(problem, 0)[0, 0] == pytest.approx((a & b).sum() / max((a | b).sum(), 1))


# ------------------------------------------------------------------ vectors


def test_planted_vectors_beat_random_ones_on_genes_never_seen(
    world: Path, dataset: Path, split: pd.DataFrame, tmp_path: Path
) -> None:
    vocabulary = build_vocabulary(world / "genes.csv", world / "hgnc.tsv", None, None)
    made = build_gene_vectors(world / "gene2vec.txt", None, vocabulary, width=32)
    assert 0.8 < made.known.mean() < 0.95 and made.metadata["alignment"]["by_previous_or_alias"] > 20
    made.write(tmp_path / "g2v", vocabulary)
    good = embedded(dataset, split, Gene2Vec(), tmp_path / "good", tmp_path / "g2v")
    random = embedded(dataset, split, RandomGeneTable(), tmp_path / "random")
    assert good["gene_disjoint", "auroc"] > 0.7
    assert good["gene_disjoint", "auroc_cosine"] > 0.65
    assert abs(random["gene_disjoint", "auroc"] - 0.5) < 0.08
    assert abs(random["gene_disjoint", "auroc_cosine"] - 0.5) < 0.08

    build_gene_vectors(None, None, vocabulary, width=32).write(tmp_path / "none", vocabulary)
    with pytest.raises(CheckpointError, match="no gene vectors"):
        embedded(dataset, split, Gene2Vec(), tmp_path / "x", tmp_path / "none")


def test_tables_of_a_checkpoint_are_its_weights(tmp_path: Path) -> None:
    vocabulary = toy_vocabulary()
    whole = toy_graph(vocabulary)
    cut = whole.indptr.copy()  # gene 0 without edges
    graph = GoGraph(np.maximum(cut - 2, 0), whole.indices[2:], whole.weights[2:], whole.metadata)
    graph.write(tmp_path / "go.npz")
    initialise(tmp_path / "model", ARCH, vocabulary, tmp_path / "go.npz", 0)
    loaded = load_checkpoint(tmp_path / "model")
    names = ["TOY7", "elsewhere", "ENSG90000000000"]
    adata = anndata.AnnData(np.zeros((0, 3), np.float32), var=pd.DataFrame(index=names))
    adata.uns["value_kind"] = "counts"

    def look(model):
        return model.embed(adata, checkpoint=tmp_path / "model", seed=0, batch_size=1)

    table, same, go = look(CheckpointTable("gene_table")), look(ScLong()), look(CheckpointTable("go_vectors"))
    weights = loaded.model.pos_emb.emb.weight.detach().numpy()
    np.testing.assert_array_equal(table.gene_embedding[[0, 2]], weights[[7, 0]])
    np.testing.assert_allclose(table.gene_embedding[1], weights[[7, 0]].mean(0), atol=1e-7)
    assert table.gene_mapped.tolist() == [True, False, True] and table.cell_embedding is None
    np.testing.assert_array_equal(same.gene_embedding, table.gene_embedding)
    np.testing.assert_allclose(go.gene_embedding[0], loaded.model.go_conv()[7].detach().numpy(), atol=1e-6)
    assert go.gene_mapped.tolist() == [True, False, False]


def test_the_probe_is_blind_to_order_and_to_labels_it_must_not_see() -> None:
    random = np.random.default_rng(0)
    vectors, known = random.normal(size=(30, 4)).astype(np.float32), np.arange(30) != 3
    first, second = random.integers(0, 30, 400), random.integers(0, 30, 400)
    standard = standardise_genes(vectors, known)
    np.testing.assert_allclose(standard[known].mean(0), 0, atol=1e-6)
    assert not standard[3].any()
    features = pair_features(standard, first, second)
    np.testing.assert_array_equal(features, pair_features(standard, second, first))
    assert features.shape == (400, 8)
    np.testing.assert_allclose(cosine(vectors, known, first, second), cosine(vectors, known, second, first))
    assert (cosine(vectors, known, np.array([3]), np.array([5])) == 0).all()

    labels = ((vectors[first, 0] * vectors[second, 0]) > 0).astype(np.float32)
    parts = np.arange(0, 250), np.arange(250, 300), np.arange(300, 400)
    hidden = labels.copy()
    hidden[300:] = np.nan
    answer = fit_and_answer(features, hidden, *parts)
    np.testing.assert_array_equal(
        answer, fit_and_answer(features, 1 - np.where(np.isnan(hidden), 0, 1 - labels), *parts)
    )
    assert answer[labels[300:] == 1].mean() > answer[labels[300:] == 0].mean() + 0.3


def test_the_penalty_is_the_one_that_validation_prefers() -> None:
    random = np.random.default_rng(1)
    x = random.normal(size=(300, 60)).astype(np.float32)
    y = random.integers(0, 2, 300).astype(np.float32)  # nothing to learn: the strongest penalty is the best
    parts = np.arange(0, 100), np.arange(100, 200), np.arange(200, 300)
    answer = fit_and_answer(x, y, *parts)
    assert answer.std() < fit_and_answer(x, y, *parts, penalties=(1.0,)).std() / 10


# ------------------------------------------------------------------ the published pairs


@pytest.mark.slow
@pytest.mark.skipif(not os.environ.get("SCLONG_MIRROR"), reason="needs the published pairs (SCLONG_MIRROR)")
def test_published_pairs(tmp_path: Path) -> None:
    facts = TASK.prepare(inputs_in(Path(os.environ["SCLONG_MIRROR"]) / "gene2vec_pairs", ""), {}, tmp_path)
    assert [facts[p]["in_file"] for p in ROLES] == [263016, 5568, 21448]
    split = TASK.split(tmp_path, "published", {}, 1).astype(str)
    problem = problem_of(tmp_path, split)
    test = split[split["part"] == "test"]["scenario"]
    assert set(test) == {"gene_disjoint", "shared_genes"} and (test == "gene_disjoint").sum() == facts["test"]["pairs"]
    degree = scores(tmp_path, split, PairDegree().predict(problem, 0))
    assert degree["gene_disjoint", "auroc"] == 0.5 and degree["shared_genes", "auroc"] > 0.95
    with pytest.raises(InputDataError, match="no GO annotations"):
        GoSimilarity().predict(problem, 0)
