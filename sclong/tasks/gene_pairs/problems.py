"""Gene pairs, step problems: what a model may see of the fold."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from sclong.benchmark.names import REMAKE_SPLIT, align
from sclong.benchmark.problem import Problem
from sclong.tasks.gene_pairs.dataset import OUTPUTS, PairContext, read_context, read_pairs


def problems(dataset: Path, split: pd.DataFrame, *, sees_truth: bool = False) -> Iterator[Problem[PairContext]]:
    """Yield the one problem: samples are pairs with the columns part, gene1 and gene2; targets are the labels."""
    pairs, context = read_pairs(dataset), read_context(dataset)
    for fold, rows in split.groupby("fold", sort=False):
        of_fold = pairs.iloc[align(pairs.index, rows["sample"], "the gene pairs", REMAKE_SPLIT)]
        targets = of_fold["label"].to_numpy(dtype=np.float32)[:, None]
        if not sees_truth:
            targets[(rows["part"] == "test").to_numpy()] = np.nan
        samples = pd.DataFrame(
            {"part": rows["part"].to_numpy(), "gene1": of_fold["gene1"], "gene2": of_fold["gene2"]},
            index=of_fold.index,
        )
        yield Problem("gene_pairs", str(fold), samples, targets, OUTPUTS, context)
