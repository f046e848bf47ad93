"""The control that a pretrained model must beat: a linear low-rank fit of the same cells, for the same masks.

1. The covariance of training cells over genes is reduced to its `rank` largest eigenvectors, by block power iteration
   over pieces of cells (Halko, Martinsson and Tropp 2011). This is the truncated SVD of the centred cells.
2. A cell with hidden values is projected from its visible values alone: the posterior mean of probabilistic PCA
   (Tipping and Bishop 1999), a ridge regression whose penalty is the variance that the components leave.
3. One linear map per gene leads from the components to the gene's expressed value. It is a ridge regression on hidden
   expressed values of training cells, shrunk towards the gene's mean expressed value.

The rank and the penalty of step 3 are those with the smallest error on training donors left out of a first fit; the
fit is then repeated with all training donors. Held-out donors take no part.

Memory: at most `SAMPLE_CELLS` cells are used, `PIECE_CELLS` are dense at a time; besides that, two (genes, rank) arrays
and, per used cell, its components and its hidden values.

Shapes: B cells of a piece, C used cells, N genes (no PAD), R components.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from scipy import sparse

from sclong.config.sections import PretrainConfig
from sclong.seeding import derive_seed, rng
from sclong.train.dataset import PretrainingCells, held_out_cells
from sclong.train.masking import MASK_VALUE, mask_values

SAMPLE_CELLS = 50_000
"""Training cells of a fit, drawn at random (all, where there are fewer)."""
PIECE_CELLS = 256
RANKS = (5, 10, 20, 40, 80)
PENALTIES = (3.0, 10.0, 30.0)
"""Of the maps: in units of entries, since components have unit variance."""
LEFT_OUT = 0.2
"""Share of the training cells, in whole donors, on which rank and penalty are chosen."""
OVERSAMPLING = 10
PASSES = 5
"""Over the cells; each multiplies the block of directions by the covariance."""


@dataclass(frozen=True)
class Axes:
    """Principal axes of cells.

    Attributes
    ----------
    mean_N : (N,)
        Mean of a gene over cells, zeros included.
    expressed_N : (N,)
        Mean over the cells that express the gene; the mean of all expressed values where none does.
    vectors_NR : (N, R)
        Orthonormal, by decreasing variance.
    variances_R : (R,)
        Variance along each.
    total
        Variance along all N directions.
    """

    mean_N: np.ndarray
    expressed_N: np.ndarray
    vectors_NR: np.ndarray
    variances_R: np.ndarray
    total: float

    def loadings(self, rank: int) -> tuple[np.ndarray, float]:
        """Return maximum-likelihood loadings (N, rank) of probabilistic PCA, and the noise's variance."""
        kept_R = self.variances_R[:rank]
        others = len(self.mean_N) - rank
        noise = max(self.total - float(kept_R.sum()), 0.0) / others if others else 0.0
        noise = max(noise, 1e-6 * self.total / len(self.mean_N), 1e-12)
        return self.vectors_NR[:, :rank] * np.sqrt(np.maximum(kept_R - noise, 0.0)), noise


@dataclass(frozen=True)
class LowRank:
    """The control, fitted.

    Attributes
    ----------
    mean_N, expressed_N
        As in :class:`Axes`.
    loadings_NR, noise
        See :meth:`Axes.loadings`.
    map_NR1 : (N, R + 1)
        Intercept and slopes of each gene's map, added to `expressed_N`.
    penalty
        Of the maps.
    """

    mean_N: np.ndarray
    expressed_N: np.ndarray
    loadings_NR: np.ndarray
    noise: float
    map_NR1: np.ndarray
    penalty: float

    @property
    def rank(self) -> int:
        """Number of components."""
        return self.loadings_NR.shape[1]

    def predict(self, masked_BN: torch.Tensor) -> torch.Tensor:
        """Return predicted expressed values.

        Parameters
        ----------
        masked_BN : (B, N + 1) float32
            Input of the model: hidden values are -10, PAD is last.

        Returns
        -------
        (B, N + 1) float32
            PAD: 0.
        """
        components_BR = project(masked_BN[:, :-1].numpy(), self.mean_N, self.loadings_NR, self.noise)
        predicted_BN = self.expressed_N + with_one(components_BR) @ self.map_NR1.T
        return torch.nn.functional.pad(torch.from_numpy(predicted_BN).float(), (0, 1))


def with_one(components_CR: np.ndarray) -> np.ndarray:
    """Return components after a column of ones, (C, R + 1)."""
    return np.concatenate([np.ones((len(components_CR), 1)), components_CR], axis=1)


