"""Gene vectors that say how genes vary together over cells, from contextual gene vectors.

The mean of a gene's contextual vectors over cells says what the gene is like on average; how genes move together from
cell to cell cancels in it. Here the vectors of a gene in all cells are strung together, less their mean:

    w_g = (v_g1 - mean v_g, ..., v_gC - mean v_g)        C cells, C * D numbers

The cosine of two such vectors is the correlation of two genes over cells, in the model's D dimensions at once. They
are projected to `N_DIRECTIONS` random directions (Johnson and Lindenstrauss 1984), so that memory does not grow with
the number of cells; cosines move by about ``N_DIRECTIONS ** -0.5``.

Shapes: B cells of a batch, G genes of the vocabulary, D width of gene vectors, K directions.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch

from sclong.seeding import derive_seed

GenesOverCells = Literal["mean", "covariation"]

N_DIRECTIONS = 1024


class GeneCovariation:
    """Projection of every gene's centred contextual vectors over cells, computed batch by batch.

    The projection of the centred vectors is that of the vectors less the projection of the mean, which needs one pass:
    ``sum_c v_gc P_c - mean_g sum_c P_c`` with a random (D, K) matrix P_c per cell.

    Parameters
    ----------
    n_genes, dim
        G and D.
    n_directions
        K.
    seed
        Of the directions: the same for the same seed and order of cells.
    device
        Where the sums are kept.
    """

    def __init__(
        self,
        n_genes: int,
        dim: int,
        n_directions: int = N_DIRECTIONS,
        seed: int = 0,
        device: str | torch.device = "cpu",
    ) -> None:
        self.generator = torch.Generator().manual_seed(derive_seed("covariation", seed))
        self.projected_GK = torch.zeros(n_genes, n_directions, device=device)
        self.directions_DK = torch.zeros(dim, n_directions, dtype=torch.float64, device=device)
        self.sums_GD = torch.zeros(n_genes, dim, dtype=torch.float64, device=device)
        self.n_cells = 0

    def add(self, vectors_BGD: torch.Tensor) -> None:
        """Count the cells of a batch, (B, G, D) on the device of the sums."""
        dim, n_directions = self.directions_DK.shape
        for vectors_GD in vectors_BGD:
            directions_DK = torch.randn(dim, n_directions, generator=self.generator).to(vectors_GD.device)
            self.projected_GK += vectors_GD.float() @ directions_DK
            self.directions_DK += directions_DK
            self.sums_GD += vectors_GD
            self.n_cells += 1

    def of(self, positions: np.ndarray) -> np.ndarray:
        """Return the vectors of genes, (genes, K) float32; zeros where the position is -1 (the model has no such gene).

        Parameters
        ----------
        positions : (genes,) int
            Row of each gene.
        """
        mean_GK = (self.sums_GD / max(self.n_cells, 1)) @ self.directions_DK
        centred_GK = (self.projected_GK.double() - mean_GK).float().cpu().numpy() / np.sqrt(self.projected_GK.shape[1])
        out = np.zeros((len(positions), centred_GK.shape[1]), dtype=np.float32)
        out[positions >= 0] = centred_GK[positions[positions >= 0]]
        return out
