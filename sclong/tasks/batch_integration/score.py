"""Batch integration, step score: every score over all cells."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
from scipy import sparse

from sclong.benchmark.names import REMAKE_SPLIT, align
from sclong.benchmark.predictions import answers_to
from sclong.benchmark.problem import Predictions
from sclong.cells.normalize import log1p_cp10k
from sclong.tasks.batch_integration.dataset import OUTPUTS, read_labels
from sclong.tasks.batch_integration.metrics import integration_scores
from sclong.tasks.batch_integration.split import SCENARIO

COMPONENTS = 50


def score(dataset: Path, split: pd.DataFrame, predictions: Predictions) -> pd.DataFrame:
    """Return every score of :mod:`.metrics` over all cells."""
    labels = read_labels(dataset)
    parts, split = [], split.sort_values("sample", kind="stable")  # no step of a metric may see another order
    for fold in split["fold"].unique():
        rows, embedding = answers_to(split, predictions, fold, OUTPUTS, side_by_side=True)
        cells = rows["sample"].tolist()
        truth = labels.iloc[align(labels.index, cells, "the labels: cells", REMAKE_SPLIT)]
        batch, celltype = (truth[column].to_numpy(str) for column in ("batch", "cell_type"))
        path = dataset / "expression.h5ad"
        scores = integration_scores(
            embedding, batch, celltype, _unintegrated(path, path.stat().st_mtime_ns, tuple(cells))
        )
        parts += [(SCENARIO, metric, value, len(cells), "cells") for metric, value in scores.items()]
    return pd.DataFrame(parts, columns=["scenario", "metric", "value", "n", "unit"])


@lru_cache(maxsize=1)
def _unintegrated(path: Path, changed: int, cells: tuple[str, ...]) -> np.ndarray:
    """Leading principal components of normalised expression, (cells, <= 50): what integration starts from.

    All predictions of a benchmark are scored in one go, so they are kept; `changed` is the file's time.
    """
    from sklearn.decomposition import PCA

    adata = anndata.read_h5ad(path)[list(cells)]
    values = sparse.csr_matrix(adata.X, dtype=np.float64)
    if adata.uns["value_kind"] == "counts":
        values = log1p_cp10k(values).astype(np.float64)
    size = max(1, min(COMPONENTS, *(n - 1 for n in values.shape)))
    return np.asarray(PCA(size, svd_solver="arpack", random_state=0).fit_transform(values))
