"""The gene vectors of an embedding model for the genes of a problem, and how alike they are."""

from __future__ import annotations

import numpy as np

from sclong.benchmark.names import REMAKE_EMBEDDING, REMAKE_SPLIT, align
from sclong.benchmark.problem import Features, Problem
from sclong.errors import InputDataError
from sclong.tasks.grn_inference.dataset import NetworkContext
from sclong.tasks.grn_inference.metrics import NO_PREDICTION


def gene_vectors(problem: Problem[NetworkContext], features: Features) -> tuple[np.ndarray, np.ndarray]:
    """Return a model's vectors of the genes of a problem.

    Returns
    -------
    (vectors, mapped)
        (genes, d) float32, and (genes,) bool: which genes the model knows.

    Raises
    ------
    InputDataError
        When the genes are not human, or the embedding has no gene vectors or is of other genes.
    """
    if problem.context.species != "human":
        raise InputDataError(
            f"genes of a {problem.context.species}; embedding {features.model!r} is of human genes",
            "human genes",
            "write needs: [edge_scores] in the benchmark's card, and leave this model out of it (models)",
        )
    vectors = features.gene_vectors()
    positions = align(features.genes, problem.outputs, f"embedding of {features.model!r}: genes", REMAKE_EMBEDDING)
    return vectors[positions], features.gene_mapped[positions]


def cosine_scores(problem: Problem[NetworkContext], vectors: np.ndarray, mapped: np.ndarray) -> np.ndarray:
    """Return the cosine of regulator and gene, (regulators, genes) float32; -1 where one of them is not mapped.

    Only there: vectors that point in opposite directions score the next number above.

    Parameters
    ----------
    problem
        Its outputs are the genes, its test samples the regulators.
    vectors : (genes, d) float32
    mapped : (genes,) bool
        Which genes the model knows.
    """
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit = np.divide(vectors, length, out=np.zeros_like(vectors), where=length > 0)
    regulators = align(problem.outputs, problem.test_samples, "the genes: regulators", REMAKE_SPLIT)
    scores = (unit[regulators] @ unit.T).astype(np.float32)
    np.maximum(scores, np.nextafter(np.float32(NO_PREDICTION), np.float32(0)), out=scores)
    scores[~mapped[regulators]] = NO_PREDICTION
    scores[:, ~mapped] = NO_PREDICTION
    return scores