def project(masked_BN: np.ndarray, mean_N: np.ndarray, loadings_NR: np.ndarray, noise: float) -> np.ndarray:
    """Return components of cells from their visible values, (B, R).

    ``(W'W + noise I)^-1 W'(x - mean)`` over the rows W of the loadings that belong to visible genes.
    """
    hidden_BN = masked_BN == MASK_VALUE
    centred_BN = np.where(hidden_BN, 0.0, masked_BN - mean_N)
    right_BR = centred_BN @ loadings_NR
    rank = loadings_NR.shape[1]
    all_RR = loadings_NR.T @ loadings_NR + noise * np.eye(rank)
    out_BR = np.empty_like(right_BR)
    for cell, hidden_N in enumerate(hidden_BN):
        lost_HR = loadings_NR[np.flatnonzero(hidden_N)]
        out_BR[cell] = np.linalg.solve(all_RR - lost_HR.T @ lost_HR, right_BR[cell])
    return out_BR


def pieces(rows: np.ndarray) -> Iterator[slice]:
    """Return the slices that cut rows into pieces of `PIECE_CELLS`."""
    return (slice(start, start + PIECE_CELLS) for start in range(0, len(rows), PIECE_CELLS))


def principal_axes(cells: PretrainingCells, rows: np.ndarray, rank: int, seed: int) -> Axes:
    """Return the principal axes of some cells.

    Parameters
    ----------
    cells, rows
        The corpus, and the store positions of the cells.
    rank
        Number of axes.
    seed
        Of the first directions.
    """
    n_genes = cells.store.n_genes
    block = min(rank + OVERSAMPLING, n_genes)
    sums_N, squares, expressed_N, counts_N = np.zeros(n_genes), 0.0, np.zeros(n_genes), np.zeros(n_genes)
    directions_NK = rng("low-rank directions", seed).standard_normal((n_genes, block))
    for number in range(PASSES):
        directions_NK = np.linalg.qr(directions_NK)[0]
        product_NK = np.zeros((n_genes, block))
        for piece in pieces(rows):
            values_BN = cells.sparse_values(rows[piece]).astype(np.float64)
            product_NK += values_BN.T @ (values_BN @ directions_NK)
            if number == 0:
                sums_N += np.asarray(values_BN.sum(axis=0)).ravel()
                counts_N += np.bincount(values_BN.indices[values_BN.data != 0], minlength=n_genes)
                squares += float(values_BN.data @ values_BN.data)
        mean_N = sums_N / len(rows)
        before_NK, directions_NK = directions_NK, product_NK / len(rows) - np.outer(mean_N, mean_N @ directions_NK)
    variances_K, turn_KK = np.linalg.eigh(before_NK.T @ directions_NK)
    order = np.argsort(variances_K)[::-1][:rank]
    everything = sums_N.sum() / max(counts_N.sum(), 1)
    expressed_N = np.where(counts_N > 0, sums_N / np.maximum(counts_N, 1), everything)
    total = squares / len(rows) - float(mean_N @ mean_N)
    return Axes(mean_N, expressed_N, before_NK @ turn_KK[:, order], variances_K[order], total)


@dataclass(frozen=True)
class MaskedCells:
    """What the maps are fitted to, or judged on.

    Attributes
    ----------
    components : dict of int to (C, R)
        By rank.
    residuals_CN : (C, N) CSC
        Hidden expressed values, less the gene's mean expressed value.
    """

    components: dict[int, np.ndarray]
    residuals_CN: sparse.csc_matrix


def masked_cells(
    cells: PretrainingCells, rows: np.ndarray, axes: Axes, ranks: tuple[int, ...], config: PretrainConfig
) -> MaskedCells:
    """Hide values of cells as the training does, and project the cells from what is left."""
    seed = derive_seed("low-rank masks", config.seed)
    components: dict[int, list[np.ndarray]] = {rank: [] for rank in ranks}
    residuals = []
    for piece in pieces(rows):
        masked = mask_values(
            cells.values(rows[piece]),
            seed,
            0,
            config.mask_fraction,
            config.replace_fraction,
            zero_fraction=config.mask_zero_fraction,
            places=rows[piece].tolist(),
        )
        entries_BN = (masked.replaced_BN & (masked.labels_BN != 0)).numpy()[:, :-1]
        cell, gene = np.nonzero(entries_BN)
        residual = masked.labels_BN.numpy()[cell, gene] - axes.expressed_N[gene]
        residuals.append(sparse.csr_matrix((residual, (cell, gene)), shape=entries_BN.shape))
        visible_BN = masked.masked_BN[:, :-1].numpy()
        for rank in ranks:
            components[rank].append(project(visible_BN, axes.mean_N, *axes.loadings(rank)))
    return MaskedCells({r: np.concatenate(c) for r, c in components.items()}, sparse.vstack(residuals).tocsc())


