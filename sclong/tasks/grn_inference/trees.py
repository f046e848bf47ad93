"""Networks from trees: each target is predicted from the regulators, and their importances are the scores."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, Literal

import numpy as np

from sclong.benchmark.model import Predictor
from sclong.benchmark.problem import Problem
from sclong.errors import CardError
from sclong.seeding import derive_seed, rng
from sclong.tasks.grn_inference.classical import regulator_columns
from sclong.tasks.grn_inference.dataset import NetworkContext


class Trees(Predictor[NetworkContext]):
    """One ensemble of trees per target, on one core.

    Targets are scaled to unit variance, so that importances (decrease of variance, not normalised per ensemble) compare
    between targets; a regulator never predicts itself.

    Parameters
    ----------
    max_cells
        Cells that the trees see, drawn once by the seed; None: all.
    max_genes
        Targets for which trees are grown, most variable first; the others score 0. None: all.
    """

    def __init__(self, max_cells: int | None, max_genes: int | None) -> None:
        self.max_cells, self.max_genes = max_cells, max_genes

    @abstractmethod
    def importances(self, inputs: np.ndarray, target: np.ndarray, seed: int) -> np.ndarray:
        """Decrease of the variance of `target` (cells,) by each of `inputs` (cells, regulators); (regulators,)."""

    def predict(self, problem: Problem[NetworkContext], seed: int) -> np.ndarray:
        """Grow the trees; cells and trees are drawn by `seed`."""
        draw = rng("genie3 cells", problem.fold, seed)
        matrix = problem.context.expression
        n_cells = matrix.shape[0]
        if self.max_cells is not None and self.max_cells < n_cells:
            matrix = matrix[np.sort(draw.choice(n_cells, self.max_cells, replace=False))]
        values = matrix.toarray().astype(np.float32)
        deviation = values.std(axis=0)
        regulators = regulator_columns(problem)
        by_variance = np.argsort(-deviation, kind="stable")[: self.max_genes]
        scores = np.zeros((len(regulators), values.shape[1]), dtype=np.float32)
        for gene in by_variance[deviation[by_variance] > 0]:
            inputs = np.flatnonzero(regulators != gene)
            if len(inputs):
                target = values[:, gene] / deviation[gene]
                tree_seed = _tree_seed(problem, seed, int(gene))
                scores[inputs, gene] = self.importances(values[:, regulators[inputs]], target, tree_seed)
        return scores


class Genie3Trees(Trees):
    """Importance of each regulator in a forest that predicts the target from all regulators, after GENIE3.

    GENIE3 as published grows 1,000 trees on all cells; cells, trees and targets are limited here so that one core
    suffices.

    Parameters
    ----------
    forest
        "extra_trees", or "random_forest" (GENIE3's default, slower).
    n_estimators
        Trees per target.
    max_cells, max_genes
        See :class:`Trees`.

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
        super().__init__(max_cells, max_genes)
        if forest not in ("extra_trees", "random_forest"):
            raise CardError(f"forest {forest!r}", "extra_trees or random_forest", "correct the model's card")
        self.forest, self.n_estimators = forest, n_estimators

    def importances(self, inputs: np.ndarray, target: np.ndarray, seed: int) -> np.ndarray:
        """Return the mean over trees."""
        from sklearn.ensemble import ExtraTreesRegressor, RandomForestRegressor

        kind = ExtraTreesRegressor if self.forest == "extra_trees" else RandomForestRegressor
        trees = kind(self.n_estimators, max_features="sqrt", n_jobs=1, random_state=seed).fit(inputs, target)
        return np.mean([t.tree_.compute_feature_importances(normalize=False) for t in trees.estimators_], axis=0)


class GrnBoost2(Trees):
    """Importance of each regulator in boosted trees that predict the target, stopped early: GRNBoost2.

    Each tree sees a share of the cells; boosting ends when the mean improvement on the others over the last trees is
    negative. Defaults are those of the published program (arboreto); its scheduler is not used. Importances are summed
    over trees, so that targets that many trees could predict count more.

    Parameters
    ----------
    learning_rate, n_estimators, max_features, subsample
        Of :class:`sklearn.ensemble.GradientBoostingRegressor`; `n_estimators` is the most trees per target.
    window
        Over how many trees the improvement is averaged.
    max_cells, max_genes
        See :class:`Trees`.

    References
    ----------
    Moerman et al. 2019, Bioinformatics 35:2159.
    """

    def __init__(
        self,
        learning_rate: float = 0.01,
        n_estimators: int = 5000,
        max_features: float = 0.1,
        subsample: float = 0.9,
        window: int = 25,
        max_cells: int | None = None,
        max_genes: int | None = None,
    ) -> None:
        super().__init__(max_cells, max_genes)
        self.options = {
            "learning_rate": learning_rate,
            "n_estimators": n_estimators,
            "max_features": max_features,
            "subsample": subsample,
        }
        self.window = window

    def importances(self, inputs: np.ndarray, target: np.ndarray, seed: int) -> np.ndarray:
        """Return the sum over trees."""
        from sklearn.ensemble import GradientBoostingRegressor

        def no_better(step: int, model: Any, _: Any) -> bool:
            return step >= self.window and bool(model.oob_improvement_[step - self.window + 1 : step + 1].mean() < 0)

        trees = GradientBoostingRegressor(random_state=seed, **self.options).fit(inputs, target, monitor=no_better)
        return trees.feature_importances_ * len(trees.estimators_)


def _tree_seed(problem: Problem[NetworkContext], seed: int, gene: int) -> int:
    """Seed of one target's forest (scikit-learn takes 32 bits); it does not depend on which other targets are grown."""
    return derive_seed("genie3 trees", problem.outputs[gene], seed) % 2**32
