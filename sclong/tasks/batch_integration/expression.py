"""Expression itself as a cell embedding, and classical batch correction (capability integrated_embedding).

Each answers a problem of the task batch_integration (see :mod:`.controls`).
"""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
from scipy import sparse

from sclong.benchmark.model import Predictor
from sclong.benchmark.problem import Problem
from sclong.tasks.batch_integration.controls import principal_components, variable_genes
from sclong.tasks.batch_integration.dataset import IntegrationContext


class Expression(Predictor[IntegrationContext]):
    """Normalised expression, one dimension per gene.

    Parameters
    ----------
    top_genes
        Only this many genes, those that vary most within batches; None: all.
    """

    def __init__(self, top_genes: int | None = None) -> None:
        self.top_genes = top_genes

    def predict(self, problem: Problem[IntegrationContext], seed: int) -> np.ndarray:
        """Return log1p_cp10k, or the values of the file where it has no counts; `seed` changes nothing."""
        expression, batch = _of(problem)
        if self.top_genes is not None:
            expression = expression[:, variable_genes(expression, batch, self.top_genes)]
        return expression.toarray().astype(np.float32)


class Combat(Predictor[IntegrationContext]):
    """Principal components of variable genes after ComBat (Johnson et al. 2007, Biostatistics 8:118; scanpy's).

    ComBat fits an additive and a multiplicative effect of each batch to every gene, shrunk over genes, and removes
    both. Like the centring of batches, it also removes differences of composition between batches.

    Parameters
    ----------
    dimensions, top_genes
        As for :class:`.Pca`.
    """

    def __init__(self, dimensions: int = 50, top_genes: int = 2000) -> None:
        self.dimensions, self.top_genes = dimensions, top_genes

    def predict(self, problem: Problem[IntegrationContext], seed: int) -> np.ndarray:
        """Return components of the corrected values; `seed` starts the solver and changes no sign-free result."""
        import anndata
        import scanpy

        expression, batch = _of(problem)
        genes = variable_genes(expression, batch, self.top_genes)
        values = expression[:, genes].toarray().astype(np.float64)
        values = values[:, values.std(axis=0) > 0]
        obs = pd.DataFrame({"batch": pd.Categorical(batch)}, index=[str(i) for i in range(len(batch))])
        with warnings.catch_warnings():  # a gene without variance in one batch: its variance is taken as the prior's
            warnings.filterwarnings("ignore", category=RuntimeWarning)
            corrected = scanpy.pp.combat(anndata.AnnData(values, obs=obs), key="batch", inplace=False)
        return principal_components(np.asarray(corrected), self.dimensions, seed)


def _of(problem: Problem[IntegrationContext]) -> tuple[sparse.csr_matrix, np.ndarray]:
    """Expression and batch of the cells that are asked for."""
    rows = problem.rows("test")
    return problem.context.expression[rows], problem.samples["batch"].to_numpy(str)[rows]
