"""Predict the mean expression of cells in which one or two genes were perturbed, for perturbations never seen.

Definitions follow the published evaluation: the data, the differentially expressed genes, the ``simulation`` split and
the metrics of GEARS (Roohani et al. 2024), as used in the scLong paper.
"""

from __future__ import annotations

from collections.abc import Mapping

from sclong.benchmark.task import Task

CONDITION_METRICS: Mapping[str, str] = {
    "mse_top20_de_non_dropout": "min",
    "pearson_delta_top20_de_non_dropout": "max",
    "direction_accuracy_top20_de_non_dropout": "max",
    "mse_top20_de": "min",
    "pearson_delta_top20_de": "max",
    "mse_all_genes": "min",
    "pearson_delta_all_genes": "max",
    "pearson_around_train_mean_all_genes": "max",
    "pearson_around_train_mean_top20_de_non_dropout": "max",
    "discrimination_l1_all_genes": "max",
    "discrimination_cosine_delta_all_genes": "max",
}
GEARS_SCORES = ("magnitude", "model_fit", "equality_of_contribution", "similarity")
GEARS_CLASSES = ("synergy", "suppression", "neomorphism", "redundancy", "epistasis")
INTERACTION_METRICS: Mapping[str, str] = {
    "gi_ols50_magnitude_pearson": "max",
    **{f"gi_ols50_{kind}_overlap": "max" for kind in ("synergy", "suppression")},
    **{f"gi_ols50_{kind}_precision_at_10": "max" for kind in ("synergy", "suppression")},
    **{f"gi_gears_{score}_pearson": "max" for score in GEARS_SCORES},
    **{f"gi_gears_{kind}_precision_at_10": "max" for kind in GEARS_CLASSES},
}

TASK = Task(
    name="genetic_perturbation",
    package="sclong.tasks.genetic_perturbation",
    title="Genetic perturbation",
    native="perturbation_prediction",
    needs=("gene_embedding",),
    metrics={**CONDITION_METRICS, **INTERACTION_METRICS},
    head_draws=False,
    figure="scores",
)
