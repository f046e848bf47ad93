"""Predict how strongly a drug inhibits a cell line (ln IC50), from the drug's structure and the line's expression.

Data layouts and the random split per cancer type follow DeepCDR (Liu et al. 2020), used in the scLong paper.
"""

from __future__ import annotations

from sclong.benchmark.task import Task

TASK = Task(
    name="drug_response",
    package="sclong.tasks.drug_response",
    title="Drug response",
    native="response_prediction",
    needs=("cell_embedding",),
    metrics={"pearson": "max", "spearman": "max", "rmse": "min", "pearson_per_drug": "max"},
    head_draws=True,
)
