"""Principal components of normalised expression: what an embedding must beat."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse

from sclong.benchmark.model import Embedder
from sclong.embed.result import Embedding
from sclong.errors import InputDataError

if TYPE_CHECKING:
    import anndata


class Pca(Embedder):
    """Scores of cells, and loadings of genes times singular values, of log1p counts per ten thousand.

    Parameters
    ----------
    n_components
        Components; fewer where the data set has fewer cells or genes.
    highly_variable_genes
        Number of genes that take part, by dispersion given the mean (scanpy's flavour "seurat"); None: all.
        Genes that take no part are not mapped.
    """

    def __init__(self, n_components: int = 50, highly_variable_genes: int | None = None) -> None:
        self.n_components, self.highly_variable_genes = n_components, highly_variable_genes

    def embed(
        self, adata: anndata.AnnData, *, checkpoint: Path | None, seed: int, batch_size: int, device: str = "cpu"
    ) -> Embedding:
        """Embed `adata`; `seed` starts the solver, `checkpoint` and `batch_size` are not used (see the base class).

        Raises
        ------
        InputDataError
            Fewer than two cells or genes, or values that are not of their kind.
        """
        from sklearn.decomposition import PCA

        from sclong.cells.normalize import to_model_values

        value_kind = str(adata.uns.get("value_kind", "counts"))
        values = sparse.csr_matrix(to_model_values(sparse.csr_matrix(adata.X), value_kind), dtype=np.float64)
        takes_part = self._takes_part(values)
        values = values[:, takes_part]
        n_components = min(self.n_components, min(values.shape) - 1)
        if n_components < 1:
            raise InputDataError(
                f"{values.shape[0]} cells and {values.shape[1]} genes", "at least two of each", "use another model"
            )
        pca = PCA(n_components, svd_solver="arpack", random_state=seed)
        cells = pca.fit_transform(values)
        loadings = pca.components_.T * pca.singular_values_
        genes = np.tile(loadings.mean(0), (adata.n_vars, 1))
        genes[takes_part] = loadings
        facts = {
            "n_components": n_components,
            "genes": int(takes_part.sum()),
            "value_kind": value_kind,
            "explained_variance": float(pca.explained_variance_ratio_.sum()),
        }
        return Embedding(cells.astype(np.float32), genes.astype(np.float32), takes_part, facts)

    def _takes_part(self, values: sparse.csr_matrix) -> np.ndarray:
        """Say which genes take part, (genes,) bool."""
        n_genes = values.shape[1]
        if self.highly_variable_genes is None or self.highly_variable_genes >= n_genes:
            return np.ones(n_genes, dtype=bool)
        import anndata
        import scanpy

        table = scanpy.pp.highly_variable_genes(
            anndata.AnnData(values), n_top_genes=self.highly_variable_genes, flavor="seurat", inplace=False
        )
        return table["highly_variable"].to_numpy(dtype=bool)
