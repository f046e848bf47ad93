"""Comparators for genetic perturbations against hand computations; what the GEARS adapters make of a problem."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from toy_training import ARCH, toy_corpus, toy_counts

from sclong.benchmark.adapter import build
from sclong.benchmark.features import read_features, write_features
from sclong.benchmark.model import PredictorFromFeatures
from sclong.benchmark.problem import Features, Problem
from sclong.benchmark.registry import load_tasks
from sclong.benchmark.sclong import ScLong
from sclong.checkpoint.folder import initialise
from sclong.config.cards import ModelCard, load_cards
from sclong.errors import CardError, InputDataError
from sclong.plan.plan import make_plan
from sclong.plan.rows import check_models
from sclong.seeding import rng
from sclong.tasks.genetic_perturbation import gears as perturbation_gears
from sclong.tasks.genetic_perturbation.classical import AdditiveLinear, MatchingMean, SampledControl, SplitHalf
from sclong.tasks.genetic_perturbation.dataset import PerturbationContext
from sclong.tasks.genetic_perturbation.gears import (
    Gears,
    coexpression_graph,
    embedded_controls,
    gears_data,
    go_vectors,
    with_vectors,
)
from sclong.tasks.genetic_perturbation.gears_training import GearsData
from sclong.tasks.genetic_perturbation.gene_effects import perturbed_vectors
from sclong.tasks.genetic_perturbation.task import TASK

OUTPUTS = ["e0", "e1", "e2", "e3", "e4"]
SYMBOLS = ["A", "B", "C", "D", "E"]
TERMS = np.array(  # rows A, B, C, D, E and F, which is not measured
    [[1, 1, 0, 0], [1, 0, 0, 0], [0, 0, 1, 0], [1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 1, 1]], dtype=np.float32
)
PARTS = {
    "A": "train",
    "B": "train",
    "C": "train",
    "A+B": "train",
    "E": "validation",
    "D": "test",
    "F": "test",
    "E+D": "test",
    "A+D": "test",
}


class Cells:
    """Cells of conditions and of control, as the task hands them out."""

    def __init__(self, problem_genes: int) -> None:
        self.genes = problem_genes
        self.asked: list[str] = []

    def of(self, sample: str) -> sparse.csr_matrix:
        self.asked.append(sample)
        return sparse.csr_matrix(rng("cells of", sample).random((6, self.genes)), dtype=np.float32)

    def control(self) -> sparse.csr_matrix:
        return sparse.csr_matrix(np.arange(8)[:, None] + np.zeros(self.genes), dtype=np.float32)


def problem(**context: Any) -> Problem:
    """Return a problem whose training changes are easy numbers."""
    samples = pd.DataFrame({"part": PARTS.values(), "genes": [s.replace("+", "|") for s in PARTS]}, index=list(PARTS))
    targets = np.full((len(samples), 5), np.nan, dtype=np.float32)
    targets[:5] = 1 + np.array([[2], [4], [9], [6], [5]]) * [1, 0, 0, 0, 1]
    known = samples.index[:5]
    return Problem(
        "genetic_perturbation",
        "0",
        samples,
        targets,
        OUTPUTS,
        PerturbationContext(
            **{
                "control_mean": np.ones(5, dtype=np.float32),
                "gene_names": SYMBOLS,
                "perturbed_ids": {g: f"e{i}" for i, g in enumerate(SYMBOLS)} | {"F": "F"},
                "go_terms": sparse.csr_matrix(TERMS),
                "annotated_genes": [*SYMBOLS, "F"],
                "cells": Cells(5),
                "non_zero": {s: np.array([0, 4]) for s in known},
                "de": {s: np.array([4, 0]) for s in known},
                "expression": Path("expression.h5ad"),
                **context,
            }
        ),
    )


def test_matching_mean_by_hand() -> None:
    """D shares both terms with A and one of two with B; F one of two with C; E has none: the mean single."""
    values = MatchingMean(neighbours=5).predict(problem(), 0)
    d, f, e, a = (1 * 2 + 0.5 * 4) / 1.5, 9.0, (2 + 4 + 9) / 3, 2.0
    assert values.dtype == np.float32
    np.testing.assert_allclose(values[:, 0], [1 + d, 1 + f, 1 + e + d, 1 + a + d], rtol=1e-6)
    np.testing.assert_allclose(values[:, 1], 1)
    only_best = MatchingMean(neighbours=1).predict(problem(), 0)
    np.testing.assert_allclose(only_best[0, 0], 1 + 2)
    strict = MatchingMean(threshold=0.5).predict(problem(), 0)  # B's 0.5 and C's 0.5 are not above it
    np.testing.assert_allclose(strict[:2, 0], [1 + 2, 1 + e])


def test_matching_mean_needs_annotations() -> None:
    bare = problem()
    bare = replace(bare, context=replace(bare.context, go_terms=None))
    with pytest.raises(InputDataError, match="no GO annotations"):
        MatchingMean().predict(bare, 0)


def test_sampled_control_is_a_mean_of_drawn_controls() -> None:
    first, again = (SampledControl(cells=4).predict(problem(), 0) for _ in range(2))
    assert first.shape == (4, 5)
    np.testing.assert_array_equal(first, again)
    assert (first != SampledControl(cells=4).predict(problem(), 1)).any()
    assert len(set(first[:, 0])) > 1  # drawn anew for every condition
    np.testing.assert_allclose(first * 4, np.round(first * 4))  # means of four of 0 ... 7, whole rows
    np.testing.assert_array_equal(first, np.tile(first[:, :1], 5))
    assert abs(SampledControl(cells=4000).predict(problem(), 0).mean() - 3.5) < 0.2


def test_split_half_answers_with_the_first_half_and_only_where_the_truth_is_shown() -> None:
    half = np.arange(45, dtype=np.float32).reshape(9, 5)
    np.testing.assert_array_equal(SplitHalf().predict(problem(half_a=half, half_b=-half), 0), half[5:])
    with pytest.raises(InputDataError, match="sees_truth: true"):
        SplitHalf().predict(problem(), 0)


def test_split_half_is_as_far_from_the_mean_as_the_true_mean() -> None:
    """What its docstring says, by drawing: squared distances of a half's mean and of the true mean, both v / n."""
    cells = rng("halves of noise").normal(size=(4000, 10))  # 4,000 conditions of ten cells, true mean 0, v = 1
    mean = cells.mean(1)
    half = ((cells[:, :5].mean(1) - mean) ** 2).mean()
    assert half == pytest.approx((mean**2).mean(), rel=0.1) and half == pytest.approx(0.1, rel=0.1)


