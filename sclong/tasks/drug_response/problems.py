"""Drug response, step problems: what a model may see of a fold."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from sclong.benchmark.names import REMAKE_SPLIT, align
from sclong.benchmark.problem import Problem
from sclong.tasks.drug_response.dataset import OUTPUTS, ResponseContext, read_context, read_pairs


def problems(dataset: Path, split: pd.DataFrame, *, sees_truth: bool = False) -> Iterator[Problem[ResponseContext]]:
    """Yield one problem per fold; samples in the order of the split."""
    pairs, context = read_pairs(dataset).set_index("sample"), read_context(dataset)
    for fold, rows in split.groupby("fold", sort=False):
        align(pairs.index, rows["sample"], "the pairs", REMAKE_SPLIT)
        samples = rows.set_index("sample")[["part", "scenario"]].join(pairs)
        targets = samples.pop("ln_ic50").to_numpy(np.float32)[:, None].copy()
        if not sees_truth:
            targets[(samples["part"] == "test").to_numpy()] = np.nan
        yield Problem("drug_response", str(fold), samples, targets, OUTPUTS, context)
