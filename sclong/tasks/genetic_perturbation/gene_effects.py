"""Head for genetic perturbations: effects of perturbed genes add up, and like genes have like effects.

Screens have tens of training conditions and embeddings hundreds of dimensions, so the head is a ridge regression in
its dual form. The change of a condition is a mean plus, for every perturbed gene, a linear function of the gene's
vector and a part of its own: the first serves genes that were never perturbed in training, the second remembers those
that were. How much of each, and how strong the penalty, is chosen on the validation part; vectors that tell nothing
are given no weight, and the answer is then that of an additive model shrunk to the mean.

Shape suffixes: C conditions, P perturbed genes, D vector dimensions, G measured genes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sclong.benchmark.names import REMAKE_EMBEDDING, align
from sclong.benchmark.problem import Features, Problem
from sclong.errors import InputDataError
from sclong.tasks.genetic_perturbation.dataset import PerturbationContext

SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
PENALTIES = (0.1, 0.3, 1.0, 3.0, 10.0, 100.0)


def scaled_vectors(vectors_PD: np.ndarray) -> np.ndarray:
    """Centre vectors and divide all by one number, so that their mean squared length is 1; (P, D) float64."""
    centred = vectors_PD - vectors_PD.mean(axis=0)
    length = np.sqrt(np.mean(np.sum(centred**2, axis=1)))
    return centred / length if length > 1e-9 else np.zeros_like(centred)


def fit_predict_gene_effects(
    vectors_PD: np.ndarray,
    perturbed_CP: np.ndarray,
    delta_CG: np.ndarray,
    train: np.ndarray,
    validation: np.ndarray,
    test: np.ndarray,
    *,
    shares: Sequence[float] = SHARES,
    penalties: Sequence[float] = PENALTIES,
) -> np.ndarray:
    """Fit on the training part, choose share and penalty on the validation part, answer the test part.

    Parameters
    ----------
    vectors_PD
        Vector of each perturbed gene; centred and brought to one common scale here.
    perturbed_CP
        1 where a condition perturbs a gene, else 0.
    delta_CG
        Change from control; rows of test conditions are not looked at.
    train, validation, test : (n,) int
        Rows of each part.
    shares
        Candidates for the weight of the vectors in the kernel; the rest goes to the genes' own parts.
    penalties
        Candidates for the ridge penalty.

    Returns
    -------
    (test, G) float64

    Raises
    ------
    InputDataError
        When the training or the validation part is empty.
    """
    for part, rows in (("training", train), ("validation", validation)):
        if len(rows) == 0:
            raise InputDataError(
                f"the {part} part has no conditions",
                "a training part to fit and a validation part to choose the penalty on (never the test part)",
                "use a split policy, or split options, that leave conditions for it",
            )
    scaled_PD = scaled_vectors(np.asarray(vectors_PD, dtype=np.float64))
    mean_G = delta_CG[train].mean(axis=0, dtype=np.float64)
    residual = delta_CG[train] - mean_G
    best_error, best = np.inf, np.empty(0)
    for share in shares:
        kernel_PP = share * scaled_PD @ scaled_PD.T + (1 - share) * np.eye(len(scaled_PD))
        kernel_CC = perturbed_CP @ kernel_PP @ perturbed_CP.T
        values, axes = np.linalg.eigh(kernel_CC[np.ix_(train, train)])
        projected = axes.T @ residual
        for penalty in penalties:
            dual = axes @ (projected / (np.maximum(values, 0) + penalty)[:, None])
            error = np.mean((mean_G + kernel_CC[np.ix_(validation, train)] @ dual - delta_CG[validation]) ** 2)
            if error < best_error:
                best_error, best = error, mean_G + kernel_CC[np.ix_(test, train)] @ dual
    return best


def perturbed_vectors(problem: Problem[PerturbationContext], features: Features) -> tuple[np.ndarray, np.ndarray]:
    """Look up the vectors of the perturbed genes.

    Returns
    -------
    vectors : (P, d) float64
        One row per perturbed gene, in alphabetical order, standardised over the genes of the data set dimension by
        dimension. A gene that the model does not know has the mean vector of the perturbed genes that it does know.
    perturbed : (samples, P) float64
        1 where a condition perturbs the gene.
    """
    table = features.gene_vectors().astype(np.float64)
    table = (table - table.mean(axis=0)) / (table.std(axis=0) + 1e-8)
    pairs = [genes.split("|") for genes in problem.samples["genes"]]
    genes = sorted({g for pair in pairs for g in pair})
    wanted = [problem.context.perturbed_ids[g] for g in genes]
    rows = align(features.genes, wanted, f"embedding of {features.model!r}: perturbed genes", REMAKE_EMBEDDING)
    vectors, known = table[rows], np.asarray(features.gene_mapped)[rows]
    vectors[~known] = vectors[known].mean(axis=0) if known.any() else 0.0
    return vectors, np.array([[float(g in pair) for g in genes] for pair in pairs])