def features(contextual: bool = False, order: list[str] | None = None) -> Features:
    names = np.array(order or [*OUTPUTS, "F"])
    draw = {g: rng("vector", g).normal(size=3) for g in names}
    table = np.array([draw[g] for g in names], dtype=np.float32)
    cells = np.array(["c5", "c2"])
    every = np.stack([table, -table]).astype(np.float16) if contextual else None
    return Features("m", cells, None, names, table, np.ones(len(names), dtype=bool), every)


def test_additive_linear_is_ridge_on_summed_vectors() -> None:
    """With a fixed penalty the answer is the normal equations', and a gene has no memory of its own."""
    asked = problem()
    values = AdditiveLinear().predict_from(asked, features(), 0)
    vectors, perturbed = perturbed_vectors(asked, features())
    scaled = vectors - vectors.mean(0)
    x = perturbed @ (scaled / np.sqrt((scaled**2).sum(1).mean()))
    train, test = asked.rows("train"), asked.rows("test")
    delta = asked.targets[train] - 1.0
    expected = []
    for penalty in (0.1, 0.3, 1.0, 3.0, 10.0, 100.0):
        weight = np.linalg.solve(x[train].T @ x[train] + penalty * np.eye(3), x[train].T @ (delta - delta.mean(0)))
        error = ((delta.mean(0) + x[[4]] @ weight - (asked.targets[[4]] - 1)) ** 2).mean()
        expected.append((error, 1 + delta.mean(0) + x[test] @ weight))
    np.testing.assert_allclose(values, min(expected, key=lambda pair: pair[0])[1], rtol=1e-5)


