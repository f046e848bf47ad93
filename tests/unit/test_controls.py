"""Controls know nothing, or everything, whatever the task is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from sclong.benchmark.adapter import build
from sclong.benchmark.controls import Constant, RandomNormal, Shuffled, TrainMean, Truth
from sclong.benchmark.model import Predictor
from sclong.benchmark.problem import Context, Problem
from sclong.config.cards import ModelCard, load_cards
from sclong.errors import InputDataError
from sclong.seeding import rng

CARDS = [
    "no_change",
    "constant",
    "train_mean",
    "shuffled",
    "random_normal",
    "truth",
    "additive",
    "linear_latent",
    "ridge_fingerprint",
    "nearest_compound",
]


def make(parts: list[str], targets: np.ndarray, *, hide: bool = True, context: Context | None = None) -> Problem:
    samples = pd.DataFrame({"part": parts}, index=[f"s{i}" for i in range(len(parts))])
    targets = np.array(targets, dtype=np.float32)
    if hide:
        targets[np.array(parts) == "test"] = np.nan
    return Problem("toy", "0", samples, targets, [f"o{i}" for i in range(targets.shape[1])], context or Context())


@pytest.fixture
def problem() -> Problem:
    draw = rng("controls")
    parts = ["train"] * 200 + ["validation"] * 20 + ["test"] * 300
    return make(parts, draw.normal(size=(520, 3)) * [1, 5, 0] + [0, 10, 7])


@pytest.mark.parametrize("control", [Constant, TrainMean, Shuffled, RandomNormal])
def test_floors_answer_without_seeing_test_targets(problem: Problem, control: type[Predictor]) -> None:
    answer = control().predict(problem, 0)
    assert answer.shape == (300, 3) and answer.dtype == np.float32 and np.isfinite(answer).all()
    np.testing.assert_array_equal(answer, control().predict(problem, 0))


def test_what_each_floor_answers(problem: Problem) -> None:
    train = problem.targets[problem.rows("train")]
    np.testing.assert_array_equal(Constant().predict(problem, 0), 0)
    np.testing.assert_allclose(TrainMean().predict(problem, 0), np.tile(train.mean(0), (300, 1)), rtol=1e-5)
    shuffled = Shuffled().predict(problem, 0)
    assert {tuple(row) for row in shuffled} <= {tuple(row) for row in train}
    noise = RandomNormal().predict(problem, 0)
    np.testing.assert_allclose(noise.mean(0), [0, 10, 7], atol=1)
    np.testing.assert_allclose(noise.std(0), [1, 5, 0], atol=0.6)
    for random in (Shuffled(), RandomNormal()):
        assert not np.array_equal(random.predict(problem, 0), random.predict(problem, 1))


def test_no_change_is_the_control_profile() -> None:
    class Controlled(Context):
        unchanged = np.array([1.5, 2.5])

    problem = make(["train", "test", "test"], np.zeros((3, 2)), context=Controlled())
    np.testing.assert_array_equal(Constant().predict(problem, 0), [[1.5, 2.5], [1.5, 2.5]])


def test_training_mean_of_labels_is_the_rate_of_positives() -> None:
    problem = make(["train"] * 4 + ["test"], np.array([[1], [0], [0], [0], [1]]))
    np.testing.assert_array_equal(TrainMean().predict(problem, 0), [[0.25]])


def test_without_a_training_part() -> None:
    """As in network inference: all samples are test."""
    problem = make(["test"] * 50, np.zeros((50, 40)))
    noise = RandomNormal().predict(problem, 0)
    assert abs(noise.mean()) < 0.1 and abs(noise.std() - 1) < 0.1
    np.testing.assert_array_equal(Constant().predict(problem, 0), 0)
    for control in (TrainMean(), Shuffled()):
        with pytest.raises(InputDataError, match="no training samples"):
            control.predict(problem, 0)


def test_truth_needs_to_be_shown() -> None:
    targets = np.arange(6.0).reshape(3, 2)
    shown = make(["test", "train", "test"], targets, hide=False)
    np.testing.assert_array_equal(Truth().predict(shown, 0), targets[[0, 2]])
    with pytest.raises(InputDataError, match="sees_truth: true"):
        Truth().predict(make(["test", "train", "test"], targets), 0)


@pytest.mark.parametrize("name", CARDS)
def test_cards_load_and_name_their_adapter(root: Path, name: str) -> None:
    card = load_cards(root / "config" / "models", ModelCard)[name]
    assert isinstance(build(card.recipe(), Predictor), Predictor)
    assert card.sees_truth == (card.role == "ceiling") == (name == "truth")
    assert card.deterministic == (name not in {"shuffled", "random_normal"})
