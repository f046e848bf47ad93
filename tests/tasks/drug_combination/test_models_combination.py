"""Models of drug synergy on toy triples: what each learns, the order of a pair, what it may see, cards."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from sclong.benchmark.adapter import build
from sclong.benchmark.model import Predictor, PredictorFromFeatures
from sclong.benchmark.problem import Features, Problem
from sclong.benchmark.ranking import auroc
from sclong.config.cards import BenchmarkCard, ModelCard, load_cards
from sclong.errors import CardError, InputDataError
from sclong.seeding import rng
from sclong.tasks.drug_combination.classical import CombinationPrior, FingerprintMLP, GradientBoosting, smoothed_rate
from sclong.tasks.drug_combination.dataset import CombinationContext
from sclong.tasks.drug_combination.deepdds import DeepDDS

SCAFFOLDS = ["c1ccccc1{}", "c1ccncc1{}", "C1CCCCC1{}"]
DRUGS = sorted(SCAFFOLDS[i % 3].format(["O", "N", "Cl", "C#N"][i // 3]) for i in range(9))
LINES = ["SW480", "A375", "HT29", "MCF7", "PC3"]
GENES = [f"G{i}" for i in range(12)]
DRUG_EFFECT = rng("toy drug effects").permutation(np.linspace(-1, 1, len(DRUGS)))
LINE_EFFECT = np.linspace(-0.8, 0.8, len(LINES))


def toy(sees_truth: bool = False) -> tuple[Problem, np.ndarray]:
    """Synergy by the effects of both drugs and of the line; each pair in every line, in either order."""
    draw = rng("toy triples for models")
    rows = []
    for i, j in combinations(range(len(DRUGS)), 2):
        for k in range(len(LINES)):
            a, b = (i, j) if draw.random() < 0.5 else (j, i)
            score = DRUG_EFFECT[i] + DRUG_EFFECT[j] + LINE_EFFECT[k] + 0.2 * draw.normal()
            rows.append((DRUGS[a], DRUGS[b], LINES[k], float(score > 0)))
    samples = pd.DataFrame(rows, columns=["drug1", "drug2", "cell", "label"])
    targets = samples.pop("label").to_numpy(np.float32)[:, None]
    part = draw.permutation(np.resize(["train"] * 6 + ["validation", "test", "test"], len(samples)))
    samples.insert(0, "part", part)
    samples.insert(1, "scenario", "")
    samples.index = pd.Index([f"t{i}" for i in range(len(samples))])
    truth = targets[part == "test", 0].copy()
    if not sees_truth:
        targets[part == "test"] = np.nan
    state = np.exp(np.outer(LINE_EFFECT, rng("toy genes").normal(size=len(GENES))) + 1)
    expression = pd.DataFrame(np.log1p(state).astype(np.float32), index=LINES, columns=GENES)
    return Problem(
        "drug_combination", "0", samples, targets, ["synergy"], CombinationContext(expression=expression)
    ), truth


def swapped(problem: Problem) -> Problem:
    samples = problem.samples.rename(columns={"drug1": "drug2", "drug2": "drug1"})[list(problem.samples.columns)]
    return Problem(problem.task, problem.fold, samples, problem.targets, problem.outputs, problem.context)


def features(width: int = 8) -> Features:
    """Vectors of lines and genes that tell the state of the line, lines in another order than anywhere else."""
    order = rng("order of toy lines").permutation(len(LINES))
    state = np.repeat(LINE_EFFECT[order, None], width, axis=1).astype(np.float32)
    genes = np.repeat(state[:, None], len(GENES), axis=1).astype(np.float16)
    known = np.ones(len(GENES), dtype=bool)
    return Features("toy", np.array(LINES)[order], state, np.array(GENES), None, known, genes)


SMALL = {"epochs": 25, "batch_size": 32, "learning_rate": 2e-3, "joined": [32], "patience": 25}
MODELS: dict[str, Predictor] = {
    "pair": CombinationPrior("drug_pair"),
    "line": CombinationPrior("line"),
    "boosting": GradientBoosting(max_iter=40),
    "mlp": FingerprintMLP(hidden=(32,), epochs=12),
    "gcn": DeepDDS(**SMALL),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("name", MODELS)
def test_each_model_learns_and_repeats(name: str) -> None:
    problem, truth = toy()
    answer = MODELS[name].predict(problem, 0)
    assert answer.shape == (len(truth), 1) and answer.dtype == np.float32
    assert 0 <= answer.min() <= answer.max() <= 1
    np.testing.assert_array_equal(answer, MODELS[name].predict(problem, 0))
    assert auroc(truth, answer[:, 0]) > (0.6 if name == "line" else 0.75)


def small_options(card: ModelCard) -> ModelCard:
    """The demo's options, and a training still shorter where there is one."""
    card = card.for_preset("demo")
    short = {"epochs": 1} if "epochs" in card.options else {}
    return card.model_copy(update={"options": {**card.options, **short}})


