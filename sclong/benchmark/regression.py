"""Regression metrics: how near predicted profiles are to true ones.

Every function works along the last axis: profiles (n, d) give n numbers, one vector (d,) gives one. Nothing here
returns NaN for finite input: a correlation with a constant vector is 0, as in the published evaluation, which
replaces undefined correlations by 0 before averaging.
"""

from __future__ import annotations

import numpy as np


def mse(truth: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """Return the mean squared error of each profile, (...,) float64.

    Parameters
    ----------
    truth, prediction : (..., d) float
    """
    return np.mean((np.asarray(prediction, np.float64) - np.asarray(truth, np.float64)) ** 2, axis=-1)


def rmse(truth: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """Return the root of :func:`mse` of each profile; over all entries of a matrix: ``rmse(a.ravel(), b.ravel())``."""
    return np.sqrt(mse(truth, prediction))


def pearson(truth: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """Return Pearson's correlation of each profile, (...,) float64; 0 where either is constant.

    Parameters
    ----------
    truth, prediction : (..., d) float
        A profile counts as constant when its standard deviation is below 1e-9 of its largest magnitude: what is left
        after centring is then rounding.
    """
    a, b = (np.asarray(x, np.float64) for x in (truth, prediction))
    scale_a, scale_b = (np.abs(x).max(axis=-1) for x in (a, b))
    a, b = a - a.mean(axis=-1, keepdims=True), b - b.mean(axis=-1, keepdims=True)
    norm_a, norm_b = (np.sqrt(np.mean(x**2, axis=-1)) for x in (a, b))
    varies = (norm_a > 1e-9 * scale_a) & (norm_b > 1e-9 * scale_b)
    denominator = np.where(varies, norm_a * norm_b, 1.0)
    return np.clip(np.where(varies, np.mean(a * b, axis=-1) / denominator, 0.0), -1.0, 1.0)


def average_ranks(values: np.ndarray) -> np.ndarray:
    """Return ranks from 0 along the last axis, ties sharing their mean rank, (..., d) float64."""
    values = np.asarray(values)
    order = np.argsort(values, axis=-1, kind="stable")
    ordered = np.take_along_axis(values, order, axis=-1)
    starts = np.ones(values.shape, dtype=bool)
    starts[..., 1:] = ordered[..., 1:] != ordered[..., :-1]
    ends = np.ones(values.shape, dtype=bool)
    ends[..., :-1] = starts[..., 1:]
    place = np.broadcast_to(np.arange(values.shape[-1]), values.shape)
    first = np.maximum.accumulate(np.where(starts, place, 0), axis=-1)
    last = np.where(ends, place, values.shape[-1])[..., ::-1]
    last = np.minimum.accumulate(last, axis=-1)[..., ::-1]
    ranks = np.empty(values.shape, dtype=np.float64)
    np.put_along_axis(ranks, order, (first + last) / 2, axis=-1)
    return ranks


def spearman(truth: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """Return Spearman's correlation of each profile, (...,) float64; 0 where either is constant."""
    return pearson(average_ranks(truth), average_ranks(prediction))


def pearson_delta(truth: np.ndarray, prediction: np.ndarray, control: np.ndarray) -> np.ndarray:
    """Return Pearson's correlation of predicted and true changes from `control`, (...,) float64.

    Parameters
    ----------
    truth, prediction : (..., d) float
    control : (d,) float
        Mean profile of the control cells.
    """
    return pearson(np.asarray(truth, np.float64) - control, np.asarray(prediction, np.float64) - control)


def precision_at_k(
    truth: np.ndarray, prediction: np.ndarray, k: int, *, relevant: int = 100, lowest: bool = False
) -> np.ndarray:
    """Return which share of the `k` highest predicted entries is among the `relevant` highest true ones.

    Parameters
    ----------
    truth, prediction : (..., d) float
    k
        How many predicted entries are looked at.
    relevant
        How many true entries count as positives (100 of 978 landmark genes in the published evaluation).
    lowest
        The same for the lowest entries ("negative" precision).

    Returns
    -------
    (...,) float64
        Ties are broken by position, the first entry first.
    """
    sign = 1.0 if lowest else -1.0
    order_truth, order_prediction = (
        np.argsort(sign * np.asarray(x, np.float64), axis=-1, kind="stable") for x in (truth, prediction)
    )
    positive = np.zeros(order_truth.shape, dtype=bool)
    np.put_along_axis(positive, order_truth[..., :relevant], True, axis=-1)
    return np.take_along_axis(positive, order_prediction[..., :k], axis=-1).mean(axis=-1)
