"""Chemical perturbation, step solve: the task's head, a small network and the space that the gene vectors span."""

from __future__ import annotations

import numpy as np

from sclong.benchmark.mlp import fit_predict_mlp
from sclong.benchmark.names import REMAKE_EMBEDDING, align
from sclong.benchmark.problem import Features, Problem
from sclong.benchmark.regression import mse
from sclong.errors import InputDataError
from sclong.tasks.chemical_perturbation.dataset import SignatureContext
from sclong.tasks.chemical_perturbation.description import describe

RANKS = (1, 2, 4, 8, 16, 32, 64)


def solve(problem: Problem[SignatureContext], features: Features, seed: int) -> np.ndarray:
    """Predict signatures inside the space that the gene vectors span, on top of the training mean.

    Each gene's change from the training mean is written as a combination of the first r principal components of
    the gene vectors; a small network predicts the r coefficients from compound, line and dose. Genes with like
    vectors get like predictions, so vectors that group genes as compounds do predict better. r is chosen on the
    validation part. A gene that the model does not know gets its training mean.

    Parameters
    ----------
    problem
        A fold.
    features
        With gene vectors; see :func:`gene_basis`.
    seed
        Of the small network.

    Returns
    -------
    (test samples, outputs) float32
    """
    train, validation, test = (problem.rows(part) for part in ("train", "validation", "test"))
    x = describe(problem)
    mean_G = problem.targets[train].mean(axis=0, dtype=np.float64)
    basis_GR = gene_basis(problem.outputs, features)
    coefficients = (problem.targets - mean_G) @ basis_GR
    predicted = np.concatenate([validation, test])
    predicted_R = fit_predict_mlp(
        x[train], coefficients[train], x[validation], coefficients[validation], x[predicted], seed
    ).astype(np.float64)
    of_validation, of_test = predicted_R[: len(validation)], predicted_R[len(validation) :]

    def signatures(part_R: np.ndarray, rank: int) -> np.ndarray:
        return mean_G + part_R[:, :rank] @ basis_GR[:, :rank].T

    ranks = [r for r in RANKS if r <= basis_GR.shape[1]]
    best = min(ranks, key=lambda r: float(mse(problem.targets[validation], signatures(of_validation, r)).mean()))
    return signatures(of_test, best).astype(np.float32)


def gene_basis(outputs: list[str], features: Features, most: int = RANKS[-1]) -> np.ndarray:
    """Return the first principal components of the output genes' vectors.

    Parameters
    ----------
    outputs
        Genes (G); those that the data set's expression does not have count as unknown.
    features
        Gene vectors (standardised by dimension here).
    most
        Upper bound of the number of components; at most a quarter of the genes and the rank of the vectors are used.

    Returns
    -------
    (G, r) float64
        Orthonormal columns, by falling variance; rows of unknown genes are (about) zero.

    Raises
    ------
    InputDataError
        The model has no gene vectors, or knows none of the genes.
    """
    of_gene = features.gene_vectors()
    rows = align(features.genes, outputs, f"embedding of {features.model!r}: genes", REMAKE_EMBEDDING, missing=True)
    known = (rows >= 0) & features.gene_mapped[rows]
    if not known.any():
        raise InputDataError(
            f"model {features.model!r} knows none of the {len(outputs)} genes of the signatures",
            "gene vectors for the landmark genes",
            "check the gene ids of the untreated expression and of the signatures",
        )
    vectors = np.zeros((len(outputs), of_gene.shape[1]))
    vectors[known] = of_gene[rows[known]]
    mean, sd = vectors[known].mean(axis=0), vectors[known].std(axis=0)
    vectors[known] = (vectors[known] - mean) / (sd + 1e-8)
    left, scale, _ = np.linalg.svd(vectors, full_matrices=False)
    rank = max(1, min(most, len(outputs) // 4, int((scale > 1e-6 * scale[0]).sum())))
    return left[:, :rank]
