"""Batch integration, step solve: the model's cell embedding as it is."""

from __future__ import annotations

import numpy as np
import pandas as pd

from sclong.benchmark.problem import Features, Problem
from sclong.errors import InputDataError
from sclong.tasks.batch_integration.dataset import IntegrationContext


def solve(problem: Problem[IntegrationContext], features: Features, seed: int) -> np.ndarray:
    """Return the model's cell embedding as it is, in the order of the samples."""
    rows = pd.Index(features.cells).get_indexer(pd.Index(problem.test_samples))
    if (rows < 0).any():
        raise InputDataError(
            f"embedding of {features.model!r}: {int((rows < 0).sum())} of {len(rows)} cells have no row",
            "one row for every cell of the data set's expression.h5ad",
            "delete the embedding's folder and let it be made again",
        )
    return features.cell_vectors()[rows].astype(np.float32)
