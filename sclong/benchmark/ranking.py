"""Metrics of ranked yes/no answers, and correlation within groups."""

from __future__ import annotations

import numpy as np

from sclong.benchmark.regression import pearson


def auroc(truth: np.ndarray, scores: np.ndarray) -> float:
    """Return the area under the receiver operating characteristic; ties count half.

    Parameters
    ----------
    truth : (n,) 0/1
    scores : (n,) float
        Higher means more likely 1.

    Returns
    -------
    float
        0.5 for a constant score; NaN when only one class is there (the area is not defined then).
    """
    if len(np.unique(truth)) < 2:
        return float("nan")
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(truth, scores))


def average_precision(truth: np.ndarray, scores: np.ndarray) -> float:
    """Return the average precision (area under the precision-recall curve, without interpolation).

    A constant score has the share of positives, and tied scores count as one threshold: their order changes nothing.
    NaN when nothing is positive.
    """
    if not np.any(truth):
        return float("nan")
    from sklearn.metrics import average_precision_score

    return float(average_precision_score(truth, scores))


def grouped_pearson(truth: np.ndarray, predicted: np.ndarray, groups: np.ndarray, minimum: int = 5) -> float:
    """Return the mean over groups of the Pearson correlation within each.

    Parameters
    ----------
    truth, predicted : (n,) float
    groups : (n,)
        For example the drug of each pair: between drugs, potency alone makes a high correlation.
    minimum
        Groups with fewer members are left out.

    Returns
    -------
    float
        A group in which one side is constant counts 0, as everywhere here; NaN when no group is large enough.
    """
    values = [
        float(pearson(truth[None, rows], predicted[None, rows])[0])
        for group in np.unique(groups)
        if len(rows := np.flatnonzero(groups == group)) >= minimum
    ]
    return float(np.mean(values)) if values else float("nan")
