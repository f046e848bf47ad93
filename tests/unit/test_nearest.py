"""The control that remembers cells, against a twin that follows its definition cell by cell and gene by gene."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from toy_training import CONFIG, toy_corpus

from sclong.train import nearest
from sclong.train.dataset import PretrainingCells
from sclong.train.masking import mask_values


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> PretrainingCells:
    store = toy_corpus(tmp_path_factory.mktemp("corpus"))[0]
    return PretrainingCells(store, batch_size=16, held_out_fraction=0.2, validation_cells=40, seed=3)


def hidden_cells(cells: PretrainingCells, rows: np.ndarray) -> torch.Tensor:
    return mask_values(cells.values(rows), 11, 0, 0.3, 1.0, places=rows.tolist()).masked_BN


def twin(cells: PretrainingCells, remembered: np.ndarray, masked: np.ndarray, k: int, prior: float) -> np.ndarray:
    memory = cells.values(remembered)[:, :-1].numpy()
    out = np.zeros_like(masked)
    for number, cell in enumerate(masked):
        seen = cell != -10
        similarity = np.array([m[seen] @ cell[seen] / np.linalg.norm(m) for m in memory])
        neighbours = memory[np.argsort(-similarity, kind="stable")[:k]]
        for gene in range(memory.shape[1]):
            values = neighbours[:, gene][neighbours[:, gene] > 0]
            known = memory[:, gene][memory[:, gene] > 0]
            known = known if len(known) else memory[memory > 0]
            out[number, gene] = (values.sum() + prior * known.mean()) / (len(values) + prior)
    return out


@pytest.mark.parametrize("k", [1, 5])
def test_equal_to_the_definition(cells: PretrainingCells, k: int) -> None:
    remembered, rows = cells.order.rows, np.asarray(cells.validation[:9])
    masked = hidden_cells(cells, rows)
    found = nearest.remember(cells, remembered, k, 2.0).predict(masked)
    assert found.shape == masked.shape and not found[:, -1].any()
    np.testing.assert_allclose(found[:, :-1], twin(cells, remembered, masked[:, :-1].numpy(), k, 2.0), rtol=1e-5)


def test_the_number_of_neighbours_is_chosen_on_training_donors_alone(
    cells: PretrainingCells, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []
    values, sparse_values = cells.values, cells.sparse_values
    monkeypatch.setattr(cells, "values", lambda rows: read.extend(rows) or values(rows))
    monkeypatch.setattr(cells, "sparse_values", lambda rows: read.extend(rows) or sparse_values(rows))
    fitted = nearest.fit(cells, CONFIG)
    assert fitted.neighbours in nearest.NEIGHBOURS and fitted.prior in nearest.PRIORS
    assert set(read) <= set(cells.order.rows.tolist())


def test_a_remembered_cell_finds_itself(cells: PretrainingCells, tmp_path: Path) -> None:
    rows = cells.order.rows[:6]
    memory = nearest.remember(cells, cells.order.rows, 1, 2.0)
    whole = cells.values(rows)
    np.testing.assert_array_equal(memory.order(whole[:, :-1].numpy(), 1)[:, 0], np.arange(6))
