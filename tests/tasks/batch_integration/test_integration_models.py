"""Rows of the batch integration tables: expression, ComBat, scVI, scLong on other values; the cards that name them."""

import importlib.util
import logging
from dataclasses import replace
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from sclong.benchmark import sclong as sclong_adapter
from sclong.benchmark.adapter import build
from sclong.benchmark.model import Embedder, Predictor
from sclong.benchmark.predictions import write_predictions
from sclong.benchmark.problem import Predictions, Problem
from sclong.cells.normalize import log1p_cp10k, normalize_counts
from sclong.config.cards import BenchmarkCard, ModelCard, load_cards
from sclong.embed.result import Embedding
from sclong.errors import CardError, InputDataError
from sclong.plan.rows import meets
from sclong.report.drawing import Drawing
from sclong.tasks.batch_integration.dataset import IntegrationContext
from sclong.tasks.batch_integration.expression import Combat, Expression
from sclong.tasks.batch_integration.figure import figure, plane, row_note, umap_figure
from sclong.tasks.batch_integration.metrics import batch_variance
from sclong.tasks.batch_integration.sclong_values import ScLongOnValues
from sclong.tasks.batch_integration.scvi import ScVi

GENES, EACH = 60, 25


@pytest.fixture(scope="module")
def problem() -> Problem:
    """Two types in two batches; every gene is shifted and stretched in the second batch, gene 0 is never seen."""
    draw = np.random.default_rng(1)
    celltype, batch = (a.ravel().repeat(EACH) for a in np.meshgrid([0, 1], [0, 1]))
    log_mean = np.ones((len(batch), GENES))
    log_mean[:, :10] += 1.5 * celltype[:, None]
    log_mean += batch[:, None] * draw.normal(0, 0.8, GENES)
    counts = draw.poisson(np.exp(log_mean)).astype(np.float32)
    counts[:, 0] = 0
    samples = pd.DataFrame(
        {"part": "test", "batch": np.array(["p", "q"])[batch], "type": celltype},
        index=[f"c{i}" for i in range(len(batch))],
    )
    return Problem(
        "batch_integration",
        "0",
        samples,
        np.full((len(batch), 1), np.nan, np.float32),
        ["label"],
        IntegrationContext(
            expression=log1p_cp10k(counts),
            counts=sparse.csr_matrix(counts),
            gene_names=[f"g{i}" for i in range(GENES)],
        ),
    )


def test_expression_is_the_normalised_matrix(problem):
    values = problem.context.expression.toarray()
    assert np.array_equal(Expression().predict(problem, 0), values)
    some = Expression(top_genes=7).predict(problem, 0)
    columns = [int(np.flatnonzero((values == column[:, None]).all(axis=0))[0]) for column in some.T]
    assert some.shape == (100, 7) and len(set(columns)) == 7


def test_combat_removes_the_batch_and_keeps_the_types(problem):
    batch, celltype = problem.samples["batch"].to_numpy(), problem.samples["type"].to_numpy()
    answer = Combat(dimensions=10, top_genes=50).predict(problem, 0)
    before = problem.context.expression.toarray()
    assert answer.shape == (100, 10) and np.isfinite(answer).all()
    assert batch_variance(answer, batch) < 0.01 < 0.1 < batch_variance(before, batch)
    assert batch_variance(answer, celltype) > 1.5 * batch_variance(before, celltype)


def test_scvi_says_what_it_needs(problem, monkeypatch):
    without = replace(problem, context=replace(problem.context, counts=None))
    with pytest.raises(InputDataError, match="no raw counts"):
        ScVi().predict(without, 0)
    monkeypatch.setitem(__import__("sys").modules, "scvi", None)
    with pytest.raises(InputDataError, match="take the card"):
        ScVi().predict(problem, 0)


@pytest.mark.slow
@pytest.mark.skipif(
    importlib.util.find_spec("scvi") is None,
    reason="needs scvi-tools: pip install -c envs/constraints.txt -e '.[scvi]'",
)
def test_scvi_trains_and_repeats(problem):
    logging.getLogger("lightning").setLevel(logging.ERROR)
    first, again = (ScVi(dimensions=5, layers=1, top_genes=40, epochs=3).predict(problem, 7) for _ in range(2))
    assert first.shape == (100, 5) and np.isfinite(first).all() and first.std() > 0
    assert first == pytest.approx(again, abs=1e-5)


def test_sclong_gets_the_values_that_the_card_says(problem, monkeypatch):
    seen = {}

    def embed(self, adata, **_):
        seen["X"], seen["kind"] = adata.X.toarray(), adata.uns["value_kind"]
        return Embedding(np.zeros((adata.n_obs, 2)), None, np.ones(adata.n_vars, bool), {"pooling": self.pooling})

    monkeypatch.setattr(sclong_adapter.ScLong, "embed", embed)
    counts = problem.context.counts
    adata = anndata.AnnData(counts.copy())
    adata.uns["value_kind"] = "counts"
    keys = {"checkpoint": None, "seed": 0, "batch_size": 1}
    facts = ScLongOnValues("cp10k", pooling="mean").embed(adata, **keys).facts
    assert seen["kind"] == "nonnegative" and facts == {
        "pooling": "mean",
        "value_kind": "counts, given to the model as cp10k",
    }
    assert seen["X"].sum(axis=1) == pytest.approx(np.full(100, 1e4), rel=1e-5)
    assert np.log1p(seen["X"]) == pytest.approx(log1p_cp10k(counts).toarray(), abs=1e-5)
    ScLongOnValues("paper_log").embed(adata, **keys)
    assert np.array_equal(seen["X"], normalize_counts(counts, "paper_log").toarray()) and seen["X"].max() == 10
    ScLongOnValues("counts").embed(adata, **keys)
    assert np.array_equal(seen["X"], counts.toarray())
    assert np.array_equal(adata.X.toarray(), counts.toarray()) and adata.uns["value_kind"] == "counts"
    adata.uns["value_kind"] = "nonnegative"
    with pytest.raises(InputDataError, match="raw counts"):
        ScLongOnValues("counts").embed(adata, **keys)
    with pytest.raises(CardError, match="one of log1p_cp10k, cp10k, paper_log, counts"):
        ScLongOnValues("log")


