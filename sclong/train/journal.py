"""What a training did, step by step: ``training.jsonl``, in which nothing is what a clock says, and the monitor."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from sclong.config.sections import Architecture, PretrainConfig
from sclong.io.files import write_text, writing
from sclong.runlog import LOGGER
from sclong.train.monitor import Monitor
from sclong.train.parallel import World


class TrainingLog:
    """One JSON object per line, in order of steps.

    Opening it drops the lines after `last_step` (all, where that is negative), so that a training that was killed and
    went on leaves the file that it would have left uninterrupted.

    Attributes
    ----------
    lines
        The lines that were kept.
    """

    def __init__(self, path: Path, last_step: int) -> None:
        self.lines: list[dict[str, Any]] = []
        kept = []
        for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() and last_step >= 0 else []:
            try:
                values = json.loads(line)
            except ValueError:  # the last line of a killed job
                break
            if values["step"] > last_step:
                break
            self.lines.append(values)
            kept.append(line + "\n")
        write_text(path, "".join(kept))
        self.path = path
        self._file = open(path, "a", encoding="utf-8")  # noqa: SIM115 (closed by close)

    def write(self, **values: Any) -> None:
        """Append a line."""
        with writing(self.path):
            self._file.write(json.dumps(values) + "\n")
            self._file.flush()

    def sync(self) -> None:
        """See that all lines are on the disk (before a checkpoint is, so that it never runs ahead of them)."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class Journal:
    """Log and monitor of a training: of the first process; on the others nothing happens.

    Parameters
    ----------
    work_dir
        Folder of the training.
    config, arch, n_positions
        The training and its model.
    world
        The processes.
    first
        The first step of this run; lines from it on are dropped. 0: the untrained model is evaluated first.

    Attributes
    ----------
    start_loss
        Loss of the untrained model on held-out donors; None where it is not known.
    last
        The last line.
    """

    def __init__(
        self, work_dir: Path, config: PretrainConfig, arch: Architecture, n_positions: int, world: World, first: int
    ) -> None:
        self.start_loss: float | None = None
        self.last: dict[str, Any] = {}
        self._log: TrainingLog | None = None
        if not world.first:
            return
        self._log = TrainingLog(work_dir / "training.jsonl", first - 1)
        self._monitor = Monitor(work_dir, config, arch, n_positions, world.device, world.size, max(first, 1))
        if self._log.lines:
            self.start_loss, self.last = self._log.lines[0].get("held_out_loss"), self._log.lines[-1]
        if len(self._log.lines) != first:
            LOGGER.warning("%s has %d lines for %d steps", self._log.path, len(self._log.lines), max(first - 1, 0))

    def write(self, **line: Any) -> None:
        """Write down a step."""
        if self._log is None:
            return
        self.last = line
        self._log.write(**line)
        if line["step"] == 0:
            self.start_loss = line["held_out_loss"]
        else:
            self._monitor.step(line)

    def sync(self) -> None:
        """See that the log is on the disk."""
        if self._log is not None:
            self._log.sync()

    def close(self) -> None:
        """Close the files."""
        if self._log is not None:
            self._log.close()
            self._monitor.close()
