"""Drug combination, step problems: what a model may see of a fold."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import anndata
import numpy as np
import pandas as pd

from sclong.benchmark.names import REMAKE_SPLIT, align
from sclong.benchmark.problem import Problem
from sclong.tasks.drug_combination.dataset import OUTPUTS, CombinationContext, read_triples
from sclong.tasks.drug_combination.splits import TRIPLE


def problems(dataset: Path, split: pd.DataFrame, *, sees_truth: bool = False) -> Iterator[Problem[CombinationContext]]:
    """Yield one problem per fold; samples in the order of the split."""
    triples = read_triples(dataset).set_index("sample")[TRIPLE]
    context = CombinationContext(expression=anndata.read_h5ad(dataset / "expression.h5ad").to_df())
    for fold, rows in split.groupby("fold", sort=False):
        align(triples.index, rows["sample"], "the triples", REMAKE_SPLIT)
        samples = rows.set_index("sample")[["part", "scenario"]].join(triples)
        targets = samples.pop("label").to_numpy(np.float32)[:, None].copy()
        if not sees_truth:
            targets[(samples["part"] == "test").to_numpy()] = np.nan
        yield Problem("drug_combination", str(fold), samples, targets, OUTPUTS, context)
