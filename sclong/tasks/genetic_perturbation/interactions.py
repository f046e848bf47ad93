"""Genetic interactions: how the change that two perturbations make together follows from their single changes.

Two definitions are in use, and their numbers differ:

==========  ==================================================================================================
``ols50``   the scLong paper's figures: the 50 first genes of the double's ranking, dropouts included; ordinary least
            squares of the double's change on the *true* changes of the singles and an intercept
``gears``   Roohani et al. 2024, after Norman et al. 2019: genes of high mean expression; Theil-Sen regression without
            intercept on the singles' changes (those the model predicts, where it predicts them); distance
            correlations
==========  ==================================================================================================

The *magnitude* of an interaction is ``sqrt(c1² + c2²)`` of the two coefficients in both. It is sqrt(2) where changes
simply add; larger is synergy, smaller suppression.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from sclong.benchmark.regression import pearson
from sclong.seeding import rng

SUBSETS = 10_000
CLASSES: Mapping[str, tuple[str, int]] = {
    "synergy": ("magnitude", 1),
    "suppression": ("magnitude", -1),
    "neomorphism": ("model_fit", -1),
    "redundancy": ("similarity", 1),
    "epistasis": ("equality_of_contribution", -1),
}
"""The five classes of GEARS: the score that tells of each, and whether a high (1) or a low (-1) value does."""


@dataclass(frozen=True)
class Interaction:
    """Scores of one pair by the definition ``gears``.

    Attributes
    ----------
    first, second
        Coefficients of the singles.
    magnitude
        ``sqrt(first² + second²)``.
    dominance
        ``|log10 |first / second||``; 0 where both count the same.
    model_fit
        Pearson's correlation of the fitted and the true change of the double; 0 where either is constant.
    equality_of_contribution
        Smaller over larger of the distance correlations of each single with the double.
    similarity
        Distance correlation of the two singles, as one two-column variable, with the double.
    similarity_of_singles
        Distance correlation of the singles with each other.
    """

    first: float
    second: float
    magnitude: float
    dominance: float
    model_fit: float
    equality_of_contribution: float
    similarity: float
    similarity_of_singles: float


def magnitude(first: np.ndarray | float, second: np.ndarray | float) -> np.ndarray:
    """Return ``sqrt(first² + second²)``."""
    return np.hypot(first, second)


def dominance(first: np.ndarray | float, second: np.ndarray | float) -> np.ndarray:
    """Return ``|log10 |first / second||``, infinite where one is 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.abs(np.log10(np.abs(np.asarray(first, np.float64) / second)))


def ols_coefficients(first: np.ndarray, second: np.ndarray, double: np.ndarray) -> tuple[float, float]:
    """Return the coefficients of `first` and `second` in the least-squares fit of `double`, with an intercept.

    Parameters
    ----------
    first, second, double : (genes,) float
        Changes. Where the singles are proportional, the solution of least norm.
    """
    design = np.stack([first, second, np.ones(len(first))], axis=1).astype(np.float64)
    found = np.linalg.lstsq(design, np.asarray(double, np.float64), rcond=None)[0]
    return float(found[0]), float(found[1])


def theil_sen(first: np.ndarray, second: np.ndarray, double: np.ndarray, subsets: int = SUBSETS) -> tuple[float, float]:
    """Return the Theil-Sen coefficients of `double` on `first` and `second` without intercept.

    The spatial median of the exact solutions on pairs of genes: all pairs, or `subsets` of them drawn by a fixed seed.
    scikit-learn's ``TheilSenRegressor(fit_intercept=False)`` is the same estimator; it is slower by its Python loop.

    Parameters
    ----------
    first, second, double : (genes,) float
        Changes; at least two genes.
    """
    x = np.stack([first, second], axis=1).astype(np.float64)
    y = np.asarray(double, np.float64)
    n = len(y)
    if n * (n - 1) // 2 <= subsets:
        pairs = np.array(list(combinations(range(n), 2)))
    else:
        draw = rng("theil-sen", n)
        a, b = draw.integers(n, size=subsets), draw.integers(n - 1, size=subsets)
        pairs = np.stack([a, b + (b >= a)], axis=1)
    (p, q), (r, s) = x[pairs[:, 0]].T, x[pairs[:, 1]].T
    u, v = y[pairs[:, 0]], y[pairs[:, 1]]
    determinant = p * s - q * r
    regular = np.abs(determinant) > 1e-12 * (np.abs(p * s) + np.abs(q * r))
    if not regular.any():  # the singles are proportional
        found = np.linalg.lstsq(x, y, rcond=None)[0]
        return float(found[0]), float(found[1])
    with np.errstate(divide="ignore", invalid="ignore"):
        solutions = np.stack([(s * u - q * v) / determinant, (p * v - r * u) / determinant], axis=1)[regular]
    median = spatial_median(solutions)
    return float(median[0]), float(median[1])


