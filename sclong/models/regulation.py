"""Scores for regulator -> target pairs from expression alone: classical methods and controls (capability edge_scores).

Each answers a problem of the task grn_inference: ``context["expression"]`` (cells, genes) csr, columns as
``problem.outputs``; regulators are ``problem.test_samples``, all of them among the genes.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import pandas as pd
from scipy import sparse
from scipy.stats import rankdata

from sclong.errors import CardError
from sclong.models.base import Predictor
from sclong.seeding import derive_seed, rng
from sclong.tasks.base import Problem

Method = Literal["pearson", "spearman"]


class AbsoluteCorrelation(Predictor):
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

    def predict(self, problem: Problem, seed: int) -> np.ndarray:
        """Return absolute correlations; `seed` changes nothing."""
        return absolute_correlation(_expression(problem), _regulator_columns(problem), self.method)


class ShuffledCorrelation(Predictor):
    """Absolute Pearson correlation after every gene was permuted over cells on its own: no relation is left."""

    def predict(self, problem: Problem, seed: int) -> np.ndarray:
        """Permute by `seed`."""
        shuffled = rng("shuffled correlation", problem.fold, seed).permuted(_expression(problem), axis=0)
        return absolute_correlation(shuffled, _regulator_columns(problem), "pearson")


class TargetMeanExpression(Predictor):
    """Mean expression of the target, whichever the regulator: what knowing expressed genes alone is worth."""

    def predict(self, problem: Problem, seed: int) -> np.ndarray:
        """Return one row for all regulators; `seed` changes nothing."""
        mean = np.asarray(problem.context["expression"].mean(axis=0), dtype=np.float32).ravel()
        return np.tile(mean, (len(problem.test_samples), 1))


class Genie3Trees(Predictor):
    """Importance of each regulator in a forest that predicts the target from all regulators, after GENIE3.

    Targets are scaled to unit variance, so that importances (decrease of variance, not normalised per tree) compare
    between targets; a regulator never predicts itself. GENIE3 as published grows 1,000 trees on all cells; cells, trees
    and targets are limited here so that one core suffices.

    Parameters
    ----------
    forest
        "extra_trees", or "random_forest" (GENIE3's default, slower).
    n_estimators
        Trees per target.
    max_cells
        Cells that the trees see, drawn once by the seed; None: all.
    max_genes
        Targets for which a forest is grown, most variable first; the others score 0. None: all.

    References
    ----------
    Huynh-Thu et al. 2010, PLoS ONE 5(9):e12776.
    """

    def __init__(
        self,
        forest: Literal["extra_trees", "random_forest"] = "extra_trees",
        n_estimators: int = 50,
        max_cells: int | None = 500,
        max_genes: int | None = None,
    ) -> None:
        if forest not in ("extra_trees", "random_forest"):
            raise CardError(f"forest {forest!r}", "extra_trees or random_forest", "correct the model's card")
        self.forest, self.n_estimators, self.max_cells, self.max_genes = forest, n_estimators, max_cells, max_genes

    def predict(self, problem: Problem, seed: int) -> np.ndarray:
        """Grow the forests, on one core; cells and trees are drawn by `seed`."""
        draw = rng("genie3 cells", problem.fold, seed)
        matrix = sparse.csr_matrix(problem.context["expression"])
        n_cells = matrix.shape[0]
        if self.max_cells is not None and self.max_cells < n_cells:
            matrix = matrix[np.sort(draw.choice(n_cells, self.max_cells, replace=False))]
        values = matrix.toarray().astype(np.float32)
        deviation = values.std(axis=0)
        regulators = _regulator_columns(problem)
        by_variance = np.argsort(-deviation, kind="stable")[: self.max_genes]
        scores = np.zeros((len(regulators), values.shape[1]), dtype=np.float32)
        for gene in by_variance[deviation[by_variance] > 0]:
            inputs = np.flatnonzero(regulators != gene)
            if len(inputs):
                target = values[:, gene] / deviation[gene]
                forest_seed = _tree_seed(problem, seed, int(gene))
                scores[inputs, gene] = self._importances(values[:, regulators[inputs]], target, forest_seed)
        return scores

    def _importances(self, inputs: np.ndarray, target: np.ndarray, seed: int) -> np.ndarray:
        """Mean decrease of the target's variance by each input, (inputs,)."""
        from sklearn.ensemble import ExtraTreesRegressor, RandomForestRegressor

        kind = ExtraTreesRegressor if self.forest == "extra_trees" else RandomForestRegressor
        trees = kind(self.n_estimators, max_features="sqrt", n_jobs=1, random_state=seed).fit(inputs, target)
        return np.mean([t.tree_.compute_feature_importances(normalize=False) for t in trees.estimators_], axis=0)


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


def _expression(problem: Problem) -> np.ndarray:
    return np.asarray(problem.context["expression"].toarray())


def _regulator_columns(problem: Problem) -> np.ndarray:
    columns = pd.Index(problem.outputs).get_indexer(pd.Index(problem.test_samples))
    assert (columns >= 0).all(), "every regulator is one of the genes"
    return columns


def _tree_seed(problem: Problem, seed: int, gene: int) -> int:
    """Seed of one target's forest (scikit-learn takes 32 bits); it does not depend on which other targets are grown."""
    return derive_seed("genie3 trees", problem.outputs[gene], seed) % 2**32
