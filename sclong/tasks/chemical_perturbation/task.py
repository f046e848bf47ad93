"""Predict how compounds never seen change the expression of landmark genes in a cell line (L1000 signatures).

A sample is a signature: the z-scores of the genes of one cell line after 24 hours with a compound at a dose. Test
compounds are in no training signature. A model predicts signatures itself, or provides gene vectors, from which the
task's head predicts. Metrics and the published split are those of DeepCE (Pham et al. 2021), as used in the scLong
paper.
"""

from __future__ import annotations

from sclong.benchmark.task import Task

TASK = Task(
    name="chemical_perturbation",
    package="sclong.tasks.chemical_perturbation",
    title="Chemical perturbation",
    native="signature_prediction",
    needs=("gene_embedding",),
    metrics={
        "rmse": "min",
        "pearson": "max",
        "spearman": "max",
        "pos_precision_at_100": "max",
        "neg_precision_at_100": "max",
        "pos_precision_at_20": "max",
        "neg_precision_at_20": "max",
    },
    head_draws=True,
)
