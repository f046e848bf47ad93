"""Drug combination, step solve: the task's head, a small network on both drugs and the embedding."""

from __future__ import annotations

import numpy as np

from sclong.benchmark.mlp import fit_predict_mlp
from sclong.benchmark.problem import Features, Problem
from sclong.drugs.lines import line_rows
from sclong.tasks.drug_combination.dataset import CombinationContext


def solve(problem: Problem[CombinationContext], features: Features, seed: int) -> np.ndarray:
    """Predict with a small network from both drugs (without order) and the cell line's embedding."""
    lines = problem.samples["cell"].to_numpy(dtype=str)
    vectors = line_rows(features.cells, lines, features.model, features.cell_vectors())
    x = np.hstack([problem.context.drug_features(problem.samples), vectors])
    train, validation, test = (problem.rows(part) for part in ("train", "validation", "test"))
    y = problem.targets
    return fit_predict_mlp(
        x[train],
        y[train],
        x[validation],
        y[validation],
        x[test],
        seed,
        loss="bce",
        epochs=100,
        patience=10,
        batch_size=256,
    )