# ------------------------------------------------------------------------------------------- GEARS adapters


def test_gears_sees_training_cells_and_no_test_condition() -> None:
    asked = problem()
    data = gears_data(asked)
    assert asked.context.cells.asked == ["A", "B", "C", "A+B"]
    assert [list(n) for n in data.train] == [[0], [1], [2], [0, 1]]
    assert [list(n) for n in data.test] == [[3], [5], [4, 3], [0, 3]]  # F is a node beyond the measured genes
    assert data.n_nodes == 6 and data.control_CG.shape == (8, 5)
    np.testing.assert_array_equal(data.validation_mean_VG, asked.targets[[4]])
    np.testing.assert_array_equal(data.validation_genes[0], [4, 0])
    np.testing.assert_array_equal(data.counted[0], [0, 4])
    edges = dict(zip(map(tuple, data.go_graph.edges_2E.T.tolist()), data.go_graph.weights_E.tolist(), strict=True))
    assert edges[1, 0] == edges[0, 1] == pytest.approx(0.5) and edges[2, 5] == pytest.approx(0.5)
    assert edges[0, 3] == 1 and edges[0, 0] == 1 and (4, 4) not in edges  # SGConv adds the loop of E


def test_static_vectors_are_the_same_in_every_cell() -> None:
    shuffled = ["e3", "F", "e0", "e1", "e4", "e2"]
    data = with_vectors(gears_data(problem()), problem(), features(order=shuffled))
    assert data.vectors is not None and data.vectors.shape == (1, 5, 3) and data.control_CG.shape == (8, 5)
    np.testing.assert_array_equal(data.vectors[0, 1], rng("vector", "e1").normal(size=3).astype(np.float32))


@pytest.fixture
def embedded(tmp_path: Path) -> Path:
    """Control cells c0 to c7 as the embed rule reads them; gene e0 of cell i has log1p(CP10k) i."""
    x = np.zeros((8, 6), dtype=np.float32)
    x[:, 0] = np.arange(8)
    names = [f"c{i}" for i in range(8)]
    adata = anndata.AnnData(sparse.csr_matrix(x), pd.DataFrame(index=names), pd.DataFrame(index=[*OUTPUTS, "F"]))
    adata.uns["value_kind"] = "log1p_cp10k"
    adata.write_h5ad(tmp_path / "expression.h5ad")
    return tmp_path / "expression.h5ad"


@pytest.mark.parametrize("order", [None, ["e3", "F", "e0", "e1", "e4", "e2"]], ids=["same order", "another order"])
def test_contextual_vectors_go_with_the_expression_of_their_cell(embedded: Path, order: list[str] | None) -> None:
    asked = problem(expression=embedded)
    data = with_vectors(gears_data(asked), asked, features(contextual=True, order=order))
    assert data.vectors is not None and data.vectors.shape == (2, 5, 3)
    np.testing.assert_array_equal(data.control_CG[:, 0], [5, 2])  # cells c5 and c2, in the order of the embedding
    expected = rng("vector", "e1").normal(size=3).astype(np.float16)
    np.testing.assert_array_equal(data.vectors[:, 1], [expected, -expected])


def test_counts_of_embedded_cells_are_normalised(embedded: Path) -> None:
    adata = anndata.read_h5ad(embedded)
    adata.X = sparse.csr_matrix(np.arange(48, dtype=np.float32).reshape(8, 6))
    adata.uns["value_kind"] = "counts"
    adata.write_h5ad(embedded)
    counts = np.arange(18, 24)
    got = embedded_controls(problem(expression=embedded), np.array(["c3"]))
    np.testing.assert_allclose(got[0], np.log1p(1e4 * counts / counts.sum())[:5], rtol=1e-5)
    with pytest.raises(InputDataError, match=r"missing: 'x'"):
        embedded_controls(problem(expression=embedded), np.array(["c3", "x"]))


def test_features_of_another_data_set_are_refused() -> None:
    with pytest.raises(InputDataError, match=r"measured genes: 5 names; missing: 'e4'"):
        with_vectors(gears_data(problem()), problem(), features(order=["e0", "e1", "e2", "e3", "x"]))


