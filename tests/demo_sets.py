"""What tests of every task share: a benchmark with its data set and its split."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from sclong.benchmark.split import read_split
from sclong.benchmark.task import Task


@dataclass(frozen=True)
class Prepared:
    """A benchmark's task, its prepared data set and its split."""

    task: Task
    dataset: Path
    split_file: Path

    @property
    def split(self) -> pd.DataFrame:
        return read_split(self.split_file)
