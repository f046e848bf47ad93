"""Genetic perturbation, step prepare: cells averaged by condition, and the genes that each condition changes most.

Definitions (differential expression, dropouts) follow the data processing of GEARS (Roohani et al. 2024), which the
scLong paper's evaluation uses.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
from pydantic import Field
from scipy import sparse

from sclong.benchmark.options import parse_options
from sclong.cells.h5ad import ORIGINAL_NAMES, read_expression
from sclong.cells.normalize import check_counts, check_nonnegative, log1p_cp10k
from sclong.config.cards import Strict
from sclong.errors import InputDataError, listing, nearest
from sclong.io.tables import write_tsv
from sclong.seeding import rng
from sclong.tasks.genetic_perturbation.cells import half_means, write_cells
from sclong.tasks.genetic_perturbation.dataset import Profiles
from sclong.tasks.genetic_perturbation.genes import (
    CONTROL,
    GeneSets,
    published_sets,
    ranked_genes,
    read_published,
    shared_share,
)
from sclong.tasks.genetic_perturbation.go import annotate_screen

if TYPE_CHECKING:
    import anndata


class PrepareOptions(Strict):
    """Options of :func:`prepare_perturbations`."""

    condition_column: str = Field(default="condition", description="obs column with A+ctrl, A+B, or A")
    control: str = Field(default="ctrl", description="how the condition column writes control, alone and beside a gene")
    value_kind: Literal["counts", "log1p_cp10k"] = "counts"
    layer: str | None = Field(
        default=None, description="where the values are: X, raw or a layer; None: found, of values that are no counts X"
    )
    symbol_column: str | None = Field(
        default=None, description="var column of gene symbols; None: var_names are symbols"
    )
    cell_type_column: str | None = Field(
        default=None, description="obs column of the one cell type, part of the conditions' names; None: 'cell'"
    )
    keep: dict[str, str] = Field(default_factory=dict, description="obs column -> value of the cells to keep")
    merge_orientations: bool = Field(
        default=True,
        description="whether A+ctrl and ctrl+A are one condition; the published evaluation counts them as two",
    )
    gene_lists: Literal["auto", "computed", "published"] = Field(
        default="auto",
        description="rankings and gene sets: those in the file (GEARS' uns fields), computed ones, or auto: the file's "
        "where it has them",
    )
    max_control_cells: int = Field(
        default=200, ge=2, description="control cells kept, drawn at random: those that are embedded and paired with"
    )
    max_cells_per_condition: int | None = Field(
        default=200, ge=1, description="cells of each condition kept for training on single cells; null: all"
    )


def prepare(inputs: Mapping[str, Path], options: Mapping[str, Any], out: Path) -> dict[str, Any]:
    """Average cells by condition and rank genes (:func:`prepare_perturbations`); annotate genes where asked to.

    Parameters
    ----------
    inputs
        ``expression``: the screen, h5ad. Optionally ``obo`` and ``annotation`` (GAF): see :func:`.annotate_screen`.
    options
        See :class:`PrepareOptions`.
    out
        Folder to fill.

    Returns
    -------
    dict
        Facts of both functions.
    """
    facts = prepare_perturbations(
        inputs["expression"], parse_options(PrepareOptions, options, "genetic_perturbation"), out
    )
    return facts | annotate_screen(out, inputs)


def perturbed_genes(label: str, control: str) -> tuple[str, ...]:
    """Return the sorted perturbed genes of a condition: ("A",) for A, A+ctrl and ctrl+A, () for control.

    Examples
    --------
    >>> perturbed_genes("B+A", "ctrl"), perturbed_genes("ctrl+A", "ctrl"), perturbed_genes("ctrl", "ctrl")
    (('A', 'B'), ('A',), ())
    """
    return tuple(sorted(part for part in label.split("+") if part != control))


def condition_name(label: str, control: str, cell_type: str) -> str:
    """Return GEARS' name of a condition, ``{cell_type}_{condition}_{dose}``.

    Examples
    --------
    >>> condition_name("A", "ctrl", "K562"), condition_name("B+A", "ctrl", "K562"), condition_name("NT", "NT", "K562")
    ('K562_A+ctrl_1+1', 'K562_B+A_1+1', 'K562_ctrl_1')
    """
    parts = ["ctrl" if part == control else part for part in label.split("+")]
    if len(parts) == 1:
        return f"{cell_type}_ctrl_1" if parts == ["ctrl"] else f"{cell_type}_{parts[0]}+ctrl_1+1"
    return f"{cell_type}_{'+'.join(parts)}_1+1"


def prepare_perturbations(path: Path, chosen: PrepareOptions, out: Path) -> dict[str, Any]:
    """Average the cells of a screen by condition, rank genes, write the data set's folder.

    Conditions with fewer than two cells and genes that no kept cell expresses are dropped. Perturbed genes that are
    not measured stand at the end of ``expression.h5ad`` with zero expression, so that models that know them can embed
    them; they are no outputs.

    Parameters
    ----------
    path
        AnnData file, one row per cell.
    chosen
        Options.
    out
        Folder; gets conditions.tsv, profiles.npz, gene_sets.npz (:class:`GeneSets`), de_genes.tsv (the first 20
        non-dropout genes of each condition, to read), expression.h5ad (control cells) and cells.h5ad (cells of every
        condition and the same control cells, for :class:`ConditionCells`).

    Returns
    -------
    dict
        Counts, and what was dropped.

    Raises
    ------
    InputDataError
        Missing columns, no control cells, conditions of three genes, values that are not what the options say.
    """
    adata = _read(path, chosen)
    published = {} if chosen.gene_lists == "computed" else read_published(path)
    if published and "condition_name" in adata.obs:  # the name that the published lists go by
        adata.obs["name"] = adata.obs["condition_name"].astype(str)
    pairs = [perturbed_genes(label, chosen.control) for label in adata.obs["label"]]
    adata.obs["genes"] = ["|".join(p) for p in pairs]
    by_genes = adata.obs["genes"].str.replace("|", "+", regex=False)
    sample = by_genes if chosen.merge_orientations else adata.obs["label"]
    adata.obs["sample"] = sample.where(by_genes != "", CONTROL)
    _check_conditions(adata.obs, path, chosen)
    size = adata.obs["sample"].value_counts()
    few = sorted(size.index[size < 2])
    adata = adata[~adata.obs["sample"].isin(few).to_numpy()]
    all_genes = _names_in_file(adata)
    adata = adata[:, np.asarray(adata.X.getnnz(axis=0) > 0)].copy()

    values = _log_values(adata, path, chosen)
    samples = adata.obs["sample"].to_numpy(dtype=str)
    codes, names = pd.factorize(samples)
    mean = _group_means(values, codes, len(names))
    control = list(names).index(CONTROL)
    ranked, order = ranked_genes(values, pd.Categorical(samples, categories=names))
    mean_conditions, control_mean = np.delete(mean, control, axis=0), mean[control]
    first = adata.obs.drop_duplicates("sample").set_index("sample").loc[ranked]
    conditions = first.reset_index()[["sample", "label", "genes"]].assign(
        cells=size[ranked].to_numpy(), condition_name=first["name"].to_numpy()
    )
    computed = GeneSets.computed(order, mean_conditions, control_mean)
    sets, about_lists = _choose_sets(path, chosen, published, adata, conditions, all_genes, computed)
    sets.write(out)
    rows = [
        (name, rank, adata.var_names[gene])
        for row, name in enumerate(ranked)
        for rank, gene in enumerate(sets.non_dropout_de(row))
    ]
    write_tsv(pd.DataFrame(rows, columns=["condition", "rank", "gene"]), out / "de_genes.tsv")
    controls = _drawn_controls(samples, chosen.max_control_cells)
    write_cells(
        values,
        samples,
        adata.obs_names.to_numpy(dtype=str),
        adata.var_names.to_numpy(dtype=str),
        controls,
        chosen.max_cells_per_condition,
        out / "cells.h5ad",
    )

    symbols = adata.var_names if chosen.symbol_column is None else adata.var[chosen.symbol_column]
    symbols = np.asarray(symbols, dtype=str)
    id_of = dict(zip(symbols[::-1], adata.var_names[::-1], strict=True))
    perturbed = np.unique([g for pair in conditions["genes"] for g in pair.split("|")])
    Profiles(
        conditions,
        np.asarray(adata.var_names, dtype=str),
        symbols,
        mean_conditions,
        *half_means(values, samples, ranked),
        control_mean,
        perturbed,
        np.array([id_of.get(g, g) for g in perturbed], dtype=str),
    ).write(out)
    unmeasured = [g for g in perturbed.tolist() if g not in id_of]
    _write_controls(adata[controls], unmeasured, chosen, out / "expression.h5ad")
    return {
        "cells": adata.n_obs,
        "genes": adata.n_vars,
        "conditions": len(conditions),
        "singles": int((~conditions["genes"].str.contains("|", regex=False)).sum()),
        "control_cells": int(size[CONTROL]),
        "perturbed_genes_not_measured": unmeasured,
        "dropped_conditions_with_one_cell": few,
        **about_lists,
    }


def _read(path: Path, chosen: PrepareOptions) -> anndata.AnnData:
    """Read the cells that are kept; obs gets the column ``label``."""
    adata = read_expression(path, layer=chosen.layer or (None if chosen.value_kind == "counts" else "X"))
    for column, where in (
        (chosen.condition_column, adata.obs),
        *((c, adata.obs) for c in chosen.keep),
        *([(chosen.cell_type_column, adata.obs)] if chosen.cell_type_column else []),
        *([(chosen.symbol_column, adata.var)] if chosen.symbol_column else []),
    ):
        if column not in where.columns:
            like = nearest(str(column), map(str, where.columns))
            raise InputDataError(
                f"{path}: no column {column!r}; the columns are {listing(where.columns, 12)}",
                "the columns that the card's options name",
                f"write {like[0]!r} in the card" if like else "correct the options of the card",
            )
    kept = np.ones(adata.n_obs, dtype=bool)
    for column, value in chosen.keep.items():
        kept &= (adata.obs[column].astype(str) == value).to_numpy()
    adata = adata[kept].copy()
    adata.obs["label"] = adata.obs[chosen.condition_column].astype(str)
    types = ["cell"] if chosen.cell_type_column is None else adata.obs[chosen.cell_type_column].astype(str).unique()
    if len(types) != 1:
        raise InputDataError(
            f"{path}: {len(types)} cell types in {chosen.cell_type_column!r}: {listing(types)}",
            "cells of one type: changes are measured against its control cells",
            "choose one in the card's options (keep)",
        )
    adata.obs["name"] = [condition_name(c, chosen.control, types[0]) for c in adata.obs["label"]]
    return adata


def _names_in_file(adata: anndata.AnnData) -> list[str]:
    """Return the gene names as the file writes them: reading may have replaced them by ids."""
    return [str(g) for g in adata.var.get(ORIGINAL_NAMES, adata.var_names)]


def _choose_sets(
    path: Path,
    chosen: PrepareOptions,
    published: dict[str, Any],
    adata: anndata.AnnData,
    conditions: pd.DataFrame,
    all_genes: list[str],
    computed: GeneSets,
) -> tuple[GeneSets, dict[str, Any]]:
    """Return the gene sets that the options ask for, and facts about them."""
    names = list(conditions["condition_name"])
    several = adata.obs.groupby("sample", observed=True)["name"].nunique().loc[conditions["sample"]].max() > 1
    if chosen.gene_lists == "published" and (not published or several):
        raise InputDataError(
            f"{path}: "
            + ("samples of several published condition names" if published else "no uns['rank_genes_groups_cov_all']"),
            "a file processed by GEARS, and its conditions as they are (merge_orientations: false)",
            "write gene_lists: computed, or auto, in the card's options",
        )
    if not published or several:
        return computed, {"gene_lists": "computed"}
    sets = published_sets(published, names, _names_in_file(adata), all_genes, computed)
    return sets, {
        "gene_lists": "published",
        "share_of_published_top20_ranked_also_computed": shared_share(sets.order[:, :20], computed.order[:, :20]),
        "share_of_published_top20_non_dropout_also_computed": shared_share(
            sets.top_non_dropout, computed.top_non_dropout
        ),
    }


def _check_conditions(obs: pd.DataFrame, path: Path, chosen: PrepareOptions) -> None:
    controls = int((obs["sample"] == CONTROL).sum())
    if controls < 2:
        raise InputDataError(
            f"{path}: {controls} control cells among {len(obs)}; conditions are {listing(obs['label'].unique())}",
            f"at least two cells whose condition is {chosen.control!r}",
            "write the file's word for control in the card's options (control)",
        )
    many = obs.loc[obs["genes"].str.count(r"\|") > 1, "label"].unique()
    if len(many):
        raise InputDataError(
            f"{path}: {len(many)} conditions perturb more than two genes: {listing(many)}",
            "conditions A, A+ctrl or A+B",
            "leave those cells out of the file",
        )


def _log_values(adata: anndata.AnnData, path: Path, chosen: PrepareOptions) -> sparse.csr_matrix:
    """Return log1p(CP10k) of the cells."""
    if chosen.value_kind == "log1p_cp10k":
        check_nonnegative(adata.X, str(path))
        return adata.X
    check_counts(adata.X, str(path))
    return log1p_cp10k(adata.X)


def _group_means(values: sparse.csr_matrix, codes: np.ndarray, groups: int) -> np.ndarray:
    """Return the mean row of each group, (groups, G) float32."""
    member = sparse.csr_matrix((np.ones(len(codes)), (codes, np.arange(len(codes)))), shape=(groups, len(codes)))
    total = (member @ values.astype(np.float64)).toarray()
    return (total / np.bincount(codes, minlength=groups)[:, None]).astype(np.float32)


def _drawn_controls(sample: np.ndarray, most: int) -> np.ndarray:
    """Return the rows of at most `most` control cells, drawn at random, ascending."""
    rows = np.flatnonzero(sample == CONTROL)
    return rows if len(rows) <= most else np.sort(rng("control cells").choice(rows, most, replace=False))


def _write_controls(controls: anndata.AnnData, unmeasured: list[str], chosen: PrepareOptions, path: Path) -> None:
    """Write control cells with unmeasured genes appended as zeros."""
    import anndata

    x = sparse.hstack(
        [controls.X, sparse.csr_matrix((controls.n_obs, len(unmeasured)), dtype=np.float32)], format="csr"
    )
    names = [*controls.var_names, *unmeasured]
    anndata.AnnData(
        x,
        obs=pd.DataFrame(index=controls.obs_names.astype(str)),
        var=pd.DataFrame(index=pd.Index(names, dtype=str)),
        uns={"value_kind": chosen.value_kind, "contextual": True},
    ).write_h5ad(path, compression="gzip")
