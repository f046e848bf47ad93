"""The two protocols: what a row may see, and how it is marked."""

import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from sclong.benchmark import predict, score
from sclong.benchmark.model import Predictor
from sclong.benchmark.predictions import read_predictions
from sclong.benchmark.problem import Context, Predictions, Problem
from sclong.benchmark.task import Task
from sclong.config.cards import BenchmarkCard, ModelCard, load_cards
from sclong.report.tables import summarize

SPLIT = pd.DataFrame(
    [
        (fold, s, part, "all" if part == "test" else "")
        for fold in ("0", "1")
        for s, part in (("a", "train"), ("b", "validation"), ("c", "test"), ("d", "test"))
    ],
    columns=["fold", "sample", "part", "scenario"],
)
DATA = {"dataset": "toy", "inputs": {}, "split": "fixed"}
BENCHMARK = BenchmarkCard(
    name="toy",
    title="",
    summary="",
    task="toy",
    needs=["response_prediction"],
    version=1,
    primary_metric="error",
    data={"demo": DATA},
)
MODEL = {"title": "", "summary": "", "version": 1, "adapter": "x:Y", "provides": ["response_prediction"]}


TASK = Task(
    name="toy",
    package="toy_task",
    title="Toy",
    native="response_prediction",
    needs=("cell_embedding",),
    metrics={"error": "min"},
    head_draws=False,
)
"""The truth of every sample is 1."""


def problems(dataset, split, *, sees_truth=False):
    for fold, rows in split.groupby("fold"):
        samples = rows.set_index("sample")[["part", "scenario"]]
        targets = np.ones((len(samples), 1), np.float32)
        if not sees_truth:
            targets[samples["part"] == "test"] = np.nan
        yield Problem("toy", fold, samples, targets, ["y"], Context())


def scores(dataset, split, predictions: Predictions):
    wanted = predictions.values[np.isin(predictions.fold, split["fold"].unique())]
    return pd.DataFrame(
        [("all", "error", float(np.abs(wanted - 1).mean()), len(wanted), "samples")],
        columns=["scenario", "metric", "value", "n", "unit"],
    )


class Peeks(Predictor):
    """Answers the test targets where it sees them, else the number of the fold."""

    def predict(self, problem, seed):
        shown = problem.targets[problem.rows("test")]
        return np.where(np.isnan(shown), float(problem.fold), shown)


@pytest.fixture
def toy(tmp_path, monkeypatch):
    for step, function in (("problems", problems), ("score", scores)):
        module = ModuleType(f"toy_task.{step}")
        setattr(module, step, function)
        monkeypatch.setitem(sys.modules, module.__name__, module)
    for step in (predict, score):
        monkeypatch.setattr(step, "load_task", lambda name: TASK)
    monkeypatch.setattr(predict, "build", lambda recipe, kind: Peeks())
    (tmp_path / "data").mkdir()
    (tmp_path / "data/x").write_text("x")
    SPLIT.to_csv(tmp_path / "split.tsv", sep="\t", index=False)
    return tmp_path


def answered(folder, card):
    out = folder / "predictions" / card.name / "seed0.npz"
    predict.predict("toy", card.recipe(), folder / "data", folder / "split.tsv", None, 0, out, native=True)
    return out


def test_only_a_published_row_that_says_so_sees_test_targets(toy):
    strict = ModelCard(name="strict", role="model", **MODEL)
    paper = ModelCard(name="paper", role="model", protocol="paper", **MODEL)
    selects = ModelCard(name="selects", role="model", protocol="paper", selects_on_test=True, **MODEL)
    seen = {c.name: read_predictions(answered(toy, c)).values[:, 0].tolist() for c in (strict, paper, selects)}
    assert seen == {"strict": [0, 0, 1, 1], "paper": [0, 0, 1, 1], "selects": [1, 1, 1, 1]}


def test_a_strict_card_cannot_select_on_test_nor_see_the_truth():
    with pytest.raises(ValidationError, match="under strict nothing is chosen on test data"):
        ModelCard(name="m", role="model", selects_on_test=True, **MODEL)
    with pytest.raises(ValidationError, match="role: ceiling"):
        ModelCard(name="m", role="model", sees_truth=True, **MODEL)


def test_rows_carry_their_protocol_and_every_fold_has_its_score(toy):
    card = ModelCard(name="strict", role="model", **MODEL)
    files = [answered(toy, card)]
    score.score(
        score.Scored("toy", "toy", "toy", 1),
        toy / "data",
        toy / "split.tsv",
        files,
        "hash",
        toy / "out.tsv",
        protocols={"strict": "paper"},
        units=toy / "units.tsv",
    )
    table = pd.read_csv(toy / "out.tsv", sep="\t")
    assert table[["model", "protocol", "value"]].to_numpy().tolist() == [["strict", "paper", 0.5]]
    units = pd.read_csv(toy / "units.tsv", sep="\t")
    assert units[["unit", "protocol", "value"]].to_numpy().tolist() == [["fold 0", "paper", 1], ["fold 1", "paper", 0]]


def test_the_floor_of_a_published_row_is_the_strict_one():
    common = {
        "benchmark": "toy",
        "task": "toy",
        "dataset": "toy",
        "scenario": "all",
        "metric": "error",
        "direction": "min",
        "seed": 0,
        "unit_of_uncertainty": "samples",
        "n": 4,
    }
    metrics = pd.DataFrame(
        [
            {**common, "model": "mean", "protocol": "strict", "value": 1.0},
            {**common, "model": "truth", "protocol": "strict", "value": 0.0},
            {**common, "model": "head_published", "protocol": "paper", "value": 0.25},
            {**common, "model": "mean_published", "protocol": "paper", "value": 0.5},
        ]
    )
    roles = {"mean": "floor", "mean_published": "floor", "truth": "ceiling", "head_published": "model"}
    number = {"model": "Head", "scenario": "all", "metric": "error", "value": 0.25, "mark": "exact", "where": "text"}
    card = BenchmarkCard(**{**BENCHMARK.model_dump(), "paper": [number]})
    out = summarize(metrics, {"toy": card}, {"toy": card.alternatives("demo")[0]}, roles, {"head_published": "Head"})
    row = out.set_index("model").loc["head_published"]
    assert (row["protocol"], row["floor"], row["ceiling"], row["percent_of_range"]) == ("paper", 1.0, 0.0, 75.0)
    assert row["paper_value"] == 0.25


def test_the_cards_that_ship_keep_the_rules():
    cards = load_cards(Path(__file__).parents[2] / "config" / "models", ModelCard)
    assert all(name.endswith("_published") for name, card in cards.items() if card.selects_on_test)
