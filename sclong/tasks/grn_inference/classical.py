"""Scores for regulator -> target pairs from expression alone: classical methods and controls (capability edge_scores).

Each predicts from ``problem.context.expression``; regulators are ``problem.test_samples``, all of them among the genes
(``problem.outputs``).
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from scipy.stats import rankdata

from sclong.benchmark.annotations import go_terms
from sclong.benchmark.controls import Truth
from sclong.benchmark.model import Predictor
from sclong.benchmark.names import REMAKE_SPLIT, align
from sclong.benchmark.problem import Problem
from sclong.errors import CardError
from sclong.seeding import rng
from sclong.tasks.grn_inference.dataset import NetworkContext

Method = Literal["pearson", "spearman"]


class AbsoluteCorrelation(Predictor[NetworkContext]):
    """Absolute correlation of regulator and target over cells.

    It is symmetric: of two regulators, A -> B and B -> A get one score. Genes without variance get 0.

    Parameters
    ----------
    method
        "pearson", or "spearman" (of ranks; ties share their mean rank).
    """

    def __init__(self, method: Method = "pearson") -> None:
        if method not in ("pearson", "spearman"):
            raise CardError(f"method {method!r}", "pearson or spearman", "correct the options of the model's card")
        self.method = method

    def predict(self, problem: Problem[NetworkContext], seed: int) -> np.ndarray:
        """Return absolute correlations; `seed` changes nothing."""
        return absolute_correlation(expression(problem), regulator_columns(problem), self.method)


class ShuffledCorrelation(Predictor[NetworkContext]):
    """Absolute Pearson correlation after every gene was permuted over cells on its own: no relation is left."""

    def predict(self, problem: Problem[NetworkContext], seed: int) -> np.ndarray:
        """Permute by `seed`."""
        shuffled = rng("shuffled correlation", problem.fold, seed).permuted(expression(problem), axis=0)
        return absolute_correlation(shuffled, regulator_columns(problem), "pearson")


class TargetMeanExpression(Predictor[NetworkContext]):
    """Mean expression of the target, whichever the regulator: what knowing expressed genes alone is worth."""

    def predict(self, problem: Problem[NetworkContext], seed: int) -> np.ndarray:
        """Return one row for all regulators; `seed` changes nothing."""
        mean = np.asarray(problem.context.expression.mean(axis=0), dtype=np.float32).ravel()
        return np.tile(mean, (len(problem.test_samples), 1))


class NetworkDegrees(Predictor[NetworkContext]):
    """Product of the regulator's and the target's number of edges in the true network.

    It leaks: it is shown the network, and keeps of it which genes have many edges. What a method that knows nothing but
    popular genes can score. Its card must say ``sees_truth: true``.
    """

    def predict(self, problem: Problem[NetworkContext], seed: int) -> np.ndarray:
        """Multiply the degrees; `seed` changes nothing.

        Raises
        ------
        InputDataError
            When the problem hides the network.
        """
        truth = Truth().predict(problem, seed)
        return (truth.sum(axis=1, keepdims=True) * truth.sum(axis=0, keepdims=True)).astype(np.float32)


class GoJaccard(Predictor[NetworkContext]):
    """Jaccard index of the two genes' GO terms, the weight of an edge of the GO graph: symmetric, untrained."""

    def predict(self, problem: Problem[NetworkContext], seed: int) -> np.ndarray:
        """Return shared terms over all terms of the two, 0 where neither has one; `seed` changes nothing.

        Raises
        ------
        InputDataError
            When the data set has no annotations.
        """
        terms = go_terms(problem)
        sizes = terms.getnnz(axis=1)
        rows = regulator_columns(problem)
        shared = (terms[rows] @ terms.T).toarray()
        union = sizes[rows][:, None] + sizes[None, :] - shared
        return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0).astype(np.float32)


class MutualInformation(Predictor[NetworkContext]):
    """Mutual information of regulator and target over cells, as it is or read against its background (CLR).

    Zeros are a class of their own; values above are cut into classes of equally many cells. CLR scores a pair by how
    far its information stands out among all pairs of the regulator and among all pairs of the target,
    ``sqrt(max(0, z_regulator)^2 + max(0, z_target)^2)``.

    Parameters
    ----------
    classes
        Classes of the values above zero.
    background
        True for CLR, False for the information itself (nats).

    References
    ----------
    Faith et al. 2007, PLoS Biology 5(1):e8 (CLR).
    """

    def __init__(self, classes: int = 5, background: bool = True) -> None:
        self.classes, self.background = classes, background

    def predict(self, problem: Problem[NetworkContext], seed: int) -> np.ndarray:
        """Return scores; `seed` changes nothing."""
        labels = value_classes(expression(problem), self.classes)
        rows = regulator_columns(problem)
        information = mutual_information(labels, rows, self.classes + 1)
        if not self.background:
            return information
        others = rows[:, None] != np.arange(labels.shape[1])[None, :]
        z_row, z_column = _z_score(information, others, 1), _z_score(information, others, 0)
        return np.sqrt(np.maximum(z_row, 0) ** 2 + np.maximum(z_column, 0) ** 2).astype(np.float32)


