from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.metrics import mutual_info_score

from sclong.benchmark.adapter import build
from sclong.benchmark.controls import RandomNormal
from sclong.benchmark.model import Predictor, PredictorFromFeatures
from sclong.benchmark.problem import Predictions, Problem
from sclong.config.cards import BenchmarkCard, ModelCard, load_cards
from sclong.errors import InputDataError
from sclong.plan.rows import missing_input
from sclong.tasks.grn_inference.classical import (
    AbsoluteCorrelation,
    GoJaccard,
    MutualInformation,
    NetworkDegrees,
    ShuffledCorrelation,
    TargetMeanExpression,
    mutual_information,
    value_classes,
)
from sclong.tasks.grn_inference.dataset import NetworkContext
from sclong.tasks.grn_inference.task import TASK
from sclong.tasks.grn_inference.trees import Genie3Trees, GrnBoost2
from sclong.world.simulation import simulate

WORLD = ("network.csv", "tfs.csv", "grn_expression.h5ad", "go.obo", "goa.gaf")
# chance on this network is 1; a row that reads expression or GO must find at least this
PLANTED_RATIO = 6.0


def problem_of(values, regulators=(0, 1), targets=None, **context):
    genes = [f"G{i}" for i in range(values.shape[1])]
    truth = np.full((len(regulators), len(genes)), np.nan, dtype=np.float32) if targets is None else targets
    return Problem(
        task="grn_inference",
        fold="0",
        samples=pd.DataFrame({"part": "test"}, index=[genes[i] for i in regulators]),
        targets=truth,
        outputs=genes,
        context=NetworkContext(annotated_genes=genes, expression=sparse.csr_matrix(values), species="human", **context),
    )


def test_classes_hold_equally_many_cells_and_zeros_apart():
    values = np.array([[0, 5.0, 2], [0, 1, 2], [1, 2, 2], [2, 3, 2], [3, 4, 0], [4, 6, 0]])
    labels = value_classes(values, 2)
    assert labels[:, 0].tolist() == [0, 0, 1, 1, 2, 2]
    assert labels[:, 1].tolist() == [2, 1, 1, 1, 2, 2]
    assert set(labels[:4, 2]) <= {1, 2} and len(set(labels[:4, 2])) == 1 and (labels[4:, 2] == 0).all()


@pytest.mark.parametrize("block", [1, 3, 2048])
def test_mutual_information_equals_scikit_learn_pair_by_pair(block):
    draw = np.random.default_rng(0)
    labels = draw.integers(0, 4, (60, 7))
    labels[:, 3] = labels[:, 0]
    rows = np.array([0, 2, 5])
    found = mutual_information(labels, rows, 4, block)
    expected = [[mutual_info_score(labels[:, r], labels[:, g]) for g in range(7)] for r in rows]
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_clr_is_the_published_formula_and_leaves_self_out_of_the_background():
    values = np.random.default_rng(1).poisson(2.0, (80, 6)).astype(np.float32)
    problem = problem_of(values, (1, 4))
    plain = MutualInformation(background=False).predict(problem, 0).astype(float)
    found = MutualInformation().predict(problem, 0)
    for i, regulator in enumerate((1, 4)):
        for gene in range(6):
            if gene == regulator:
                continue
            row = [plain[i, g] for g in range(6) if g != regulator]
            column = [plain[k, gene] for k, r in enumerate((1, 4)) if r != gene]
            z = [(plain[i, gene] - np.mean(v)) / np.std(v) if np.std(v) > 1e-9 else 0.0 for v in (row, column)]
            assert found[i, gene] == pytest.approx(np.hypot(*np.maximum(z, 0)), rel=1e-3, abs=1e-4)


def test_clr_sees_a_relation_without_correlation():
    draw = np.random.default_rng(0)
    x = draw.uniform(1, 5, 400)
    values = np.column_stack([x, draw.uniform(1, 5, 400), (x - 3) ** 2 + 1, draw.uniform(1, 5, (400, 20))])
    problem = problem_of(values)
    assert MutualInformation().predict(problem, 0)[0, 2:].argmax() == 0
    assert AbsoluteCorrelation().predict(problem, 0)[0, 2] < 0.15


