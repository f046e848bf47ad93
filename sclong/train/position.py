"""Where a training stands, what a checkpoint says of it, and when one is written."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sclong.config.sections import PretrainConfig
from sclong.errors import CheckpointError
from sclong.io.files import atomic_path
from sclong.train.dataset import PretrainingCells
from sclong.train.optim import rate_of_step
from sclong.train.parallel import Replica, World
from sclong.train.step import Batch
from sclong.train.stop import StopRequest


@dataclass
class Training:
    """What all steps share."""

    replica: Replica
    optimizer: torch.optim.Optimizer
    cells: PretrainingCells
    config: PretrainConfig
    work_dir: Path
    stop: StopRequest

    @property
    def world(self) -> World:
        """The processes."""
        return self.replica.world


class SaveClock:
    """Says after which steps a checkpoint is written: by their number, by the minutes since the last, and at the end.

    Parameters
    ----------
    config
        ``checkpoint_every``, ``checkpoint_minutes``.
    world
        The processes; the first one's clock counts.
    clock
        Seconds.
    """

    def __init__(self, config: PretrainConfig, world: World, clock: Callable[[], float] = time.monotonic) -> None:
        self.config, self.world, self.clock = config, world, clock
        self.last = clock()

    def due(self, step: int) -> bool:
        """Return whether to save after this step, the same on all processes; a collective call."""
        minutes = self.config.checkpoint_minutes
        if step % self.config.checkpoint_every == 0 or step == self.config.steps:
            return True
        if minutes is None:
            return False
        return self.world.by_first(lambda: self.clock() - self.last >= 60 * minutes)

    def saved(self) -> None:
        """Count from now on."""
        self.last = self.clock()


def position(training: Training, step: int) -> dict[str, Any]:
    """Return where a training stands after a step: what a checkpoint says besides its tensors.

    All of it follows from the seed and the step; it is written down so that a difference is seen.
    """
    config, order = training.config, training.cells.order
    following = order.cells(step + 1)
    return {
        "seed": config.seed,
        "cells": step * config.batch_size,
        "epoch": step * config.batch_size // len(order.rows),
        "next_cells_sha256": hashlib.sha256(np.ascontiguousarray(following, dtype="<i8").tobytes()).hexdigest(),
        "redraws": (step - 1) // config.redraw_every if config.redraw_every else 0,
        "schedule": config.schedule,
        "learning_rate": rate_of_step(step, config, len(order.rows)),
        "parallel": config.parallel,
    }


def checked_step(state: Mapping[str, Any], training: Training) -> int:
    """Return the step of a checkpoint, whose position must be what it would be now.

    Raises
    ------
    CheckpointError
        It is not: the order of cells, the redraws or the schedule are others in this version.
    """
    step = int(state["step"])
    now = position(training, step)
    different = [key for key, value in now.items() if key != "parallel" and state.get(key) != value]
    if different:
        raise CheckpointError(
            f"the checkpoint of step {step} says {', '.join(f'{k}: {state.get(k)}' for k in different)}",
            ", ".join(f"{k}: {now[k]}" for k in different),
            "go on with the version of the software that began the training, or begin anew in another folder",
        )
    return step


def save_batch(work_dir: Path, step: int, batch: Batch, world: World) -> None:
    """Keep the cells of a step that went wrong: ``diverged_step_<step>_process_<rank>.npz``."""
    with atomic_path(work_dir / f"diverged_step_{step:08d}_process_{world.rank:05d}.npz") as path:
        np.savez_compressed(path, step=step, rows=batch.rows, places=batch.places, values=batch.values_BN.numpy())
