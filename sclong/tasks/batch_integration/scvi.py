"""scVI as an integrated embedding: a network trained on the cells that are judged, told their batches."""

from __future__ import annotations

import logging

import numpy as np

from sclong.benchmark.model import Predictor
from sclong.benchmark.problem import Problem
from sclong.errors import InputDataError
from sclong.seeding import derive_seed
from sclong.tasks.batch_integration.controls import variable_genes
from sclong.tasks.batch_integration.dataset import IntegrationContext


class ScVi(Predictor[IntegrationContext]):
    """Latent means of scVI (Lopez et al. 2018, Nature Methods 15:1053), with the batch as covariate.

    Needs the package scvi-tools and raw counts.

    Parameters
    ----------
    dimensions, layers
        Of the latent space; hidden layers. Defaults as in scIB.
    top_genes
        Number of variable genes.
    epochs
        Passes over the cells; None: what scvi-tools takes for this many cells.
    """

    def __init__(self, dimensions: int = 30, layers: int = 2, top_genes: int = 2000, epochs: int | None = None) -> None:
        self.dimensions, self.layers, self.top_genes, self.epochs = dimensions, layers, top_genes, epochs

    def predict(self, problem: Problem[IntegrationContext], seed: int) -> np.ndarray:
        """Train with `seed` on a CPU; return (cells, dimensions).

        Raises
        ------
        InputDataError
            scvi-tools cannot be imported, or the data set has no raw counts.
        """
        counts = problem.context.counts
        if counts is None:
            raise InputDataError(
                f"task {problem.task!r}: scVI, and the data set holds no raw counts",
                "value_kind: counts in the benchmark's card (scVI models counts)",
                "name the layer with the counts in the card, or leave scvi out of models",
            )
        try:
            import scvi
        except ImportError as error:
            raise InputDataError(
                f"model scvi: scvi-tools cannot be imported ({error})",
                "pip install -c envs/constraints.txt scvi-tools",
                "install it, or take the card scvi.yaml away from config/models",
            ) from None
        import anndata

        rows = problem.rows("test")
        batch = problem.samples["batch"].to_numpy(str)[rows]
        genes = variable_genes(problem.context.expression[rows], batch, self.top_genes)
        adata = anndata.AnnData(counts[rows][:, np.sort(genes)].copy())
        adata.obs["batch"] = batch
        scvi.settings.verbosity = logging.WARNING
        scvi.settings.seed = derive_seed("scvi", seed) % 2**31
        scvi.model.SCVI.setup_anndata(adata, batch_key="batch")
        model = scvi.model.SCVI(adata, n_latent=self.dimensions, n_layers=self.layers, gene_likelihood="nb")
        model.train(max_epochs=self.epochs, accelerator="cpu", enable_progress_bar=False, logger=None)
        return np.asarray(model.get_latent_representation(), dtype=np.float32)
