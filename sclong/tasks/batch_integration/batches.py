"""Cells of several batches with their cell types: read from files or from a copy of the Census, joined, filtered."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import anndata
import numpy as np
import pandas as pd
from pydantic import Field
from scipy import sparse

from sclong.cells.h5ad import read_expression
from sclong.cells.normalize import check_counts
from sclong.config.cards import Strict
from sclong.errors import InputDataError, listing, nearest


class IntegrationOptions(Strict):
    """Options of the data of a batch integration benchmark."""

    expression_format: Literal["h5ad", "10x_h5", "csv", "mtx", "census"] = Field(
        default="h5ad", description="census: a folder with a copy of the CELLxGENE Census (TileDB-SOMA), human cells"
    )
    transpose: bool = Field(default=False, description="genes stand in rows (csv)")
    layer: str | None = None
    gene_column: str | None = None
    value_kind: Literal["counts", "log1p_cp10k", "nonnegative"] = "counts"
    batch_column: str | None = Field(default=None, description="column of the metadata; null: each file is a batch")
    cell_type_column: str = "cell_type"
    keep: dict[str, str] = Field(default_factory=dict, description="column -> the value a cell must have to be kept")
    min_genes: int = Field(default=10, ge=0, description="genes a cell must show")
    min_cells: int = Field(default=10, ge=0, description="cells a gene must be seen in")
    census_version: str = Field(default="2023-12-15", description="release of the copy of the Census")
    census_tissues: list[str] | None = Field(default=None, description="values of tissue_general; null: all")


def read_batches(inputs: Any, metadata: Any, chosen: IntegrationOptions) -> tuple[anndata.AnnData, dict[str, Any]]:
    """Read files, put their cells together over the genes that all have, and filter.

    Parameters
    ----------
    inputs, metadata
        One path or a list of them; `metadata` may be None (then the metadata are ``.obs``), else as many as `inputs`.
    chosen
        The options.

    Returns
    -------
    (AnnData, dict)
        Cells by genes, CSR float32, obs ``batch`` and ``cell_type``; genes of each file, and what was left out why.

    Raises
    ------
    InputDataError
        When tables do not belong together, a column is missing, no gene is shared, or a name appears twice.
    """
    files = _as_list(inputs)
    tables = [None] * len(files) if metadata is None else _as_list(metadata)
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
    return adata, {"genes_per_file": genes_per_file, **left_out, **dropped}


def read_census(folder: str | Path, chosen: IntegrationOptions) -> anndata.AnnData:
    """Read the primary human cells of a copy of the Census: raw counts, Ensembl ids, its obs columns.

    Parameters
    ----------
    folder
        A copy of the Census, or of a part of it.
    chosen
        ``census_version`` and ``census_tissues``.

    Raises
    ------
    FetchError, InputDataError
        The packages are not installed, or the folder is no Census of that release (:func:`open_census`), or it has no
        such cell.
    """
    from sclong.config.sections import CensusConfig
    from sclong.corpus.census import list_datasets, stream_dataset
    from sclong.corpus.census_access import open_census

    config = CensusConfig(uri=str(folder), version=chosen.census_version, tissues=chosen.census_tissues)
    counts, labels, genes = [], [], []
    with open_census(config) as census:
        for dataset in list_datasets(census, config)["dataset_id"]:
            stream = stream_dataset(census, dataset, config)
            genes = stream.genes
            for values, obs in stream.pieces(0):
                counts.append(values)
                labels.append(obs.assign(dataset_id=dataset))
    obs = pd.concat(labels, ignore_index=True)
    obs.index = pd.Index(["cell" + str(i) for i in obs["soma_joinid"]])
    return anndata.AnnData(sparse.vstack(counts, format="csr"), obs=obs, var=pd.DataFrame(index=genes))


def _as_list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else [value]


def _read(path: Path, chosen: IntegrationOptions) -> anndata.AnnData:
    if chosen.expression_format == "census":
        return read_census(path, chosen)
    return read_expression(
        path,
        chosen.expression_format,
        transpose=chosen.transpose,
        layer=chosen.layer,
        gene_column=chosen.gene_column,
    )


def _read_batch(
    path: Path, table: Path | None, chosen: IntegrationOptions, *, several: bool
) -> tuple[anndata.AnnData, dict[str, int]]:
    """Read one file and its metadata; obs of the result: batch, cell_type. Names are unique over several files."""
    adata = _read(path, chosen)
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
            "the same cells in both, each once",
            "pair the files in the card's lists in one order",
        )
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
            "one kind of gene id in all files",
            "name the column that holds it (option gene_column)",
        )
    return anndata.concat([part[:, shared] for part in parts], join="inner", merge="first")


def _filtered(adata: anndata.AnnData, chosen: IntegrationOptions) -> tuple[anndata.AnnData, dict[str, int]]:
    """Leave out cells with few genes, then genes in few cells."""
    if not adata.obs_names.is_unique or not adata.var_names.is_unique:
        raise InputDataError(
            "cell or gene names appear twice", "unique names of cells and of genes", "make them unique in the file"
        )
    cells = sparse.csr_matrix(adata.X).getnnz(axis=1) >= max(chosen.min_genes, 1)
    kept = adata[cells]
    genes = sparse.csr_matrix(kept.X).getnnz(axis=0) >= chosen.min_cells
    dropped = {"cells_with_few_genes": int((~cells).sum()), "genes_in_few_cells": int((~genes).sum())}
    return kept[:, genes].copy(), dropped