def spatial_median(points: np.ndarray, tolerance: float = 1e-6, most_steps: int = 1000) -> np.ndarray:
    """Return the point with the least sum of distances to `points`, (d,) float64 (Vardi and Zhang 2000).

    Parameters
    ----------
    points : (n, d) float
    tolerance
        Length of the last step.
    most_steps
        Steps at most.
    """
    at = np.median(points, axis=0)
    for _ in range(most_steps):
        off = points - at
        distance = np.sqrt((off**2).sum(axis=1))
        apart = distance > 1e-12
        if not apart.any():
            return at
        weight = 1 / distance[apart]
        step = (off[apart] * weight[:, None]).sum(axis=0)
        here = len(points) - apart.sum()  # points at the estimate hold it back
        pull = np.sqrt((step**2).sum())
        if pull <= here:
            return at
        move = (1 - here / pull) * step / weight.sum()
        at = at + move
        if np.sqrt((move**2).sum()) < tolerance:
            break
    return at


def distance_correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Return the distance correlation of two variables (Székely, Rizzo and Bakirov 2007), 0 where one is constant.

    Parameters
    ----------
    a, b : (n,) or (n, d) float
    """
    return _correlation(centred_distances(a), centred_distances(b))


def centred_distances(values: np.ndarray) -> np.ndarray:
    """Return the doubly centred matrix of Euclidean distances of the rows, (n, n) float64."""
    rows = np.asarray(values, np.float64).reshape(len(values), -1)
    squared = np.zeros((len(rows), len(rows)))
    for column in rows.T:
        squared += (column[:, None] - column) ** 2
    distance = np.sqrt(squared)
    return distance - distance.mean(axis=0) - distance.mean(axis=1)[:, None] + distance.mean()


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    scale = np.sqrt(np.vdot(a, a) * np.vdot(b, b))
    return float(np.sqrt(max(np.vdot(a, b) / scale, 0.0))) if scale > 0 else 0.0


def gears_interaction(first: np.ndarray, second: np.ndarray, double: np.ndarray) -> Interaction:
    """Return the scores of a pair by the definition ``gears``.

    Parameters
    ----------
    first, second, double : (genes,) float
        Changes of the genes of high mean expression.
    """
    c1, c2 = theil_sen(first, second, double)
    both = np.stack([first, second], axis=1).astype(np.float64)
    a, b, ab, joint = (centred_distances(v) for v in (first, second, double, both))
    contributions = sorted([_correlation(a, ab), _correlation(b, ab)])
    return Interaction(
        c1,
        c2,
        float(magnitude(c1, c2)),
        float(dominance(c1, c2)),
        float(pearson(both @ [c1, c2], np.asarray(double))),
        contributions[0] / contributions[1] if contributions[1] > 0 else 1.0,
        _correlation(joint, ab),
        _correlation(a, b),
    )


def strongest(scores: np.ndarray, k: int, sign: int = 1) -> np.ndarray:
    """Return the positions of the `k` highest (`sign` 1) or lowest (-1) scores; equal ones in their order."""
    return np.argsort(-sign * np.asarray(scores, np.float64), kind="stable")[:k]


def share_found(truth: np.ndarray, prediction: np.ndarray, k: int, relevant: int, sign: int = 1) -> float:
    """Return the share of the `k` most extreme predicted pairs that are among the `relevant` most extreme true ones.

    With ``k == relevant`` this is the overlap of the two sets over their size; with a smaller `k`, precision at k. Of
    equal predictions at the border, what a random choice among them would find: equal scores for all give the share of
    relevant pairs, chance.
    """
    score = sign * np.asarray(prediction, np.float64)
    border = np.sort(score)[-k]
    above, equal = score > border, score == border
    weight = above + equal * (k - above.sum()) / equal.sum()
    return float(weight[strongest(truth, relevant, sign)].sum() / k)
