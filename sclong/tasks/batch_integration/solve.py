"""Batch integration, step solve: the model's cell embedding as it is."""

from __future__ import annotations

import numpy as np

from sclong.benchmark.names import REMAKE_EMBEDDING, align
from sclong.benchmark.problem import Features, Problem
from sclong.tasks.batch_integration.dataset import IntegrationContext


def solve(problem: Problem[IntegrationContext], features: Features, seed: int) -> np.ndarray:
    """Return the model's cell embedding as it is, in the order of the samples."""
    rows = align(features.cells, problem.test_samples, f"embedding of {features.model!r}: cells", REMAKE_EMBEDDING)
    return features.cell_vectors()[rows].astype(np.float32)
