"""Batch integration: an embedding of cells from several batches, judged for mixing and for what it keeps of cell types.

Files of a data set: ``expression.h5ad`` (all cells; ``obs["batch"]``, no cell types) and ``labels.tsv`` (sample, batch,
cell_type: the truth).

Problem: `samples` are cells (columns part, batch), `outputs` is ["label"], `targets` the code of the cell type (in the
order of sorted names); `context` holds ``expression`` ((cells, genes) csr float32, log1p_cp10k, rows as `samples`),
``counts`` (the same before normalisation; None where the data has no counts) and ``gene_names``. The answer is an
embedding, (cells, any number of dimensions).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

import anndata
import numpy as np
import pandas as pd
from scipy import sparse

from sclong.benchmark.options import check_policy, parse_options
from sclong.benchmark.predictions import answers_to
from sclong.benchmark.problem import Features, Predictions, Problem
from sclong.benchmark.task import Task
from sclong.cells.normalize import log1p_cp10k
from sclong.config.cards import Strict
from sclong.errors import InputDataError, listing
from sclong.io.tables import read_tsv, write_tsv
from sclong.tasks.batch_integration.batches import IntegrationOptions, read_batches
from sclong.tasks.batch_integration.metrics import METRICS, integration_scores

SCENARIO = "all_cells"
COMPONENTS = 50


class BatchIntegration(Task):
    """Judge a cell embedding over several batches (see the module)."""

    name = "batch_integration"
    native = "integrated_embedding"
    needs = "cell_embedding"
    metrics: ClassVar[Mapping[str, str]] = dict.fromkeys(METRICS, "max")

    def prepare(self, inputs: Mapping[str, Path], options: Mapping[str, Any], out: Path) -> dict[str, Any]:
        """Put the batches together over their shared genes, filter, write the data set.

        Parameters
        ----------
        inputs
            ``expression``: one file or a list; ``metadata`` (optional, as many): csv tables with cell names in the
            first column. Without it the metadata are ``.obs``.
        options
            See :class:`.IntegrationOptions`.
        out
            Folder to fill.

        Returns
        -------
        dict
            Cells per batch and per type, genes, and what was left out why.

        Raises
        ------
        InputDataError
            When tables do not belong together, a column is missing, or fewer than two batches or cell types remain.
        """
        chosen = parse_options(IntegrationOptions, options, self.name)
        adata, left_out = read_batches(inputs["expression"], inputs.get("metadata"), chosen)
        per_batch, per_type = (adata.obs[c].value_counts().sort_index() for c in ("batch", "cell_type"))
        for what, found in (("batch", per_batch), ("cell type", per_type)):
            if len(found) < 2:
                raise InputDataError(
                    f"one {what} only: {listing(found.index)}",
                    f"at least two of each {what}",
                    "correct the columns in the card's options",
                )
        _write(adata, chosen.value_kind, out)
        return {
            "cells": adata.n_obs,
            "genes": adata.n_vars,
            "cells_per_batch": {str(k): int(v) for k, v in per_batch.items()},
            "cells_per_type": {str(k): int(v) for k, v in per_type.items()},
            **left_out,
        }

    def split(self, dataset: Path, policy: str, options: Mapping[str, Any], seed: int) -> pd.DataFrame:
        """Return one fold in which every cell is a test sample (policy "none")."""
        check_policy(policy, ["none"], self.name)
        parse_options(Strict, options, f"{self.name}, split none")
        samples = _labels(dataset).index.to_numpy()
        return pd.DataFrame({"fold": "0", "sample": samples, "part": "test", "scenario": SCENARIO})

    def problems(self, dataset: Path, split: pd.DataFrame, *, sees_truth: bool = False) -> Iterator[Problem]:
        """Yield the one problem (see the module for its layout)."""
        adata = anndata.read_h5ad(dataset / "expression.h5ad")
        labels = _labels(dataset)
        for fold, rows in split.groupby("fold", sort=False):
            cells = rows["sample"].tolist()
            chosen = adata[cells]
            values = sparse.csr_matrix(chosen.X)
            codes = np.unique(labels["cell_type"], return_inverse=True)[1][labels.index.get_indexer(cells)]
            truth = codes.astype(np.float32)[:, None]
            is_counts = adata.uns["value_kind"] == "counts"
            yield Problem(
                task=self.name,
                fold=str(fold),
                samples=pd.DataFrame(
                    {"part": rows["part"].to_numpy(), "batch": labels.loc[cells, "batch"].to_numpy()}, index=cells
                ),
                targets=truth if sees_truth else np.full_like(truth, np.nan),
                outputs=["label"],
                context={
                    "expression": log1p_cp10k(values) if is_counts else values,
                    "counts": values if is_counts else None,
                    "gene_names": [str(g) for g in adata.var_names],
                },
            )

    def solve(self, problem: Problem, features: Features, seed: int) -> np.ndarray:
        """Return the model's cell embedding as it is, in the order of the samples."""
        assert features.cell_embedding is not None
        rows = pd.Index(features.cells).get_indexer(pd.Index(problem.test_samples))
        if (rows < 0).any():
            raise InputDataError(
                f"embedding of {features.model!r}: {int((rows < 0).sum())} of {len(rows)} cells have no row",
                "one row for every cell of the data set's expression.h5ad",
                "delete the embedding's folder and let it be made again",
            )
        return features.cell_embedding[rows].astype(np.float32)

    def score(self, dataset: Path, split: pd.DataFrame, predictions: Predictions) -> pd.DataFrame:
        """Return every score of :mod:`.metrics` over all cells."""
        labels = _labels(dataset)
        parts = []
        for fold in split["fold"].unique():
            rows, embedding = answers_to(split, predictions, fold)
            cells = rows["sample"].tolist()
            truth = labels.loc[cells]
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


def _write(adata: anndata.AnnData, value_kind: str, out: Path) -> None:
    labels = adata.obs.rename_axis("sample").reset_index()[["sample", "batch", "cell_type"]]
    write_tsv(labels, out / "labels.tsv")
    shown = anndata.AnnData(sparse.csr_matrix(adata.X), obs=adata.obs[["batch"]].copy(), var=adata.var[[]].copy())
    shown.obs_names.name = shown.var_names.name = None  # names of other types cannot be written
    shown.uns["value_kind"] = value_kind
    shown.write_h5ad(out / "expression.h5ad")


def _labels(dataset: Path) -> pd.DataFrame:
    table = read_tsv(dataset / "labels.tsv", ["sample", "batch", "cell_type"], dtype=str, na_values=[])
    return table.set_index("sample")


TASK = BatchIntegration()