def strict_cards(root: Path) -> dict[str, ModelCard]:
    cards = load_cards(root / "config" / "models", ModelCard)
    return {n: c for n, c in cards.items() if "synergy_prediction" in c.provides and c.protocol == "strict"}


def test_every_row_answers_both_orders_of_a_pair_alike(root: Path) -> None:
    cards = strict_cards(root)
    assert {"linear_fingerprint", "random_forest", "deepdds_gcn", "deepdds_gat", "deepdds_sclong"} <= set(cards)
    problem, _ = toy(sees_truth=True)
    other = swapped(problem)
    for name, card in cards.items():
        adapter = build(small_options(card).recipe(), PredictorFromFeatures if card.features_of else Predictor)
        if card.features_of:
            answers = [adapter.predict_from(p, features(), 0) for p in (problem, other)]  # type: ignore[union-attr]
        else:
            answers = [adapter.predict(p, 0) for p in (problem, other)]  # type: ignore[union-attr]
        np.testing.assert_allclose(answers[0], answers[1], rtol=1e-4, atol=1e-6, err_msg=name)


@pytest.mark.parametrize(
    ("name", "source", "published_as"),
    [
        ("deepdds_gcn_published", None, "DeepDDS_GCN"),
        ("deepdds_gat_published", None, "DeepDDS_GAT"),
        ("deepdds_sclong_published", "sclong", "scLong"),
        ("deepdds_fork_published", None, "DeepDDS"),
    ],
)
def test_cards_of_the_published_protocol(root: Path, name: str, source: str | None, published_as: str) -> None:
    card = load_cards(root / "config" / "models", ModelCard)[name]
    assert card.protocol == "paper" and card.selects_on_test
    assert (card.features_of, card.published_as) == (source, published_as)
    independent = load_cards(root / "config" / "benchmarks", BenchmarkCard)["drug_combination_independent"]
    assert published_as in {p.model for p in independent.paper}
    for preset in ("demo", "small", "paper"):
        adapter = build(card.for_preset(preset).recipe(), PredictorFromFeatures if card.features_of else Predictor)
        assert isinstance(adapter, DeepDDS) and adapter.published
        used = adapter.options
        fork = name in ("deepdds_sclong_published", "deepdds_fork_published")  # the scLong paper's
        looks = 5 if fork else 1
        assert (used.symmetric, used.shuffle, used.patience, used.evaluate_every) == (False, False, None, looks)
        if fork:
            assert (used.learning_rate, used.joined) == (1e-4, (256, 128))
            assert preset == "demo" or (used.epochs, used.batch_size) == (100, 256)
    problem, truth = toy(sees_truth=True)
    adapter = build(small_options(card).recipe(), PredictorFromFeatures if card.features_of else Predictor)
    assert isinstance(adapter, DeepDDS)
    answer = adapter.predict(problem, 0) if source is None else adapter.predict_from(problem, features(), 0)
    assert answer.shape == (len(truth), 1) and np.isfinite(answer).all()


def test_the_published_protocol_is_as_published() -> None:
    model = DeepDDS(published=True, symmetric=False, shuffle=False, **{**SMALL, "epochs": 5})  # type: ignore[arg-type]
    problem, _ = toy(sees_truth=True)
    hidden, _ = toy()
    answer = model.predict(problem, 0)
    assert np.abs(answer - model.predict(swapped(problem), 0)).max() > 1e-4  # who stands first counts
    with pytest.raises(CardError, match="was not shown the test targets"):
        model.predict(hidden, 0)
    as_training = problem.samples.assign(part=problem.samples["part"].replace("validation", "train"))
    moved = Problem(problem.task, "0", as_training, problem.targets, problem.outputs, problem.context)
    np.testing.assert_array_equal(model.predict(moved, 0), answer)  # it trains on the validation part too


