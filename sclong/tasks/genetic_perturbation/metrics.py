"""Metrics of predicted perturbation responses beyond error and correlation: direction, and what the mean cannot have.

Profiles are mean expression; a *change* is a profile minus the mean profile of control cells. A screen's perturbations
share a response (stress, selection), so the mean of the training conditions correlates well with every truth. The
second half of this module measures what that mean does not know.
"""

from __future__ import annotations

import numpy as np

from sclong.benchmark.regression import pearson


def direction_accuracy(truth: np.ndarray, prediction: np.ndarray, control: np.ndarray) -> float:
    """Return the share of genes whose predicted change has the sign of the true one; no change is no sign.

    Parameters
    ----------
    truth, prediction, control : (d,) float
        One condition's genes; those whose true change is exactly 0 are left out.

    Returns
    -------
    float
        NaN when no gene changes.
    """
    wanted = np.sign(np.asarray(truth, np.float64) - control)
    found = np.sign(np.asarray(prediction, np.float64) - control)
    changes = wanted != 0
    return float((wanted == found)[changes].mean()) if changes.any() else float("nan")


def pearson_around(truth: np.ndarray, prediction: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """Return Pearson's correlation of profiles after subtracting `centre`, (...,) float64; 0 where either is constant.

    With the mean of the training conditions as `centre`, an answer scores only by what sets a condition apart from
    the others; that mean itself scores 0.

    Parameters
    ----------
    truth, prediction : (..., d) float
    centre : (d,) float
        A prediction that differs from it by less than the rounding of float32 counts as constant.
    """
    centre = np.asarray(centre, np.float64)
    off = np.asarray(prediction, np.float64) - centre
    near = np.all(np.abs(off) <= 1e-6 * (1 + np.abs(centre)), axis=-1, keepdims=True)
    return pearson(np.asarray(truth, np.float64) - centre, np.where(near, 0.0, off))


def l1_distances(prediction: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return the mean absolute difference of every prediction (row) and every truth (column), (n, n) float64."""
    prediction, truth = np.asarray(prediction, np.float64), np.asarray(truth, np.float64)
    return np.stack([np.abs(truth - row).mean(axis=1) for row in prediction])


def cosine_distances(prediction: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return 1 - cosine of every prediction (row) and every truth (column), (n, n) float64; 1 where one is zero."""

    def unit(rows: np.ndarray) -> np.ndarray:
        rows = np.asarray(rows, np.float64)
        size = np.sqrt((rows**2).sum(axis=1, keepdims=True))
        return np.divide(rows, size, out=np.zeros_like(rows), where=size > 1e-12)

    return 1 - unit(prediction) @ unit(truth).T


def discrimination(distances: np.ndarray, genes: list[str]) -> np.ndarray:
    """Return how well each prediction is told apart: the share of other truths that are farther from it than its own.

    Parameters
    ----------
    distances : (n, n) float
        Of prediction i (row) to the truth of condition j (column).
    genes
        What is perturbed in each condition; conditions of the same genes are not compared.

    Returns
    -------
    (n,) float64
        1: nearest to its own truth. Equal distances count half. One answer to all conditions has the mean 0.5, and so
        has an answer at random. NaN where there is no other condition.
    """
    names = np.asarray(genes)
    others = names[:, None] != names[None]
    own = np.diagonal(distances)[:, None]
    equal = np.isclose(distances, own, rtol=1e-9, atol=1e-12)
    wins = np.where(equal, 0.5, distances > own)
    count = others.sum(axis=1)
    return np.where(count > 0, (wins * others).sum(axis=1) / np.maximum(count, 1), np.nan)