def gene_maps(components_CR: np.ndarray, residuals_CN: sparse.csc_matrix, penalties: tuple[float, ...]) -> np.ndarray:
    """Return each gene's ridge regression of its hidden residuals on components.

    Returns
    -------
    (len(penalties), N, R + 1) float64
        Intercept first; the penalty is on the intercept too. Zeros for a gene that is never hidden.
    """
    inputs_CR1 = with_one(components_CR)
    width, n_genes = inputs_CR1.shape[1], residuals_CN.shape[1]
    out = np.zeros((len(penalties), n_genes, width))
    for gene in range(n_genes):
        entries = slice(*residuals_CN.indptr[gene : gene + 2])
        inputs_KR1 = inputs_CR1[residuals_CN.indices[entries]]
        if not len(inputs_KR1):
            continue
        square, right = inputs_KR1.T @ inputs_KR1, inputs_KR1.T @ residuals_CN.data[entries]
        for number, penalty in enumerate(penalties):
            out[number, gene] = np.linalg.solve(square + penalty * np.eye(width), right)
    return out


def squared_error(components_CR: np.ndarray, residuals_CN: sparse.csc_matrix, map_NR1: np.ndarray) -> float:
    """Return the sum of squared errors of the maps over hidden residuals."""
    inputs_CR1 = with_one(components_CR)
    entries = residuals_CN.tocoo()
    error = 0.0
    for start in range(0, entries.nnz, 100_000):
        part = slice(start, start + 100_000)
        predicted = np.einsum("kr,kr->k", inputs_CR1[entries.row[part]], map_NR1[entries.col[part]])
        error += float(np.square(entries.data[part] - predicted).sum())
    return error


def sample_rows(cells: PretrainingCells, config: PretrainConfig) -> np.ndarray:
    """Return the store positions of the training cells of a fit, ascending."""
    training = cells.order.rows
    count = min(SAMPLE_CELLS, len(training))
    chosen = rng("low-rank cells", config.seed).choice(len(training), count, replace=False, shuffle=False)
    return np.sort(training[chosen])


def inner_split(cells: PretrainingCells, rows: np.ndarray, config: PretrainConfig) -> np.ndarray:
    """Return which training cells rank and penalty are chosen on, (C,) bool: whole donors, else every fifth cell."""
    by = "dataset" if config.held_out_by == "dataset" else "donor"
    groups = cells.store.obs[by].iloc[rows]
    if config.held_out_by == "cell" or groups.nunique() < 2:
        return rng("low-rank split", config.seed).random(len(rows)) < LEFT_OUT
    return held_out_cells(groups, LEFT_OUT, derive_seed("low-rank split", config.seed), by)


def choose(
    cells: PretrainingCells, rows: np.ndarray, ranks: tuple[int, ...], config: PretrainConfig
) -> tuple[int, float]:
    """Return the rank and the penalty with the smallest error on left-out training donors."""
    left_out = inner_split(cells, rows, config)
    axes = principal_axes(cells, rows[~left_out], max(ranks), config.seed)
    fitted = masked_cells(cells, rows[~left_out], axes, ranks, config)
    judged = masked_cells(cells, rows[left_out], axes, ranks, config)
    errors = {}
    for rank in ranks:
        maps = gene_maps(fitted.components[rank], fitted.residuals_CN, PENALTIES)
        for penalty, map_NR1 in zip(PENALTIES, maps, strict=True):
            errors[rank, penalty] = squared_error(judged.components[rank], judged.residuals_CN, map_NR1)
    return min(errors, key=lambda key: (errors[key], key))


def fit(cells: PretrainingCells, config: PretrainConfig) -> LowRank:
    """Fit the control to training cells.

    Parameters
    ----------
    cells
        The corpus, cut.
    config
        Masks and seed; what is held out.
    """
    rows = sample_rows(cells, config)
    most = max(1, min(cells.store.n_genes, len(rows) // 2) - 1)
    ranks = tuple(rank for rank in RANKS if rank <= most) or (most,)
    rank, penalty = choose(cells, rows, ranks, config)
    axes = principal_axes(cells, rows, rank, config.seed)
    fitted = masked_cells(cells, rows, axes, (rank,), config)
    (map_NR1,) = gene_maps(fitted.components[rank], fitted.residuals_CN, (penalty,))
    return LowRank(axes.mean_N, axes.expressed_N, *axes.loadings(rank), map_NR1, penalty)
