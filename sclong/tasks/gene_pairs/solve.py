"""Gene pairs, step solve: the task's head, a linear probe on products and differences of the two vectors."""

from __future__ import annotations

import numpy as np

from sclong.benchmark.problem import Features, Problem
from sclong.tasks.gene_pairs.dataset import PairContext
from sclong.tasks.gene_pairs.probe import probe


def solve(problem: Problem[PairContext], features: Features, seed: int) -> np.ndarray:
    """Predict with the probe; `seed` changes nothing.

    Returns
    -------
    (test samples, 2) float32
        Probability by the trained probe, and the cosine of the two vectors, for which nothing is trained.
    """
    return probe(problem, features.gene_vectors(), features.gene_mapped, features.genes)