@pytest.fixture(scope="module")
def cards(root: Path) -> dict[str, ModelCard]:
    folder = root / "config/models"
    return load_cards(folder, ModelCard) | load_cards(folder / "optional", ModelCard)


def test_every_row_says_whether_it_was_fitted_to_these_cells(root, cards):
    benchmark = load_cards(root / "config/benchmarks", BenchmarkCard)["pancreas"]
    rows = {name: row_note(card) for name, card in cards.items() if meets(benchmark, card)}
    fitted = {"pca", "hvg_pca", "centred_pca", "combat_pca", "scvi"}
    controls = {"constant_embedding", "random_embedding", "shuffled_pca", "cell_type_one_hot"}
    assert {name for name, what in rows.items() if what == "fitted to these cells"} == fitted
    assert {name for name, what in rows.items() if what == "control"} == controls
    zero_shot = {
        "raw_expression",
        "hvg",
        "sclong",
        "sclong_mean",
        "sclong_profile",
        "sclong_random",
        "sclong_random_profile",
    }
    assert zero_shot <= set(rows) - fitted - controls
    assert all(cards[name].trained_on for name in set(rows) - controls)


def test_rows_of_batch_integration_alone_run_in_no_other_benchmark(root, cards):
    benchmarks = load_cards(root / "config/benchmarks", BenchmarkCard)
    for name in ("raw_expression", "hvg", "combat_pca", "scvi", "sclong_mean", "sclong_profile", "sclong_counts"):
        assert {b for b, card in benchmarks.items() if meets(card, cards[name])} == {"pancreas", "scmixology"}, name


def test_optional_cards_build_their_adapters(root):
    for card in load_cards(root / "config/models/optional", ModelCard).values():
        build(card.recipe(), Predictor if "integrated_embedding" in card.provides else Embedder)


def clusters() -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    draw = np.random.default_rng(0)
    label = np.repeat(["x", "y", "z"], 30)
    apart = 20 * np.eye(8)[np.repeat([0, 1, 2], 30)] + draw.standard_normal((90, 8))
    return {"apart": apart, "one point": np.zeros((90, 2))}, np.tile(["p", "q"], 45), label


@pytest.mark.slow  # umap-learn compiles itself
def test_plane_keeps_clusters_apart():
    embeddings, _, label = clusters()
    xy = plane(embeddings["apart"], 0)
    centres = np.array([xy[label == name].mean(axis=0) for name in "xyz"])
    nearest = np.linalg.norm(xy[:, None] - centres[None], axis=2).argmin(axis=1)
    assert np.array_equal(np.array(list("xyz"))[nearest], label)
    assert np.array_equal(xy, plane(embeddings["apart"], 0))


def test_few_points_stand_on_a_circle():
    five = np.arange(90) % 5
    xy = plane(np.eye(5)[five], 0)
    centres = np.array([xy[five == i].mean(axis=0) for i in range(5)])
    assert np.linalg.norm(centres, axis=1) == pytest.approx(np.ones(5), abs=0.1)
    assert np.linalg.norm(xy[:, None] - centres[None], axis=2).argmin(axis=1).tolist() == five.tolist()
    assert plane(np.zeros((90, 2)), 0).std(axis=0) == pytest.approx([0.05, 0.05], abs=0.02)


def test_figure_has_a_title_for_each_model_and_a_colour_for_each_value():
    embeddings, batch, label = clusters()
    text = umap_figure({"first": embeddings["one point"], "second": embeddings["one point"]}, batch, label)
    assert text.startswith("<svg") and text.count("<image") == 4
    for word in ("first", "second", "p", "q", "x", "y", "z"):
        assert f"<!-- {word} -->" in text
    many = umap_figure({"first": np.zeros((9000, 2))}, np.tile(["p", "q"], 4500), np.repeat(["x", "y"], 4500))
    assert many.count("<path") < 1.5 * text.count("<path")


def test_pictures_from_files_put_controls_first(tmp_path, cards):
    embeddings, batch, label = clusters()
    names = [f"c{i}" for i in range(90)]
    pd.DataFrame({"sample": names, "batch": batch, "cell_type": label}).to_csv(
        tmp_path / "labels.tsv", sep="\t", index=False
    )
    predictions = {}
    for model in ("combat_pca", "hvg", "constant_embedding"):
        predictions[model] = tmp_path / f"{model}.npz"
        values = embeddings["one point"].astype(np.float32)
        write_predictions(
            predictions[model], Predictions(np.array(["0"] * 90), np.array(names[::-1]), values, np.array(["0", "1"]))
        )
    card = BenchmarkCard.model_construct(name="pancreas")
    empty = pd.DataFrame()
    drawing = Drawing(card, cards, empty, empty, tmp_path, predictions)
    text = figure(drawing)
    assert figure(replace(drawing, predictions={})) == ""
    where = [
        text.index(f"<!-- {t} -->")
        for t in (
            "Constant embedding (control)",
            "Variable genes (zero-shot)",
            "ComBat, then PCA (fitted to these cells)",
        )
    ]
    assert where == sorted(where)