def test_strict_rows_do_not_read_the_test() -> None:
    (hidden, _), (shown, _) = toy(), toy(sees_truth=True)
    for name, model in {**MODELS, "gcn": DeepDDS(**{**SMALL, "epochs": 2})}.items():  # type: ignore[arg-type]
        np.testing.assert_array_equal(model.predict(hidden, 0), model.predict(shown, 0), err_msg=name)


def test_the_rate_of_a_pair_a_drug_a_line() -> None:
    rates = smoothed_rate(pd.Series(["a", "a", "b"]), np.array([1.0, 1.0, 0.0]), 0.5)
    assert rates.to_dict() == pytest.approx({"a": (2 + 1) / 4, "b": 1 / 3})
    samples = pd.DataFrame(
        [
            ("train", "A", "B", "L1"),
            ("train", "B", "A", "L1"),
            ("train", "A", "C", "L2"),
            ("test", "B", "A", "L9"),
            ("test", "B", "C", "L2"),
            ("test", "X", "Y", "L1"),
        ],
        columns=["part", "drug1", "drug2", "cell"],
        index=[f"t{i}" for i in range(6)],
    )
    targets = np.array([1, 1, 0, np.nan, np.nan, np.nan], dtype=np.float32)[:, None]
    problem = Problem(
        "drug_combination", "0", samples, targets, ["synergy"], CombinationContext(expression=pd.DataFrame())
    )
    overall = 2 / 3
    pair = CombinationPrior("drug_pair").predict(problem, 0)[:, 0]
    b, c = (2 + 2 * overall) / 4, (0 + 2 * overall) / 3
    np.testing.assert_allclose(pair, [(2 + 2 * overall) / 4, (b + c) / 2, overall], rtol=1e-6)
    line = CombinationPrior("line").predict(problem, 0)[:, 0]
    np.testing.assert_allclose(line, [overall, c, (2 + 2 * overall) / 4], rtol=1e-6)


@pytest.mark.parametrize("lines", ["gene_vectors", "cell_embedding"])
def test_vectors_of_another_model_take_the_place_of_expression(lines: str) -> None:
    problem, _ = toy()
    model = DeepDDS(lines=lines, **{**SMALL, "epochs": 2})  # type: ignore[arg-type]
    given = features()
    back = np.argsort(given.cells)

    def reordered(names: np.ndarray) -> Features:
        assert given.cell_embedding is not None and given.contextual_embedding is not None
        return Features(
            "toy",
            names,
            given.cell_embedding[back],
            given.genes,
            None,
            given.gene_mapped,
            given.contextual_embedding[back],
        )

    answer = model.predict_from(problem, given, 0)
    np.testing.assert_array_equal(model.predict_from(problem, reordered(given.cells[back]), 0), answer)
    exchanged = model.predict_from(problem, reordered(np.roll(given.cells[back], 1)), 0)
    assert np.abs(exchanged - answer).max() > 1e-4


def test_what_is_wrong_is_named() -> None:
    problem, _ = toy()
    whole = features()
    static = Features("toy", whole.cells, None, whole.genes, None, whole.gene_mapped, None)
    for lines in ("gene_vectors", "cell_embedding"):
        with pytest.raises(InputDataError, match=f"no {lines.replace('_', ' ')} of lines"):
            DeepDDS(lines=lines).predict_from(problem, static, 0)  # type: ignore[arg-type]
    kept = whole.cells != "SW480"
    short = Features(
        "toy", whole.cells[kept], None, whole.genes, None, whole.gene_mapped, whole.contextual_embedding[kept]
    )
    with pytest.raises(InputDataError, match="'SW480'"):
        DeepDDS(epochs=1).predict_from(problem, short, 0)
    with pytest.raises(CardError, match="epoch"):
        DeepDDS(epoch=3)
    with pytest.raises(CardError, match="gene_vectors or cell_embedding"):
        DeepDDS(lines="genes")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="drug_pair or line"):
        CombinationPrior("pair")  # type: ignore[arg-type]
