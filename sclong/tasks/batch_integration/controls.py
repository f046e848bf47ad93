"""Cell embeddings without a foundation model: controls and principal components (capability integrated_embedding).

Each predicts from :class:`.IntegrationContext`.
"""

from __future__ import annotations

import numpy as np
from scipy import sparse

from sclong.benchmark.model import Predictor
from sclong.benchmark.problem import Problem
from sclong.errors import InputDataError
from sclong.seeding import derive_seed, rng
from sclong.tasks.batch_integration.dataset import IntegrationContext


class RandomEmbedding(Predictor[IntegrationContext]):
    """Standard normal numbers: batches are mixed perfectly, and nothing is known of any cell."""

    def __init__(self, dimensions: int = 50) -> None:
        self.dimensions = dimensions

    def predict(self, problem: Problem[IntegrationContext], seed: int) -> np.ndarray:
        """Draw by `seed`."""
        shape = (len(problem.test_samples), self.dimensions)
        return rng("random embedding", problem.fold, seed).standard_normal(shape).astype(np.float32)


class ConstantEmbedding(Predictor[IntegrationContext]):
    """One point for all cells: the maximum of a score that only asks whether batches can be told apart."""

    def __init__(self, dimensions: int = 2) -> None:
        self.dimensions = dimensions

    def predict(self, problem: Problem[IntegrationContext], seed: int) -> np.ndarray:
        """Return zeros; `seed` changes nothing."""
        return np.zeros((len(problem.test_samples), self.dimensions), dtype=np.float32)


class CellTypeOneHot(Predictor[IntegrationContext]):
    """The cell type and nothing else, one dimension per type. Its card must say ``sees_truth: true``."""

    def predict(self, problem: Problem[IntegrationContext], seed: int) -> np.ndarray:
        """Return one point per type; `seed` changes nothing.

        Raises
        ------
        InputDataError
            When the problem hides the cell types.
        """
        codes = problem.targets[problem.rows("test"), 0]
        if np.isnan(codes).any():
            raise InputDataError(
                f"task {problem.task!r}: the cell types are hidden",
                "a problem made with sees_truth, which only a ceiling gets",
                "write sees_truth: true in the model's card",
            )
        return np.eye(int(codes.max()) + 1, dtype=np.float32)[codes.astype(int)]


class Pca(Predictor[IntegrationContext]):
    """Principal components of the most variable genes, optionally after each batch was centred.

    Variable genes are those with the highest variance within batches (mean over batches of the variance of
    log1p_cp10k): a gene that differs between batches only is not one.

    Parameters
    ----------
    dimensions
        Components, at most; never more than cells or genes minus one.
    top_genes
        Number of variable genes.
    centre_batches
        Subtract each batch's mean profile first: the simplest batch correction, which also removes differences of
        cell type composition between batches.
    """

    def __init__(self, dimensions: int = 50, top_genes: int = 2000, centre_batches: bool = False) -> None:
        self.dimensions, self.top_genes, self.centre_batches = dimensions, top_genes, centre_batches

    def predict(self, problem: Problem[IntegrationContext], seed: int) -> np.ndarray:
        """Return components scaled as they come; `seed` starts the solver and changes no sign-free result."""
        rows = problem.rows("test")
        batch = problem.samples["batch"].to_numpy(str)[rows]
        expression = problem.context.expression[rows]
        genes = variable_genes(expression, batch, self.top_genes)
        values = expression[:, genes].toarray().astype(np.float32)
        if self.centre_batches:
            values = centre_by_group(values, batch)
        return principal_components(values, self.dimensions, seed)


class ShuffledPca(Pca):
    """Principal components handed out to the wrong cells: the shape of real data, nothing about any cell."""

    def predict(self, problem: Problem[IntegrationContext], seed: int) -> np.ndarray:
        """Permute the cells of the components by `seed`."""
        return rng("shuffled pca", problem.fold, seed).permutation(super().predict(problem, seed))


def variable_genes(expression: sparse.csr_matrix, batch: np.ndarray, count: int) -> np.ndarray:
    """Return the columns with the highest mean within-batch variance, best first, ties in order; (<= count,) int."""
    variance = np.zeros(expression.shape[1])
    names = np.unique(batch)
    for name in names:
        part = expression[batch == name].astype(np.float64)
        variance += part.multiply(part).mean(axis=0).A1 - part.mean(axis=0).A1 ** 2
    return np.argsort(-variance / len(names), kind="stable")[:count]


def centre_by_group(values: np.ndarray, group: np.ndarray) -> np.ndarray:
    """Return `values` (cells, genes) minus the mean row of each cell's group."""
    out = values.copy()
    for name in np.unique(group):
        out[group == name] -= values[group == name].mean(axis=0)
    return out


def principal_components(values: np.ndarray, dimensions: int, seed: int) -> np.ndarray:
    """Return the leading principal components of `values` (cells, genes); (cells, <= dimensions) float32."""
    from sklearn.decomposition import PCA

    size = max(1, min(dimensions, *(n - 1 for n in values.shape)))
    return PCA(size, random_state=derive_seed("pca", seed) % 2**32).fit_transform(values).astype(np.float32)