def test_degrees_are_counted_in_the_network_and_need_to_be_shown():
    truth = np.array([[0, 1, 1, 0], [1, 0, 1, 0]], dtype=np.float32)
    answer = NetworkDegrees().predict(problem_of(np.ones((3, 4)), targets=truth), 0)
    assert answer.tolist() == [[2, 2, 4, 0], [2, 2, 4, 0]]
    with pytest.raises(InputDataError, match="sees_truth"):
        NetworkDegrees().predict(problem_of(np.ones((3, 4))), 0)


def test_go_graph_is_the_jaccard_index_and_needs_annotations():
    terms = sparse.csr_matrix(np.array([[1, 1, 0], [0, 1, 1], [1, 1, 1], [0, 0, 0]], dtype=np.float32))
    answer = GoJaccard().predict(problem_of(np.ones((3, 4)), go_terms=terms), 0)
    np.testing.assert_allclose(answer, [[1, 1 / 3, 2 / 3, 0], [1 / 3, 1, 2 / 3, 0]])
    with pytest.raises(InputDataError, match="annotation"):
        GoJaccard().predict(problem_of(np.ones((3, 4))), 0)


def test_boosting_stops_early_and_finds_the_regulator():
    draw = np.random.default_rng(0)
    values = draw.uniform(1, 3, (150, 6)).astype(np.float32)
    values[:, 4] = values[:, 1] + 0.1 * values[:, 4]
    model = GrnBoost2(learning_rate=0.3, n_estimators=200, max_features=1.0, window=10)
    answer = model.predict(problem_of(values, (0, 1, 2)), 0)
    assert answer[:, 4].argmax() == 1 and answer[1, 1] == 0
    assert np.array_equal(answer, model.predict(problem_of(values, (0, 1, 2)), 0))
    noise = model.importances(values[:, :3], values[:, 5], 0).sum()
    assert answer[1, 4] > noise
    longest = GrnBoost2(learning_rate=0.3, n_estimators=200, max_features=1.0, window=10_000)
    assert longest.importances(values[:, :3], values[:, 5], 0).sum() > 1.5 * noise  # noise alone ends the boosting


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    simulate(folder, only=set(WORLD))
    out = folder / "data"
    out.mkdir()
    roles = ("network", "tfs", "expression", "obo", "annotation")
    facts = TASK.prepare({role: folder / name for role, name in zip(roles, WORLD, strict=True)}, {}, out)
    assert facts["annotated_genes"] > 0.9 * facts["genes_judged"]
    return out


def scores_of(folder: Path, model: Predictor, seed: int = 0, sees_truth: bool = False) -> pd.Series:
    split = TASK.split(folder, "none", {}, 1)
    (problem,) = TASK.problems(folder, split, sees_truth=sees_truth)
    ids = np.array(problem.test_samples)
    answer = model.predict(problem, seed)
    predictions = Predictions(np.array(["0"] * len(ids)), ids, answer, np.array(problem.outputs))
    return TASK.score(folder, split, predictions).set_index("metric")["value"]


@pytest.mark.parametrize("model", [RandomNormal(), ShuffledCorrelation()])
def test_floors_do_not_beat_the_null_on_the_world(world, model):
    scores = pd.concat([scores_of(world, model, seed) for seed in range(5)], axis=1).T
    assert scores["p_value"].median() > 0.05
    assert scores["aupr_ratio"].mean() == pytest.approx(1, abs=0.1)


def test_what_knows_no_regulation_stays_low_and_leaks_show(world):
    assert scores_of(world, TargetMeanExpression())["aupr_ratio"] < 1.3
    assert scores_of(world, NetworkDegrees(), sees_truth=True)["p_value"] == 0.005


@pytest.mark.parametrize(
    "model",
    [
        AbsoluteCorrelation("pearson"),
        AbsoluteCorrelation("spearman"),
        MutualInformation(),
        GoJaccard(),
        Genie3Trees(n_estimators=5, max_cells=150),  # a tenth of the card's trees on a third of its cells
    ],
)
def test_informative_rows_beat_the_null_on_the_world(world, model):
    scores = scores_of(world, model)
    assert scores["p_value"] == 0.005 and scores["aupr_ratio"] > 3


