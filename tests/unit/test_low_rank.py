"""The low-rank control against a twin that follows its definition gene by gene and cell by cell."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from toy_training import CONFIG, N_GENES, toy_corpus

from sclong.seeding import derive_seed
from sclong.train import low_rank
from sclong.train.dataset import PretrainingCells
from sclong.train.masking import mask_values


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> PretrainingCells:
    store = toy_corpus(tmp_path_factory.mktemp("corpus"))[0]
    return PretrainingCells(store, batch_size=16, held_out_fraction=0.2, validation_cells=40, seed=3)


def dense(cells: PretrainingCells, rows: np.ndarray) -> np.ndarray:
    return cells.values(rows)[:, :-1].double().numpy()


def masked(cells: PretrainingCells, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Values with nan where hidden, and what is hidden there (nan elsewhere), with the masks of the fit."""
    seed = derive_seed("low-rank masks", CONFIG.seed)
    drawn = mask_values(
        cells.values(rows), seed, 0, CONFIG.mask_fraction, CONFIG.replace_fraction, places=rows.tolist()
    )
    hidden = drawn.replaced_BN.numpy()[:, :-1]
    values = dense(cells, rows)
    return np.where(hidden, np.nan, values), np.where(hidden, values, np.nan)


class Twin:
    """The definition: a whole SVD, the visible rows of the loadings cell by cell, least squares gene by gene."""

    def __init__(self, cells: PretrainingCells, rows: np.ndarray, rank: int, penalty: float) -> None:
        values = dense(cells, rows)
        self.mean = values.mean(0)
        self.expressed = np.array([v[v > 0].mean() if (v > 0).any() else values[values > 0].mean() for v in values.T])
        _, singular, vectors = np.linalg.svd(values - self.mean, full_matrices=False)
        variances = singular**2 / len(rows)
        self.noise = variances[rank:].sum() / (N_GENES - rank)
        self.loadings = vectors[:rank].T * np.sqrt(variances[:rank] - self.noise)
        visible, hidden = masked(cells, rows)
        inputs = self.components(visible)
        self.maps = np.zeros((N_GENES, rank + 1))
        for gene in range(N_GENES):
            here = ~np.isnan(hidden[:, gene])
            # a ridge is least squares with rows of sqrt(penalty) added
            left = np.concatenate([inputs[here], np.sqrt(penalty) * np.eye(rank + 1)])
            right = np.concatenate([hidden[here, gene] - self.expressed[gene], np.zeros(rank + 1)])
            self.maps[gene] = np.linalg.lstsq(left, right, rcond=None)[0]

    def components(self, visible: np.ndarray) -> np.ndarray:
        out = []
        for cell in visible:
            seen = ~np.isnan(cell)
            left = np.concatenate([self.loadings[seen], np.sqrt(self.noise) * np.eye(self.loadings.shape[1])])
            right = np.concatenate([(cell - self.mean)[seen], np.zeros(self.loadings.shape[1])])
            out.append([1.0, *np.linalg.lstsq(left, right, rcond=None)[0]])
        return np.array(out)

    def predict(self, visible: np.ndarray) -> np.ndarray:
        return self.expressed + self.components(visible) @ self.maps.T

    def error(self, cells: PretrainingCells, rows: np.ndarray) -> float:
        visible, hidden = masked(cells, rows)
        return float(np.nansum((self.predict(visible) - hidden) ** 2))


def as_input(visible: np.ndarray) -> torch.Tensor:
    return torch.nn.functional.pad(torch.from_numpy(np.nan_to_num(visible, nan=-10.0)).float(), (0, 1))


def test_the_fit_equals_its_twin(cells: PretrainingCells, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(low_rank, "PIECE_CELLS", 7)
    monkeypatch.setattr(low_rank, "OVERSAMPLING", N_GENES)  # all directions: the eigenvectors are exact
    model = low_rank.fit(cells, CONFIG)
    rows = cells.order.rows
    twin = Twin(cells, rows, model.rank, model.penalty)
    visible, _ = masked(cells, cells.validation)
    predicted = model.predict(as_input(visible))
    assert predicted.shape == (len(cells.validation), N_GENES + 1) and not predicted[:, -1].any()
    np.testing.assert_allclose(predicted[:, :-1].numpy(), twin.predict(visible), rtol=1e-5, atol=1e-5)
    assert model.noise == pytest.approx(twin.noise)


def test_rank_and_penalty_are_the_best_on_left_out_training_donors(
    cells: PretrainingCells, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(low_rank, "OVERSAMPLING", N_GENES)
    rows, ranks = cells.order.rows, (2, 5, 10)
    left_out = low_rank.inner_split(cells, rows, CONFIG)
    donor = cells.store.obs["donor"].to_numpy()
    assert 0 < left_out.sum() < len(rows) and not set(donor[rows[left_out]]) & set(donor[rows[~left_out]])
    errors = {
        (rank, penalty): Twin(cells, rows[~left_out], rank, penalty).error(cells, rows[left_out])
        for rank in ranks
        for penalty in low_rank.PENALTIES
    }
    assert low_rank.choose(cells, rows, ranks, CONFIG) == min(errors, key=errors.__getitem__)


def test_it_never_sees_a_held_out_donor(cells: PretrainingCells, monkeypatch: pytest.MonkeyPatch) -> None:
    read: set[int] = set()
    original = PretrainingCells.sparse_values

    def noted(self: PretrainingCells, rows: np.ndarray) -> object:
        read.update(rows.tolist())
        return original(self, rows)

    monkeypatch.setattr(PretrainingCells, "sparse_values", noted)
    low_rank.fit(cells, CONFIG)
    assert read == set(cells.order.rows.tolist())


def test_few_directions_find_the_axes_of_many_genes(tmp_path: Path) -> None:
    """With fewer directions than genes the block iteration must converge; the leading axes are those of the SVD."""
    store = toy_corpus(tmp_path, n_genes=200)[0]
    cells = PretrainingCells(store, batch_size=16, held_out_fraction=0.2, validation_cells=40, seed=3)
    rows = cells.order.rows
    axes = low_rank.principal_axes(cells, rows, 1, 0)
    values = cells.values(rows)[:, :-1].double().numpy()
    _, singular, vectors = np.linalg.svd(values - values.mean(0), full_matrices=False)
    assert axes.vectors_NR.shape == (200, 1)
    assert abs(axes.vectors_NR[:, 0] @ vectors[0]) == pytest.approx(1.0, abs=1e-6)
    assert axes.variances_R[0] == pytest.approx(singular[0] ** 2 / len(rows))
    assert axes.total == pytest.approx(values.var(0).sum())


def test_a_gene_that_no_training_cell_expresses_is_predicted_by_the_overall_mean(cells: PretrainingCells) -> None:
    axes = low_rank.Axes(np.zeros(3), np.array([2.0, 3.0, 2.5]), np.eye(3)[:, :1], np.ones(1), 1.5)
    residuals = low_rank.sparse.csc_matrix(np.array([[0.5, 0.0, 0.0], [0.0, -1.0, 0.0]]))
    (maps,) = low_rank.gene_maps(np.array([[1.0], [0.0]]), residuals, (1.0,))
    model = low_rank.LowRank(axes.mean_N, axes.expressed_N, *axes.loadings(1), maps, 1.0)
    assert model.predict(torch.zeros(1, 4))[0, 2] == 2.5 and model.predict(torch.zeros(1, 4))[0, 0] > 2.0
