"""Batch integration, step problems: what a model may see of the cells."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
from scipy import sparse

from sclong.benchmark.names import REMAKE_SPLIT, align
from sclong.benchmark.problem import Problem
from sclong.cells.normalize import log1p_cp10k
from sclong.tasks.batch_integration.dataset import OUTPUTS, IntegrationContext, read_labels


def problems(dataset: Path, split: pd.DataFrame, *, sees_truth: bool = False) -> Iterator[Problem[IntegrationContext]]:
    """Yield the one problem (:class:`.IntegrationContext` describes it)."""
    adata = anndata.read_h5ad(dataset / "expression.h5ad")
    labels = read_labels(dataset)
    for fold, rows in split.groupby("fold", sort=False):
        cells = rows["sample"].tolist()
        at = align(labels.index, cells, "the labels: cells", REMAKE_SPLIT)
        chosen = adata[cells]
        values = sparse.csr_matrix(chosen.X)
        codes = np.unique(labels["cell_type"], return_inverse=True)[1][at]
        truth = codes.astype(np.float32)[:, None]
        is_counts = adata.uns["value_kind"] == "counts"
        yield Problem(
            task="batch_integration",
            fold=str(fold),
            samples=pd.DataFrame(
                {"part": rows["part"].to_numpy(), "batch": labels.loc[cells, "batch"].to_numpy()}, index=cells
            ),
            targets=truth if sees_truth else np.full_like(truth, np.nan),
            outputs=OUTPUTS,
            context=IntegrationContext(
                expression=log1p_cp10k(values) if is_counts else values,
                counts=values if is_counts else None,
                gene_names=[str(g) for g in adata.var_names],
            ),
        )
