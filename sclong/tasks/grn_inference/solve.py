"""Gene regulatory networks, step solve: the task's head, the cosine of two gene vectors; nothing is trained."""

from __future__ import annotations

import numpy as np

from sclong.benchmark.problem import Features, Problem
from sclong.tasks.grn_inference.dataset import NetworkContext
from sclong.tasks.grn_inference.vectors import cosine_scores, gene_vectors


def solve(problem: Problem[NetworkContext], features: Features, seed: int) -> np.ndarray:
    """Score each pair by the cosine of the two gene vectors, sign kept; -1, no prediction, if one is unmapped.

    The published run starts DeepSEM from inner products of L1-normalised vectors instead and reports its weights
    (the models grn_deepsem_sclong and grn_sclong_inner). `seed` changes nothing.

    Returns
    -------
    (regulators, genes) float32
    """
    return cosine_scores(problem, *gene_vectors(problem, features))
