"""From the contextual gene vectors of cells to vectors of cells, and to means over cells.

Shapes: B cells of a batch, G genes of the vocabulary, N = G + 1 (PAD last), D width of gene vectors.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
import torch

if TYPE_CHECKING:
    from sclong.checkpoint.folder import LoadedModel
    from sclong.nn.dual_encoder import Output

Pooling = Literal["nonzero_mean", "mean", "reconstruction_profile"]
POOLINGS: tuple[str, ...] = get_args(Pooling)


def pool(output: Output, values_BN: torch.Tensor, pooling: str, positions: np.ndarray) -> np.ndarray:
    """Return a vector per cell, float32: see :func:`embed_adata`.

    Parameters
    ----------
    output, values_BN
        What the model returned, and what it read.
    pooling
        One of `POOLINGS`.
    positions : (genes of the data set,)
        Where each is in the vocabulary, -1 where it is not.
    """
    return _without_empty(_pooled(output, values_BN, pooling, positions), values_BN)


def _without_empty(vectors_BC: np.ndarray, values_BN: torch.Tensor) -> np.ndarray:
    """Set the vectors of cells that have no gene to NaN."""
    vectors_BC[(values_BN == 0).all(1).cpu().numpy()] = np.nan
    return vectors_BC


def _pooled(output: Output, values_BN: torch.Tensor, pooling: str, positions: np.ndarray) -> np.ndarray:
    vectors_BND = output.gene_embeddings_BND.float()
    if pooling == "reconstruction_profile":
        profile_BN = vectors_BND.sum(-1, dtype=torch.float64) + output.reconstruction_BN
        filler_B1 = profile_BN.mean(1, keepdim=True)
        return torch.cat([profile_BN, filler_B1], 1)[:, positions].float().cpu().numpy()  # -1: the filler
    if pooling == "mean":
        return vectors_BND[:, :-1].mean(1).cpu().numpy()
    detected_BN = (values_BN != 0).to(vectors_BND.dtype)
    sums_BD = torch.einsum("bn,bnd->bd", detected_BN, vectors_BND)
    return (sums_BD / detected_BN.sum(1, keepdim=True)).cpu().numpy()


def gene_vectors(output: Output, positions: np.ndarray) -> np.ndarray:
    """Return contextual vectors of a data set's genes, (B, genes, D) float32.

    Parameters
    ----------
    output
        What the model returned.
    positions : (genes of the data set,)
        Where each is in the vocabulary; -1 where it is not: it gets the mean of the others in the cell.
    """
    mapped = positions >= 0
    vectors_BND = output.gene_embeddings_BND.float().cpu().numpy()
    out = np.empty((len(vectors_BND), len(positions), vectors_BND.shape[2]), dtype=np.float32)
    out[:, mapped] = vectors_BND[:, positions[mapped]]
    out[:, ~mapped] = out[:, mapped].mean(axis=1, keepdims=True)
    return out


class GeneMeans:
    """Mean over cells of the contextual vectors of every gene, in float64."""

    def __init__(self, loaded: LoadedModel) -> None:
        shape = len(loaded.vocabulary), loaded.arch.base_dim
        self.sums_GD = torch.zeros(shape, dtype=torch.float64, device=loaded.device)
        self.n_cells = 0

    def add(self, output: Output, values_BN: torch.Tensor) -> None:
        """Count the cells of a batch; those that have no gene are not counted."""
        vectors_BND, filled_B = output.gene_embeddings_BND, (values_BN != 0).any(1)
        vectors_BND = vectors_BND if filled_B.all() else vectors_BND[filled_B]
        self.sums_GD += vectors_BND[:, :-1].sum(0, dtype=torch.float64)
        self.n_cells += len(vectors_BND)

    def of(self, positions: np.ndarray) -> np.ndarray:
        """Return the means of genes, (genes, D) float32; where the position is -1 the mean of the other rows."""
        mapped = positions >= 0
        out = np.empty((len(positions), self.sums_GD.shape[1]), dtype=np.float32)
        out[mapped] = (self.sums_GD / self.n_cells).cpu().numpy()[positions[mapped]]
        out[~mapped] = out[mapped].mean(0, dtype=np.float64)
        return out