def test_go_vectors_are_the_weighted_terms_but_for_rotation() -> None:
    rarity = np.log(5 / np.array([3, 2, 1, 1]))  # over measured genes; the last term has none and no weight
    weighted = TERMS[:5] * rarity
    weighted[:, 3] = 0
    length = np.linalg.norm(weighted, axis=1, keepdims=True)
    weighted = np.divide(weighted, length, out=np.zeros_like(weighted), where=length > 0)
    got = go_vectors(problem())
    np.testing.assert_allclose(got @ got.T, weighted @ weighted.T, atol=1e-5)


def test_coexpression_is_that_of_training_singles() -> None:
    asked = problem()
    cells = np.vstack([asked.context.cells.of(s).toarray() for s in ("A", "B", "C")])
    correlation = np.abs(np.corrcoef(cells.T))
    graph = coexpression_graph(asked)
    assert asked.context.cells.asked[3:] == ["A", "B", "C"]
    got = {(t, s): w for (s, t), w in zip(graph.edges_2E.T.tolist(), graph.weights_E.tolist(), strict=True)}
    assert set(got) == {tuple(p) for p in np.argwhere(correlation > 0.4).tolist()}
    for (target, source), weight in got.items():
        assert weight == pytest.approx(correlation[target, source], rel=1e-5)


SMALL = {"hidden": 4, "epochs": 1, "batch_size": 8, "accumulation": 1}


