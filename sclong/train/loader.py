"""Cells for training, read ahead: the share of one process of the global batch of each step, in order."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from sclong.errors import ConfigError
from sclong.train.dataset import PretrainingCells


def share_of_rank(batch_size: int, rank: int, world_size: int) -> slice:
    """Return the places of the global batch that a process takes: one run of equal length for each.

    Raises
    ------
    ConfigError
        The batch cannot be shared equally.
    """
    if batch_size % world_size:
        raise ConfigError(
            f"{batch_size} cells per step for {world_size} processes",
            "equal shares",
            f"set pretrain.batch_size to a multiple of {world_size}",
        )
    each = batch_size // world_size
    return slice(rank * each, (rank + 1) * each)


class CellLoader:
    """The cells of steps `first_step` to `last_step` that one process trains on.

    What a step holds depends on the seed, the step, the rank and the number of processes only: not on workers, and not
    on where the training began. A training that goes on at a step gets its cells from there on.

    Parameters
    ----------
    cells
        The corpus, cut.
    first_step, last_step
        Steps, from 1.
    rank, world_size
        Which of how many processes.
    workers
        Processes that read ahead; 0: read when asked.
    pin_memory
        Hand out tensors that a GPU can fetch while it computes.

    Yields
    ------
    step : int
    rows : (B / world_size,) int64
        Store positions.
    values : (B / world_size, N + 1) float32 tensor
        What the model reads; the last column is PAD, 0.
    """

    def __init__(
        self,
        cells: PretrainingCells,
        first_step: int,
        last_step: int,
        *,
        rank: int = 0,
        world_size: int = 1,
        workers: int = 0,
        pin_memory: bool = False,
    ) -> None:
        share = share_of_rank(cells.order.batch_size, rank, world_size)
        self._loader = DataLoader(
            _Steps(cells, share),
            batch_size=None,
            sampler=range(first_step, last_step + 1),
            num_workers=workers,
            prefetch_factor=2 if workers else None,
            pin_memory=pin_memory,
            generator=torch.Generator(),  # else torch draws from its global one
        )

    def __iter__(self) -> Iterator[tuple[int, np.ndarray, torch.Tensor]]:
        for step, rows, values in self._loader:
            yield int(step), np.asarray(rows), values


class _Steps(Dataset[tuple[int, np.ndarray, torch.Tensor]]):
    """Step -> rows and values of one process."""

    def __init__(self, cells: PretrainingCells, share: slice) -> None:
        self.cells, self.share = cells, share

    def __getitem__(self, step: int) -> tuple[int, np.ndarray, torch.Tensor]:
        rows = self.cells.order.cells(step)[self.share]
        return step, rows, self.cells.values(rows)
