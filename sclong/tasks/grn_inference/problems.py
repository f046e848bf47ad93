"""Gene regulatory networks, step problems: what a model may see of the fold."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from sclong.benchmark.problem import Problem
from sclong.tasks.grn_inference.dataset import NetworkContext, read_context, read_edges
from sclong.tasks.grn_inference.metrics import adjacency


def problems(dataset: Path, split: pd.DataFrame, *, sees_truth: bool = False) -> Iterator[Problem[NetworkContext]]:
    """Yield the one problem: samples are regulators, outputs are genes, targets are the edges, 0 or 1."""
    context = read_context(dataset)
    genes = context.annotated_genes
    for fold, rows in split.groupby("fold", sort=False):
        regulators = rows["sample"].tolist()
        truth = adjacency(read_edges(dataset), regulators, genes).astype(np.float32)
        yield Problem(
            task="grn_inference",
            fold=str(fold),
            samples=pd.DataFrame({"part": rows["part"].to_numpy()}, index=regulators),
            targets=truth if sees_truth else np.full_like(truth, np.nan),
            outputs=genes,
            context=context,
        )
