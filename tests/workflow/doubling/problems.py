"""Doubling, step problems."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from sclong.benchmark.problem import Context, Problem


def problems(dataset: Path, split: pd.DataFrame, *, sees_truth: bool = False) -> Iterator[Problem[Context]]:
    """Yield the one problem: samples have the column ``number``."""
    samples = pd.DataFrame({"part": split["part"].to_numpy(), "number": split["sample"].astype(float).to_numpy()})
    samples.index = pd.Index(split["sample"].tolist())
    targets = 2 * samples[["number"]].to_numpy(dtype=np.float32)
    if not sees_truth:
        targets[(samples["part"] == "test").to_numpy()] = np.nan
    yield Problem("doubling", "0", samples, targets, ["double"], Context())
