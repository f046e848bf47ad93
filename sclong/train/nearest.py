"""The control that remembers: hidden values are those of the most similar training cells.

Similarity is the cosine of visible values. The prediction for a gene is its mean over the nearest cells that express
it, shrunk towards the gene's mean expressed value as if `prior` further cells had it. The number of neighbours and the
prior are those with the smallest error on training donors that are left out of a first memory; held-out donors take no
part.

Memory: the values of at most `SAMPLE_CELLS` training cells, sparse, and a (sample, piece) array of similarities.

Shapes: B cells of a piece, C remembered cells, N genes (no PAD).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy import sparse

from sclong.config.sections import PretrainConfig
from sclong.seeding import derive_seed, rng
from sclong.train.dataset import PretrainingCells
from sclong.train.low_rank import inner_split
from sclong.train.masking import MASK_VALUE, mask_values

SAMPLE_CELLS = 10_000
"""Training cells that are remembered, drawn at random (all, where there are fewer)."""
NEIGHBOURS = (1, 5, 20, 50)
PRIORS = (0.5, 2.0, 8.0)
JUDGED_CELLS = 256
"""Left-out training cells on which the number of neighbours is chosen."""


@dataclass(frozen=True)
class NearestCells:
    """Remembered training cells.

    Attributes
    ----------
    values_CN : (C, N) CSR float32
        Values as the model reads them.
    lengths_C : (C,) float32
        Euclidean norm of each.
    expressed_N : (N,) float32
        Mean expressed value of each gene.
    neighbours, prior
        Number of nearest cells of a prediction, and of cells that the gene's mean counts as.
    """

    values_CN: sparse.csr_matrix
    lengths_C: np.ndarray
    expressed_N: np.ndarray
    neighbours: int
    prior: float

    def order(self, masked_BN: np.ndarray, most: int) -> np.ndarray:
        """Return the most similar remembered cells of each cell, (B, most), nearest first."""
        visible_BN = sparse.csr_matrix(np.where(masked_BN == MASK_VALUE, 0.0, masked_BN).astype(np.float32))
        similarity_BC = (visible_BN @ self.values_CN.T).toarray() / self.lengths_C  # the cell's own changes no order
        most = min(most, similarity_BC.shape[1])
        nearest_BK = np.argpartition(-similarity_BC, most - 1, axis=1)[:, :most]
        inner = np.argsort(-np.take_along_axis(similarity_BC, nearest_BK, 1), axis=1, kind="stable")
        return np.take_along_axis(nearest_BK, inner, 1)

    def means(self, nearest_BK: np.ndarray, prior: float) -> np.ndarray:
        """Return the predicted expressed values of cells from their nearest cells, (B, N) float32."""
        out = np.empty((len(nearest_BK), len(self.expressed_N)), dtype=np.float32)
        for cell, nearest_K in enumerate(nearest_BK):
            values_KN = self.values_CN[nearest_K]
            numbers_N = np.bincount(values_KN.indices, minlength=len(self.expressed_N))
            sums_N = np.asarray(values_KN.sum(axis=0)).ravel()
            out[cell] = (sums_N + prior * self.expressed_N) / (numbers_N + prior)
        return out

    def predict(self, masked_BN: torch.Tensor) -> torch.Tensor:
        """Return predicted expressed values; see :meth:`sclong.train.low_rank.LowRank.predict`."""
        nearest_BK = self.order(masked_BN[:, :-1].numpy(), self.neighbours)
        predicted_BN = self.means(nearest_BK, self.prior)
        return torch.nn.functional.pad(torch.from_numpy(predicted_BN), (0, 1))


def remember(cells: PretrainingCells, rows: np.ndarray, neighbours: int, prior: float) -> NearestCells:
    """Return a memory of some cells of the store."""
    values_CN = sparse.csr_matrix(cells.sparse_values(rows), dtype=np.float32)
    values_CN.eliminate_zeros()
    lengths_C = np.maximum(np.sqrt(np.asarray(values_CN.multiply(values_CN).sum(axis=1)).ravel()), 1e-12)
    numbers_N = np.bincount(values_CN.indices, minlength=values_CN.shape[1])
    sums_N = np.asarray(values_CN.sum(axis=0, dtype=np.float64)).ravel()
    everything = sums_N.sum() / max(numbers_N.sum(), 1)
    expressed_N = np.where(numbers_N > 0, sums_N / np.maximum(numbers_N, 1), everything).astype(np.float32)
    return NearestCells(values_CN, lengths_C, expressed_N, neighbours, prior)


def fit(cells: PretrainingCells, config: PretrainConfig) -> NearestCells:
    """Remember training cells, and choose the number of neighbours.

    Parameters
    ----------
    cells
        The corpus, cut into training cells and held-out cells.
    config
        Masks and seed; what is held out.
    """
    draw = rng("nearest cells", config.seed)
    training = cells.order.rows
    rows = np.sort(draw.choice(training, min(SAMPLE_CELLS, len(training)), replace=False, shuffle=False))
    left_out = inner_split(cells, rows, config)
    if left_out.all() or not left_out.any():
        return remember(cells, rows, NEIGHBOURS[-1], PRIORS[-1])
    memory = remember(cells, rows[~left_out], 1, PRIORS[0])
    judged = rows[left_out]
    judged = np.sort(draw.choice(judged, min(JUDGED_CELLS, len(judged)), replace=False, shuffle=False))
    masked = mask_values(
        cells.values(judged),
        derive_seed("nearest masks", config.seed),
        0,
        config.mask_fraction,
        config.replace_fraction,
        zero_fraction=config.mask_zero_fraction,
        places=judged.tolist(),
    )
    labels_BN = masked.labels_BN[:, :-1].numpy()
    entries_BN = masked.replaced_BN[:, :-1].numpy() & (labels_BN != 0)
    nearest_BK = memory.order(masked.masked_BN[:, :-1].numpy(), max(NEIGHBOURS))
    errors = {
        (k, prior): np.square(memory.means(nearest_BK[:, :k], prior) - labels_BN)[entries_BN].sum()
        for k in NEIGHBOURS
        for prior in PRIORS
    }
    return remember(cells, rows, *min(errors, key=lambda chosen: (errors[chosen], chosen)))
