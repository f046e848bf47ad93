"""A model of the task doubling."""

from __future__ import annotations

import numpy as np

from sclong.benchmark.model import Predictor
from sclong.benchmark.problem import Context, Problem


class Twice(Predictor[Context]):
    """Twice the number."""

    def predict(self, problem: Problem[Context], seed: int) -> np.ndarray:
        """Double the test samples; `seed` changes nothing."""
        test = problem.samples["number"].to_numpy()[problem.rows("test")]
        return (2 * test[:, None]).astype(np.float32)