def test_the_planted_network_is_recovered(world):
    assert scores_of(world, MutualInformation())["aupr_ratio"] > PLANTED_RATIO


@pytest.mark.slow
@pytest.mark.parametrize("name", ["grn_boost", "grn_deepsem"])
def test_trained_rows_of_the_demo_beat_the_null_on_the_world(world, root, name):
    card = load_cards(root / "config" / "models", ModelCard)[name].for_preset("demo")
    scores = scores_of(world, build(card.recipe(), Predictor))
    assert scores["p_value"] == 0.005 and scores["aupr_ratio"] > 3


def test_every_card_names_an_adapter_that_takes_its_options(root):
    cards = {n: c for n, c in load_cards(root / "config" / "models", ModelCard).items() if n.startswith("grn_")}
    assert len(cards) >= 13
    for card in cards.values():
        kind = PredictorFromFeatures if card.features_of else Predictor
        for preset in ("demo", "small", "paper"):
            assert isinstance(build(card.for_preset(preset).recipe(), kind), kind)
        assert card.provides == ["edge_scores"] and card.sees_truth == (card.role == "ceiling")
        assert (card.protocol == "paper") == card.name.endswith("_published")


def test_the_papers_rows_are_the_published_training(root):
    cards = load_cards(root / "config" / "models", ModelCard)
    for name in ("grn_deepsem_published", "grn_deepsem_sclong_published"):
        card = cards[name]
        kind = PredictorFromFeatures if card.features_of else Predictor
        assert card.published_as == name.removesuffix("_published") in cards and not card.selects_on_test
        for preset in ("demo", "small", "paper"):
            options = build(card.for_preset(preset).recipe(), kind).options
            assert options.kept_epochs == (10, 11, 12, 13, 14) and options.inverse == "cholesky"
        assert (options.hidden, options.batch_size, options.learning_rate, options.adjacency_rate) == (
            128,
            8,
            1e-4,
            2e-5,
        )


def test_every_benchmark_of_the_task_has_what_its_models_ask_for(root):
    cards = [c for c in load_cards(root / "config" / "benchmarks", BenchmarkCard).values() if c.task == TASK.name]
    assert len(cards) >= 22
    models = load_cards(root / "config" / "models", ModelCard)
    for card in cards:
        assert card.primary_metric in TASK.metrics and {p.metric for p in card.paper} <= set(TASK.metrics)
        for preset in ("demo", "small", "paper"):
            for spec in card.alternatives(preset):
                mouse = spec.options.get("species") == "mouse"
                embedded = (
                    ["gene_embedding"] + ["static_gene_embedding"] * (card.name != "grn") + ["covariation_embedding"]
                )
                assert card.needs == ["edge_scores"] + ([] if mouse else embedded)
                for model in models.values():  # a model that runs finds every input that it reads
                    if model.adapter.endswith(":GoJaccard"):
                        assert (missing_input(spec, model) is None) == ({"obo", "annotation"} <= set(spec.inputs))


def test_trees_have_their_published_sizes_under_preset_paper(root):
    cards = load_cards(root / "config" / "models", ModelCard)
    trees = build(cards["grn_trees"].for_preset("paper").recipe(), Predictor)
    assert (trees.forest, trees.n_estimators, trees.max_cells) == ("random_forest", 1000, None)
    boost, published = build(cards["grn_boost"].for_preset("paper").recipe(), Predictor), GrnBoost2()
    assert (boost.options, boost.window, boost.max_cells) == (published.options, published.window, None)
    assert build(cards["grn_trees"].for_preset("demo").recipe(), Predictor).max_cells == 500


def test_the_demo_takes_no_static_vectors_and_the_real_sets_do(root):
    """A row of static vectors is one more embedding of a data set: the demo has enough of them."""
    cards = load_cards(root / "config" / "benchmarks", BenchmarkCard)
    for card in cards.values():
        if card.task == TASK.name and card.alternatives("demo"):
            assert "static_gene_embedding" not in card.needs
    assert "static_gene_embedding" in cards["grn_scode_hesc_chip"].needs
