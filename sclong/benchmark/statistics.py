"""Means over seeds, and how sure they are."""

from __future__ import annotations

import numpy as np
from scipy import stats


def mean_interval(values: np.ndarray, level: float = 0.95) -> tuple[float, float, float, float]:
    """Return mean, standard deviation and Student-t confidence interval of repeated runs.

    Parameters
    ----------
    values : (n,) float
        One value per training seed. NaN values (metric not defined) are left out.
    level
        Coverage of the interval.

    Returns
    -------
    tuple of float
        ``(mean, sd, low, high)``; sd (n - 1 in the denominator) and interval are NaN for fewer than two values.

    Examples
    --------
    >>> mean_interval(np.array([1.0, 3.0]))[:2]
    (2.0, 1.4142135623730951)
    """
    values = np.asarray(values, dtype=float)
    values = values[~np.isnan(values)]
    if len(values) == 0:
        return (float("nan"),) * 4
    mean = float(values.mean())
    if len(values) < 2:
        return mean, float("nan"), float("nan"), float("nan")
    sd = float(values.std(ddof=1))
    half = float(stats.t.ppf(0.5 + level / 2, len(values) - 1)) * sd / len(values) ** 0.5
    return mean, sd, mean - half, mean + half
