"""Genetic perturbation, step solve: the task's head, linear in the vectors of the perturbed genes."""

from __future__ import annotations

import numpy as np

from sclong.benchmark.problem import Features, Problem
from sclong.tasks.genetic_perturbation.dataset import PerturbationContext
from sclong.tasks.genetic_perturbation.gene_effects import fit_predict_gene_effects, perturbed_vectors


def solve(problem: Problem[PerturbationContext], features: Features, seed: int) -> np.ndarray:
    """Predict the change from control with :func:`.fit_predict_gene_effects`.

    The head has a closed form: `seed` changes nothing.
    """
    vectors_PD, perturbed_CP = perturbed_vectors(problem, features)
    control = problem.context.control_mean
    parts = (problem.rows(part) for part in ("train", "validation", "test"))
    delta = fit_predict_gene_effects(vectors_PD, perturbed_CP, problem.targets - control, *parts)
    return (delta + control).astype(np.float32)
