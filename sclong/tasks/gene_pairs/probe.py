"""Whether two genes belong together, from a vector of each: a linear probe without an order of the two.

Shapes: G genes, D dimensions, P pairs.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np

from sclong.benchmark.names import REMAKE_EMBEDDING, align
from sclong.benchmark.problem import Problem
from sclong.tasks.gene_pairs.dataset import PairContext

PENALTIES = (1.0, 1e1, 1e2, 1e3, 1e4, 1e5)
MAX_ITERATIONS = 300


def standardise_genes(vectors_GD: np.ndarray, known_G: np.ndarray) -> np.ndarray:
    """Return columns with mean 0 and deviation 1 over the known genes; unknown genes are zeros. No label is used."""
    known = vectors_GD[known_G].astype(np.float64)
    scale = known.std(axis=0)
    out = np.zeros(vectors_GD.shape, dtype=np.float32)
    out[known_G] = (known - known.mean(axis=0)) / np.where(scale > 0, scale, 1.0)
    return out


def pair_features(vectors_GD: np.ndarray, first_P: np.ndarray, second_P: np.ndarray) -> np.ndarray:
    """Return product and absolute difference of the two vectors, (P, 2 D) float32: the same for both orders."""
    a, b = vectors_GD[first_P], vectors_GD[second_P]
    return np.concatenate([a * b, np.abs(a - b)], axis=1, dtype=np.float32)


def cosine(vectors_GD: np.ndarray, known_G: np.ndarray, first_P: np.ndarray, second_P: np.ndarray) -> np.ndarray:
    """Return the cosine of each pair after the mean of the known genes was taken away; 0 with an unknown gene."""
    centred = np.where(known_G[:, None], vectors_GD - vectors_GD[known_G].mean(axis=0), 0.0)
    length = np.linalg.norm(centred, axis=1, keepdims=True)
    unit = np.divide(centred, length, out=np.zeros_like(centred), where=length > 0)
    return np.einsum("pd,pd->p", unit[first_P], unit[second_P])


def fit_and_answer(
    features_PF: np.ndarray,
    labels_P: np.ndarray,
    train: np.ndarray,
    validation: np.ndarray,
    test: np.ndarray,
    penalties: Sequence[float] = PENALTIES,
) -> np.ndarray:
    """Fit a logistic regression and return the probability of each test pair, (test pairs,) float32.

    The L2 penalty is the one of `penalties` with the least log loss on the validation pairs (of equals the strongest).
    Features are taken as they are: those of :func:`standardise_genes` have one scale.

    Parameters
    ----------
    features_PF, labels_P
        All pairs; labels of test pairs are not read.
    train, validation, test
        Positions of the pairs of each part.
    penalties
        Candidates: weight of the sum of squared coefficients (halved) beside the sum of log losses.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import log_loss

    x_train, x_validation, x_test = (features_PF[rows] for rows in (train, validation, test))
    y = np.nan_to_num(labels_P).astype(int)
    best, answer = np.inf, np.zeros(len(test), dtype=np.float32)
    for penalty in sorted(penalties, reverse=True):
        model = LogisticRegression(C=1 / penalty, max_iter=MAX_ITERATIONS)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(x_train, y[train])
        loss = float(log_loss(y[validation], model.predict_proba(x_validation)[:, 1], labels=[0, 1]))
        if loss < best:
            best, answer = loss, model.predict_proba(x_test)[:, 1].astype(np.float32)
    return answer


def probe(
    problem: Problem[PairContext], vectors_GD: np.ndarray, known_G: np.ndarray, genes: Sequence[str] | np.ndarray
) -> np.ndarray:
    """Predict from vectors: the trained probe's probability, and the untrained cosine.

    Parameters
    ----------
    problem
        Of this task.
    vectors_GD : (genes, dimensions) float
    known_G : (genes,) bool
        Genes that have a vector; the others count as the mean gene.
    genes
        Names of the rows.

    Returns
    -------
    (test samples, 2) float32

    Raises
    ------
    InputDataError
        When a gene of the problem has no row.
    """
    first, second = gene_positions(problem, genes)
    test = problem.rows("test")
    probability = fit_and_answer(
        pair_features(standardise_genes(vectors_GD, known_G), first, second),
        problem.targets[:, 0],
        problem.rows("train"),
        problem.rows("validation"),
        test,
    )
    return np.stack([probability, cosine(vectors_GD, known_G, first[test], second[test])], axis=1).astype(np.float32)


def gene_positions(problem: Problem[PairContext], genes: Sequence[str] | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows of the first and of the second gene of every pair.

    Raises
    ------
    InputDataError
        When a gene has none.
    """
    first, second = (
        align(genes, problem.samples[column], "vectors: genes of the pairs", REMAKE_EMBEDDING)
        for column in ("gene1", "gene2")
    )
    return first, second
