"""Predict whether two drugs act synergistically on a cell line, from their structures and the line's expression.

Data and folds are those of DeepDDS (Wang et al. 2022), used in the scLong paper. Every model sees a pair without order:
features are the sum and the absolute difference of the two fingerprints, so no training row needs its mirror image.
Cell lines are matched by their whole name (SW48 is not SW480).
"""

from __future__ import annotations

from sclong.benchmark.task import Task

TASK = Task(
    name="drug_combination",
    package="sclong.tasks.drug_combination",
    title="Drug combination",
    native="synergy_prediction",
    needs=("cell_embedding",),
    metrics={"auroc": "max", "aupr": "max", "balanced_accuracy": "max", "kappa": "max"},
    head_draws=True,
)
