"""The loader hands out what the step, the rank and the number of processes say, whatever reads ahead."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from toy_training import toy_corpus

from sclong.errors import ConfigError
from sclong.train.dataset import PretrainingCells
from sclong.train.loader import CellLoader, share_of_rank


@pytest.fixture
def cells(tmp_path: Path) -> PretrainingCells:
    store, _, _ = toy_corpus(tmp_path)
    return PretrainingCells(store, batch_size=8, held_out_fraction=0.2, validation_cells=9, seed=3)


def taken(cells: PretrainingCells, first: int, last: int, **options: int) -> list[tuple[int, list[int], torch.Tensor]]:
    return [(step, rows.tolist(), values) for step, rows, values in CellLoader(cells, first, last, **options)]


def test_workers_change_nothing(cells: PretrainingCells) -> None:
    alone, read_ahead = taken(cells, 3, 9), taken(cells, 3, 9, workers=2)
    assert [(step, rows) for step, rows, _ in alone] == [(step, rows) for step, rows, _ in read_ahead]
    assert all(torch.equal(a, b) for (*_, a), (*_, b) in zip(alone, read_ahead, strict=True))
    for step, rows, values in alone:
        assert rows == cells.order.cells(step).tolist()
        assert torch.equal(values, cells.values_naive(np.array(rows)))


@pytest.mark.parametrize("workers", [0, 1])
def test_no_number_is_drawn_from_torchs_global_generator(cells: PretrainingCells, workers: int) -> None:
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    taken(cells, 1, 2, workers=workers)
    assert torch.equal(torch.rand(3), expected)


def test_a_training_that_goes_on_gets_the_next_cells(cells: PretrainingCells) -> None:
    assert [(s, r) for s, r, _ in taken(cells, 40, 44)] == [(s, r) for s, r, _ in taken(cells, 1, 44)][39:]


@pytest.mark.parametrize("world_size", [1, 2, 4, 8])
def test_processes_share_a_batch(cells: PretrainingCells, world_size: int) -> None:
    shares = [taken(cells, 5, 7, rank=rank, world_size=world_size) for rank in range(world_size)]
    for step, parts in zip((5, 6, 7), zip(*shares, strict=True), strict=True):
        assert [row for _, rows, _ in parts for row in rows] == cells.order.cells(step).tolist()


def test_a_batch_that_cannot_be_shared(cells: PretrainingCells) -> None:
    with pytest.raises(ConfigError, match="8 cells per step for 3 processes"):
        CellLoader(cells, 1, 2, world_size=3)
    assert share_of_rank(12, 2, 3) == slice(8, 12)
