"""Batch integration: an embedding of cells from several batches, judged for mixing and for what it keeps of cell types.

Files of a data set: ``expression.h5ad`` (all cells; ``obs["batch"]``, no cell types) and ``labels.tsv`` (sample, batch,
cell_type: the truth).

Problem: `samples` are cells (columns part, batch), `outputs` is ["label"], `targets` the code of the cell type (in the
order of sorted names); `context` holds ``expression`` ((cells, genes) csr float32, log1p_cp10k, rows as `samples`) and
``gene_names``. The answer is an embedding, (cells, any number of dimensions).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import anndata
import numpy as np
import pandas as pd
from pydantic import Field
from scipy import sparse

from sclong.cards import Strict
from sclong.data.normalize import check_counts, log1p_cp10k
from sclong.errors import InputDataError, listing, nearest
from sclong.io.h5ad import read_expression
from sclong.io.tables import read_tsv, write_tsv
from sclong.metrics.integration import integration_scores
from sclong.tasks.base import Features, Predictions, Problem, Task
from sclong.tasks.options import check_policy, parse_options
from sclong.tasks.predictions import answers_to

SCENARIO = "all_cells"


class IntegrationOptions(Strict):
    """Options of :meth:`BatchIntegration.prepare`."""

    expression_format: Literal["h5ad", "10x_h5", "csv"] = "h5ad"
    transpose: bool = Field(default=False, description="genes stand in rows (csv)")
    layer: str | None = None
    gene_column: str | None = None
    value_kind: Literal["counts", "log1p_cp10k", "nonnegative"] = "counts"
    batch_column: str | None = Field(default=None, description="column of the metadata; null: each file is a batch")
    cell_type_column: str = "cell_type"
    keep: dict[str, str] = Field(default_factory=dict, description="column -> the value a cell must have to be kept")
    min_genes: int = Field(default=10, ge=0, description="genes a cell must show")
    min_cells: int = Field(default=10, ge=0, description="cells a gene must be seen in")


class BatchIntegration(Task):
    """Judge a cell embedding over several batches (see the module)."""

    name = "batch_integration"
    native = "integrated_embedding"
    needs = "cell_embedding"
    metrics: ClassVar[Mapping[str, str]] = {
        "batch_asw": "max",
        "celltype_asw": "max",
        "nmi": "max",
        "graph_connectivity": "max",
        "ilisi": "max",
        "overall": "max",
    }

    def prepare(self, inputs: Mapping[str, Path], options: Mapping[str, Any], out: Path) -> dict[str, Any]:
        """Put the batches together over their shared genes, filter, write the data set.

        Parameters
        ----------
        inputs
            ``expression``: one file or a list; ``metadata`` (optional, as many): csv tables with cell names in the
            first column. Without it the metadata are ``.obs``.
        options
            See :class:`IntegrationOptions`.
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
        files = _as_list(inputs["expression"])
        tables = _as_list(inputs.get("metadata", [None] * len(files)))
        if len(tables) != len(files):
            raise InputDataError(
                f"{len(files)} expression files and {len(tables)} metadata files", "one for each", "correct the card"
            )
        parts, left_out = [], {"cells_not_kept": 0, "cells_without_label": 0}
        for path, table in zip(files, tables, strict=True):
            part, dropped = _read_batch(path, table, chosen, several=len(files) > 1)
            parts.append(part)
            left_out = {reason: left_out[reason] + dropped[reason] for reason in left_out}
        genes_per_file = [part.n_vars for part in parts]
        adata, dropped = _filtered(_joined(parts), chosen)
        if chosen.value_kind == "counts":
            check_counts(adata.X, ", ".join(str(f) for f in files))
        per_batch, per_type = (adata.obs[c].value_counts().sort_index() for c in ("batch", "cell_type"))
        for what, found in (("batch", per_batch), ("cell type", per_type)):
            if len(found) < 2:
                raise InputDataError(
                    f"one {what} only: {listing(found.index)}", f"at least two of each {what}",
                    "correct the columns in the card's options",
                )  # fmt: skip
        _write(adata, chosen.value_kind, out)
        return {
            "cells": adata.n_obs,
            "genes": adata.n_vars,
            "genes_per_file": genes_per_file,
            "cells_per_batch": {str(k): int(v) for k, v in per_batch.items()},
            "cells_per_type": {str(k): int(v) for k, v in per_type.items()},
            **left_out,
            **dropped,
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
            yield Problem(
                task=self.name,
                fold=str(fold),
                samples=pd.DataFrame(
                    {"part": rows["part"].to_numpy(), "batch": labels.loc[cells, "batch"].to_numpy()}, index=cells
                ),
                targets=truth if sees_truth else np.full_like(truth, np.nan),
                outputs=["label"],
                context={
                    "expression": log1p_cp10k(values) if adata.uns["value_kind"] == "counts" else values,
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
        """Return every score of :mod:`sclong.metrics.integration` over all cells."""
        labels = _labels(dataset)
        parts = []
        for fold in split["fold"].unique():
            rows, embedding = answers_to(split, predictions, fold)
            cells = rows["sample"].tolist()
            truth = labels.loc[cells]
            scores = integration_scores(embedding, truth["batch"].to_numpy(str), truth["cell_type"].to_numpy(str))
            parts += [(SCENARIO, metric, value, len(cells), "cells") for metric, value in scores.items()]
        return pd.DataFrame(parts, columns=["scenario", "metric", "value", "n", "unit"])


def _as_list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else [value]


def _read_batch(
    path: Path, table: Path | None, chosen: IntegrationOptions, *, several: bool
) -> tuple[anndata.AnnData, dict[str, int]]:
    """Read one file and its metadata; obs of the result: batch, cell_type. Names are unique over several files."""
    adata = read_expression(
        path,
        chosen.expression_format,
        transpose=chosen.transpose,
        layer=chosen.layer,
        gene_column=chosen.gene_column,
    )
    source = Path(path).name.partition(".")[0]
    where = table or path
    metadata = adata.obs if table is None else _metadata_of(adata, table)
    needed = [*filter(None, [chosen.batch_column]), chosen.cell_type_column, *chosen.keep]
    _check_columns(metadata, needed, where)
    kept = np.ones(len(metadata), dtype=bool)
    for column, value in chosen.keep.items():
        kept &= (metadata[column].astype(str) == value).to_numpy()
    labelled = metadata[needed].notna().all(axis=1).to_numpy()
    rows = np.flatnonzero(kept & labelled)
    names = adata.obs_names.astype(str)
    obs = pd.DataFrame(
        {
            "batch": metadata[chosen.batch_column].astype(str) if chosen.batch_column else source,
            "cell_type": metadata[chosen.cell_type_column].astype(str),
        },
        index=metadata.index,
    ).set_axis(source + ":" + names if several else names)
    X = sparse.csr_matrix(adata.X)[rows].astype(np.float32)
    dropped = {"cells_not_kept": int((~kept).sum()), "cells_without_label": int((kept & ~labelled).sum())}
    return anndata.AnnData(X, obs=obs.iloc[rows], var=pd.DataFrame(index=adata.var_names)), dropped


def _metadata_of(adata: anndata.AnnData, table: Path) -> pd.DataFrame:
    metadata = pd.read_csv(table, index_col=0)
    metadata.index = metadata.index.astype(str)
    strangers = set(adata.obs_names).symmetric_difference(metadata.index)
    if strangers or not metadata.index.is_unique:
        raise InputDataError(
            f"{table}: {len(metadata)} cells, {adata.n_obs} in the expression file; not in both: {listing(strangers)}",
            "the same cells in both, each once", "pair the files in the card's lists in one order",
        )  # fmt: skip
    return metadata.loc[adata.obs_names]


def _check_columns(metadata: pd.DataFrame, needed: Sequence[str], where: Path) -> None:
    missing = [c for c in needed if c not in metadata.columns]
    if missing:
        like = nearest(missing[0], map(str, metadata.columns))
        raise InputDataError(
            f"{where}: no column {listing(missing)}; the columns are {listing(metadata.columns, 20)}",
            "the batch, cell-type and keep columns that the card's options name",
            f"write {like[0]!r} in the card" if like else "correct the column in the card",
        )


def _joined(parts: Sequence[anndata.AnnData]) -> anndata.AnnData:
    """Stack batches over the genes that all of them have, in the order of the first."""
    if len(parts) == 1:
        return parts[0]
    shared = [g for g in parts[0].var_names if all(g in part.var_names for part in parts[1:])]
    if not shared:
        raise InputDataError(
            f"no gene is in all {len(parts)} files; the first has {listing(parts[0].var_names, 3)}, "
            f"the last {listing(parts[-1].var_names, 3)}",
            "one kind of gene id in all files", "name the column that holds it (option gene_column)",
        )  # fmt: skip
    return anndata.concat([part[:, shared] for part in parts], join="inner", merge="first")


def _filtered(adata: anndata.AnnData, chosen: IntegrationOptions) -> tuple[anndata.AnnData, dict[str, int]]:
    """Leave out cells with few genes, then genes in few cells."""
    if not adata.obs_names.is_unique or not adata.var_names.is_unique:
        raise InputDataError(
            "cell or gene names stand twice", "unique names of cells and of genes", "make them unique in the file"
        )
    cells = sparse.csr_matrix(adata.X).getnnz(axis=1) >= max(chosen.min_genes, 1)
    kept = adata[cells]
    genes = sparse.csr_matrix(kept.X).getnnz(axis=0) >= chosen.min_cells
    dropped = {"cells_with_few_genes": int((~cells).sum()), "genes_in_few_cells": int((~genes).sum())}
    return kept[:, genes].copy(), dropped


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