@pytest.mark.parametrize(
    "options", [{"coexpression": True, "flag": False}, {}, {"genes": "go"}], ids=["gears", "own table", "go"]
)
def test_gears_answers_by_seed(options: dict[str, Any]) -> None:
    model = Gears(**options, **SMALL)
    first, again, other = (model.predict(problem(), seed) for seed in (0, 0, 1))
    assert first.shape == (4, 5) and np.isfinite(first).all()
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_gears_answers_from_features(embedded: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[GearsData] = []

    def spy(data: GearsData, *rest: Any, **more: Any) -> np.ndarray:
        seen.append(data)
        return real(data, *rest, **more)

    real = perturbation_gears.fit_predict_gears
    monkeypatch.setattr(perturbation_gears, "fit_predict_gears", spy)
    for contextual in (False, True):
        asked = problem(expression=embedded)
        assert Gears(**SMALL).predict_from(asked, features(contextual), 0).shape == (4, 5)
    assert [d.vectors.shape[0] for d in seen if d.vectors is not None] == [1, 2]


@pytest.mark.parametrize(
    ("options", "message"),
    [({"hiden": 4}, "write 'hidden' instead in the model's card"), ({"genes": "none"}, "table or go")],
)
def test_wrong_options_of_a_card(options: dict[str, Any], message: str) -> None:
    with pytest.raises(CardError, match=message):
        Gears(**options)


# -------------------------------------------------------------------- what the rows are given: terms, vectors

OBO = """format-version: 1.2
data-version: releases/2024-01-01

[Term]
id: GO:0000001
name: one
namespace: biological_process

[Term]
id: GO:0000002
name: two
namespace: molecular_function
"""


def annotation(symbol: str, term: str, aspect: str) -> str:
    fields = ["UniProtKB", f"Q{symbol}", symbol, "involved_in", term, "PMID:1", "IEA", "", aspect, "", "", "protein"]
    return "\t".join([*fields, "taxon:9606", "20240101", "GO_Central", "", ""])


def test_terms_of_measured_and_of_perturbed_genes_reach_the_problem(tmp_path: Path) -> None:
    (tmp_path / "go.obo").write_text(OBO)
    rows = [
        annotation("G1", "GO:0000001", "P"),
        annotation("LOST", "GO:0000002", "F"),
        annotation("ELSE", "GO:0000001", "P"),
    ]
    (tmp_path / "goa.gaf").write_text("!gaf-version: 2.2\n" + "\n".join(rows) + "\n")
    conditions = ["ctrl", "G0+ctrl", "G1+ctrl", "G2+ctrl", "LOST+ctrl", "G3+ctrl", "G0+G1", "G0+G2", "G1+G2", "G3+G4"]
    x = 1 + rng("screen with terms").random((10 * len(conditions), 6))
    adata = anndata.AnnData(
        sparse.csr_matrix(x, dtype=np.float32),
        pd.DataFrame({"condition": np.repeat(conditions, 10)}, index=[f"c{i}" for i in range(len(x))]),
        pd.DataFrame(index=[f"G{i}" for i in range(6)]),
    )
    adata.write_h5ad(tmp_path / "screen.h5ad")
    inputs = {"expression": tmp_path / "screen.h5ad", "obo": tmp_path / "go.obo", "annotation": tmp_path / "goa.gaf"}
    dataset = tmp_path / "dataset"
    dataset.mkdir()
    facts = TASK.prepare(inputs, {"value_kind": "log1p_cp10k"}, dataset)
    assert facts["annotated_genes"] == 2
    (asked,) = TASK.problems(dataset, TASK.split(dataset, "simulation", {}, 1))
    assert asked.context.annotated_genes == [*(f"G{i}" for i in range(6)), "LOST"]
    np.testing.assert_array_equal(
        asked.context.go_terms.toarray(), [[0, 0], [1, 0], [0, 0], [0, 0], [0, 0], [0, 0], [0, 1]]
    )
    cells = anndata.read_h5ad(dataset / "expression.h5ad")
    assert cells.uns["contextual"]  # asks encoders for the vectors of each cell
    got = embedded_controls(asked, cells.obs_names.to_numpy()[::-1])
    np.testing.assert_array_equal(got, adata[cells.obs_names[::-1]].X.toarray())
    data = gears_data(asked)
    assert data.n_nodes == 7 and len(data.cells) == len(asked.rows("train")) and data.cells[0].shape == (10, 6)


def test_contextual_vectors_are_embedded_written_and_read(tmp_path: Path) -> None:
    _, vocabulary, graph = toy_corpus(tmp_path)
    initialise(tmp_path / "toy", ARCH, vocabulary, graph, 0)
    names = [*(f"ENSG9{i:010d}" for i in range(30, 0, -1)), "NOBODY"]
    counts = np.concatenate([toy_counts(5, 3)[:, np.arange(30, 0, -1)], np.ones((5, 1))], axis=1)
    cells = anndata.AnnData(
        sparse.csr_matrix(counts, dtype=np.float32),
        pd.DataFrame(index=[f"c{i}" for i in range(5)]),
        pd.DataFrame(index=names),
        uns={"value_kind": "counts"},
    )
    plain = ScLong().embed(cells, checkpoint=tmp_path / "toy", seed=0, batch_size=2)
    assert plain.contextual_embedding is None
    cells.uns["contextual"] = True
    embedding = ScLong().embed(cells, checkpoint=tmp_path / "toy", seed=0, batch_size=2)
    write_features(tmp_path / "features", "sclong", embedding, cells)
    every = read_features(tmp_path / "features").contextual_embedding
    assert isinstance(every, np.memmap) and every.shape == (5, 31, ARCH.base_dim) and every.dtype == np.float16
    np.testing.assert_allclose(every[:, :30].astype(float).mean(0), plain.gene_embedding[:30], atol=2e-3)
    np.testing.assert_allclose(every[:, 30], every[:, :30].astype(float).mean(1), atol=2e-3)  # the model lacks the gene
    assert np.abs(every[0] - every[1]).max() > 0.01  # a gene's vector depends on the cell


# ---------------------------------------------------------------------------------------------------- cards


ROWS = {
    "gears": None,
    "gears_own_genes": None,
    "gears_go": None,
    "gears_sclong": "sclong",
    "gears_sclong_random": "sclong_random",
    "gears_gene2vec": "gene2vec",
    "alm_sclong": "sclong",
    "alm_sclong_random": "sclong_random",
    "alm_gene2vec": "gene2vec",
    "gears_sclong_published": "sclong",
}


@pytest.mark.parametrize("name", sorted(ROWS))
def test_cards_of_rows_and_controls(root: Path, name: str) -> None:
    card = load_cards(root / "config" / "models", ModelCard)[name]
    assert card.features_of == ROWS[name] and card.provides == ["perturbation_prediction"]
    assert card.deterministic == name.startswith("alm")
    for preset in ("demo", "small", "paper"):
        build(card.for_preset(preset).recipe(), PredictorFromFeatures)


def test_rows_that_are_compared_differ_in_their_embedding_alone(root: Path) -> None:
    rows = [name for name in ROWS if name.startswith("gears_") and name != "gears_sclong_published"]
    cards = [load_cards(root / "config" / "models", ModelCard)[name] for name in rows]
    for preset in ("demo", "small", "paper"):
        options = [{k: v for k, v in c.for_preset(preset).options.items() if k != "genes"} for c in cards]
        assert all(o == options[0] for o in options)


def test_published_row_keeps_the_published_protocol(root: Path) -> None:
    """Release: 4 processes x 8 batches of 16 cells a step; gradients of batches summed, of processes averaged."""
    cards = {n: load_cards(root / "config" / "models", ModelCard)[f"gears_sclong{n}"] for n in ("", "_published")}
    assert (cards["_published"].protocol, cards[""].protocol) == ("paper", "strict")
    assert not cards["_published"].selects_on_test  # the epoch was chosen on validation conditions
    options = Gears(**cards["_published"].for_preset("paper").options).options
    assert (options.batch_size, options.accumulation, options.divide_by, options.epochs) == (16, 4 * 8, 4, 20)
    assert (options.hidden, options.train_adapter, options.direction) == (1024, False, "sign")
    assert (options.learning_rate, options.decay, options.weight_decay, options.clip) == (1e-3, 0.5, 5e-4, 1.0)
    assert (options.gamma, options.direction_weight, options.cells_per_condition) == (2, 0.1, None)
    for preset in ("demo", "small"):  # the same training as the strict row there, but for the defects
        strict, published = (Gears(**c.for_preset(preset).options).options for c in cards.values())
        defects = {"train_adapter": False, "direction": "sign", "divide_by": 1}
        assert published == strict.model_copy(update=defects)


def test_preset_replaces_options() -> None:
    card = ModelCard(
        name="m",
        title="",
        summary="",
        version=1,
        role="model",
        adapter="a:B",
        provides=[],
        options={"a": 1, "b": 2},
        preset_options={"demo": {"b": 3}},
    )
    assert card.for_preset("demo").options == {"a": 1, "b": 3} and card.for_preset("paper").options == {"a": 1, "b": 2}
    assert ModelCard(**card.for_preset("demo").model_dump()).for_preset("demo").options == {"a": 1, "b": 3}


def test_a_model_that_others_answer_from_must_be_asked_for(root: Path) -> None:
    folder = root / "config" / "models"
    cards = {n: load_cards(folder, ModelCard)[n] for n in ("sclong", "gears_sclong")}
    check_models(cards, load_tasks().values())
    with pytest.raises(CardError, match="add sclong to models"):
        check_models({"gears_sclong": cards["gears_sclong"]}, load_tasks().values())


def test_predictions_wait_for_the_embedding_that_the_card_names(root: Path) -> None:
    plan = make_plan({}, root)
    features = plan.rows.features_of("norman")
    dataset = plan.data["norman"].dataset
    for model, of in {"gears_sclong": "sclong", "alm_gene2vec": "gene2vec", "sclong_random": "sclong_random"}.items():
        assert features(SimpleNamespace(model=model)) == [plan.paths.result("embeddings", of, dataset)]
    assert [features(SimpleNamespace(model=m)) for m in ("gears", "additive", "no_such_model")] == [[], [], []]
    assert plan.models["gears_sclong"].options["hidden"] == 24  # the demo's


def test_a_preset_replaces_the_time_limit() -> None:
    card = ModelCard(
        name="toy",
        title="",
        summary="",
        version=1,
        role="model",
        adapter="a:B",
        provides=[],
        preset_hours={"paper": 12},
    )
    assert [card.for_preset(preset).hours for preset in ("demo", "small", "paper")] == [2, 2, 12]
