"""Controls: models that know nothing (floors) or everything (ceilings), for any task.

They are what a score is read against: a model that does not beat a floor has learned nothing that this benchmark can
see, and a ceiling shows what a perfect answer scores.
"""

from __future__ import annotations

import numpy as np

from sclong.benchmark.model import Predictor
from sclong.benchmark.problem import Problem
from sclong.errors import InputDataError
from sclong.seeding import rng


def training_targets(problem: Problem) -> np.ndarray:
    """Return the targets of the training samples, (n, outputs) float32.

    Raises
    ------
    InputDataError
        When the fold has no training sample.
    """
    targets = problem.targets[problem.rows("train")]
    if len(targets) == 0:
        raise InputDataError(
            f"task {problem.task!r}, fold {problem.fold!r}: no training samples",
            "a split with a training part",
            "use another split policy, or leave this model out",
        )
    return targets


class Constant(Predictor):
    """One answer to everything: no change from control where the task has control cells, zero elsewhere."""

    def predict(self, problem: Problem, seed: int) -> np.ndarray:
        """Repeat ``context.unchanged`` if there is one, else zeros; `seed` changes nothing."""
        unchanged = problem.context.unchanged
        row = np.zeros(len(problem.outputs)) if unchanged is None else unchanged
        return np.tile(np.asarray(row, dtype=np.float32), (len(problem.test_samples), 1))


class TrainMean(Predictor):
    """The mean target of the training samples; the rate of positives where targets are labels."""

    def predict(self, problem: Problem, seed: int) -> np.ndarray:
        """Repeat the training mean; `seed` changes nothing."""
        mean = training_targets(problem).mean(axis=0, dtype=np.float64).astype(np.float32)
        return np.tile(mean, (len(problem.test_samples), 1))


class Shuffled(Predictor):
    """Targets of training samples drawn at random: the right distribution, nothing about the sample."""

    def predict(self, problem: Problem, seed: int) -> np.ndarray:
        """Draw with replacement, by `seed` and fold."""
        targets = training_targets(problem)
        draw = rng("shuffled", problem.task, problem.fold, seed)
        return targets[draw.integers(len(targets), size=len(problem.test_samples))]


class RandomNormal(Predictor):
    """Independent normal values with mean and deviation of the training targets; standard normal without training."""

    def predict(self, problem: Problem, seed: int) -> np.ndarray:
        """Draw by `seed` and fold."""
        shape = (len(problem.test_samples), len(problem.outputs))
        noise = rng("random normal", problem.task, problem.fold, seed).standard_normal(shape)
        targets = problem.targets[problem.rows("train")].astype(np.float64)
        if len(targets):
            noise = targets.mean(axis=0) + targets.std(axis=0) * noise
        return noise.astype(np.float32)


class Truth(Predictor):
    """The test targets themselves. Its card must say ``sees_truth: true``."""

    def predict(self, problem: Problem, seed: int) -> np.ndarray:
        """Return what is asked; `seed` changes nothing.

        Raises
        ------
        InputDataError
            When the problem hides its test targets.
        """
        answer = problem.targets[problem.rows("test")]
        if np.isnan(answer).any():
            raise InputDataError(
                f"task {problem.task!r}: the test targets are hidden",
                "a problem made with sees_truth, which only a ceiling gets",
                "write sees_truth: true in the model's card",
            )
        return answer