def _z_score(values: np.ndarray, counted: np.ndarray, axis: int) -> np.ndarray:
    """Centre and scale along an axis by the entries that count; 0 where these do not vary."""
    n = np.maximum(counted.sum(axis=axis, keepdims=True), 1)
    mean = np.where(counted, values, 0).sum(axis=axis, keepdims=True) / n
    deviation = np.sqrt((np.where(counted, values - mean, 0) ** 2).sum(axis=axis, keepdims=True) / n)
    return np.divide(values - mean, deviation, out=np.zeros_like(values), where=deviation > 1e-9)


def value_classes(values: np.ndarray, classes: int) -> np.ndarray:
    """Cut every gene's values into classes: 0 where it is not seen, 1 ... `classes` by rank among its other values.

    Parameters
    ----------
    values : (cells, genes) float
        Not negative. Equal values of a gene get one class.
    classes
        Classes above zero.

    Returns
    -------
    (cells, genes) int8
    """
    seen = values > 0
    zeros = (~seen).sum(axis=0)
    rank = rankdata(values, method="average", axis=0) - zeros - 0.5  # 0 ... seen values - 1
    share = rank / np.maximum(seen.sum(axis=0), 1)
    return np.where(seen, 1 + np.floor(np.clip(share, 0, 1 - 1e-9) * classes), 0).astype(np.int8)


def mutual_information(labels: np.ndarray, rows: np.ndarray, classes: int, block: int = 2048) -> np.ndarray:
    """Return the mutual information of some columns with all columns, in nats.

    All tables of a block of pairs come from one matrix product; there is no loop over pairs.

    Parameters
    ----------
    labels : (cells, genes) int
        Class of each value, 0 ... classes - 1.
    rows : (regulators,) int
        Columns of `labels` that become rows of the result.
    classes
        Number of classes.
    block
        Genes (and a fortieth as many regulators) taken at a time: bounds memory.

    Returns
    -------
    (regulators, genes) float32
    """
    n_cells, n_genes = labels.shape

    def one_hot(columns: np.ndarray) -> np.ndarray:
        hot = labels[:, columns, None] == np.arange(classes, dtype=labels.dtype)
        return hot.reshape(n_cells, -1).astype(np.float32)

    def entropy(p: np.ndarray) -> np.ndarray:
        return -(p * np.log(np.where(p > 0, p, 1))).sum(axis=-1)

    out = np.empty((len(rows), n_genes), dtype=np.float32)
    step = max(block // 40, 1)
    for start in range(0, n_genes, block):
        genes = np.arange(start, min(start + block, n_genes))
        targets = one_hot(genes)
        h_targets = entropy(targets.mean(axis=0, dtype=np.float64).reshape(-1, classes))
        for first in range(0, len(rows), step):
            some = rows[first : first + step]
            regulators = one_hot(some)
            h_regulators = entropy(regulators.mean(axis=0, dtype=np.float64).reshape(-1, classes))
            table = (regulators.T @ targets / n_cells).reshape(len(some), classes, len(genes), classes)
            joint = entropy(table.transpose(0, 2, 1, 3).reshape(len(some), len(genes), -1))
            out[first : first + step, start : start + len(genes)] = h_regulators[:, None] + h_targets - joint
    return np.maximum(out, 0)


def absolute_correlation(values: np.ndarray, rows: np.ndarray, method: Method) -> np.ndarray:
    """Return |correlation| of some columns with all columns.

    Parameters
    ----------
    values : (cells, genes) float
    rows : (regulators,) int
        Columns of `values` that become rows of the result.
    method
        Pearson, or Spearman.

    Returns
    -------
    (regulators, genes) float32
        0 where one of the two has no variance.
    """
    used = rankdata(values, axis=0) if method == "spearman" else values.astype(np.float64)
    centred = used - used.mean(axis=0)
    length = np.linalg.norm(centred, axis=0)
    varies = length > 1e-9 * np.maximum(1.0, np.abs(used).max(axis=0))
    unit = np.divide(centred, length, out=np.zeros_like(centred), where=varies)
    return np.abs(unit[:, rows].T @ unit).astype(np.float32)


def expression(problem: Problem[NetworkContext]) -> np.ndarray:
    """Return the values of a problem, (cells, genes) float32."""
    return np.asarray(problem.context.expression.toarray())


def regulator_columns(problem: Problem[NetworkContext]) -> np.ndarray:
    """Return the column of each regulator among the genes, (regulators,) int64.

    Raises
    ------
    InputDataError
        When a regulator is none of the genes.
    """
    return align(problem.outputs, problem.test_samples, "the judged genes: regulators", REMAKE_SPLIT)
