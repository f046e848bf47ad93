"""Perturbation screens: cells averaged by perturbation, and the genes that each perturbation changes most.

Definitions (differential expression, dropouts) follow the data processing of GEARS (Roohani et al. 2024), which the
scLong paper's evaluation uses.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
from pydantic import Field
from scipy import sparse

from sclong.cards import Strict
from sclong.data.normalize import check_counts, check_nonnegative, log1p_cp10k
from sclong.errors import InputDataError, listing, nearest
from sclong.io.h5ad import read_expression
from sclong.io.tables import read_tsv, write_tsv
from sclong.seeding import rng

if TYPE_CHECKING:
    import anndata

CONTROL = "control"
TOP = 20


class PrepareOptions(Strict):
    """Options of :func:`prepare_perturbations`."""

    condition_column: str = Field(default="condition", description="obs column with A+ctrl, A+B, or A")
    control: str = Field(default="ctrl", description="how the condition column writes control, alone and beside a gene")
    value_kind: Literal["counts", "log1p_cp10k"] = "counts"
    symbol_column: str | None = Field(
        default=None, description="var column of gene symbols; None: var_names are symbols"
    )
    keep: dict[str, str] = Field(default_factory=dict, description="obs column -> value of the cells to keep")
    merge_orientations: bool = Field(
        default=True,
        description="whether A+ctrl and ctrl+A are one condition; the published evaluation counts them as two",
    )
    max_control_cells: int = Field(default=200, ge=2, description="control cells kept for embedding, drawn at random")


@dataclass(frozen=True)
class Profiles:
    """What a data set's folder holds.

    Attributes
    ----------
    conditions
        Columns sample, label (as the data write it), genes ("A|B"), cells.
    genes, symbols : (G,) str
    mean : (conditions, G) float32
        Mean log1p(CP10k) of each condition's cells.
    control_mean : (G,) float32
    perturbed, perturbed_ids : (P,) str
        Symbols of all perturbed genes, and the name of each in ``expression.h5ad``.
    """

    conditions: pd.DataFrame
    genes: np.ndarray
    symbols: np.ndarray
    mean: np.ndarray
    control_mean: np.ndarray
    perturbed: np.ndarray
    perturbed_ids: np.ndarray

    def write(self, folder: Path) -> None:
        """Write conditions.tsv and profiles.npz."""
        write_tsv(self.conditions, folder / "conditions.tsv")
        arrays = {k: v for k, v in vars(self).items() if k != "conditions"}
        np.savez_compressed(folder / "profiles.npz", **arrays)

    @classmethod
    def read(cls, folder: Path) -> Profiles:
        """Read what :meth:`write` wrote."""
        conditions = read_tsv(
            folder / "conditions.tsv", dtype={"sample": str, "label": str, "genes": str}, na_values=[]
        )
        with np.load(folder / "profiles.npz", allow_pickle=False) as arrays:
            return cls(conditions, **arrays)


def perturbed_genes(label: str, control: str) -> tuple[str, ...]:
    """Return the sorted perturbed genes of a condition: ("A",) for A, A+ctrl and ctrl+A, () for control.

    Examples
    --------
    >>> perturbed_genes("B+A", "ctrl"), perturbed_genes("ctrl+A", "ctrl"), perturbed_genes("ctrl", "ctrl")
    (('A', 'B'), ('A',), ())
    """
    return tuple(sorted(part for part in label.split("+") if part != control))


def ranked_genes(values: sparse.csr_matrix, condition: pd.Categorical) -> tuple[list[str], np.ndarray]:
    """Rank genes by how much they differ from control, with scanpy's t-test.

    Parameters
    ----------
    values : (cells, G) csr float32
        log1p(CP10k).
    condition
        Of each cell; the category "control" is the reference.

    Returns
    -------
    (conditions, order)
        The other categories, and (conditions, G) int64: genes by falling |score|, ties in the order of the data.
    """
    import anndata
    import scanpy

    cells = anndata.AnnData(values, obs=pd.DataFrame({"condition": condition}, index=map(str, range(values.shape[0]))))
    with warnings.catch_warnings():  # scanpy builds its table column by column, and complains of it once per condition
        warnings.simplefilter("ignore", pd.errors.PerformanceWarning)
        scanpy.tl.rank_genes_groups(
            cells, "condition", reference=CONTROL, method="t-test", rankby_abs=True, n_genes=cells.n_vars, use_raw=False
        )
    found = cells.uns["rank_genes_groups"]
    names = [c for c in condition.categories if c != CONTROL]
    order = np.empty((len(names), cells.n_vars), dtype=np.int64)
    for row, name in enumerate(names):
        score = np.empty(cells.n_vars)
        score[found["names"][name].astype(np.int64)] = np.abs(found["scores"][name])
        order[row] = np.argsort(-score, kind="stable")
    return names, order


def top_non_dropout(order: np.ndarray, mean: np.ndarray, control_mean: np.ndarray, top: int = TOP) -> np.ndarray:
    """Return the first `top` of a ranking that are no dropouts: zero after perturbation but not in control."""
    dropout = (mean == 0) & (control_mean != 0)
    return order[~dropout[order]][:top]


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
        Folder; gets conditions.tsv, profiles.npz, de_genes.tsv (the first 20 non-dropout genes of each condition) and
        expression.h5ad (control cells).

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
    pairs = [perturbed_genes(label, chosen.control) for label in adata.obs["label"]]
    adata.obs["genes"] = ["|".join(p) for p in pairs]
    by_genes = adata.obs["genes"].str.replace("|", "+", regex=False)
    sample = by_genes if chosen.merge_orientations else adata.obs["label"]
    adata.obs["sample"] = sample.where(by_genes != "", CONTROL)
    _check_conditions(adata.obs, path, chosen)
    size = adata.obs["sample"].value_counts()
    few = sorted(size.index[size < 2])
    adata = adata[~adata.obs["sample"].isin(few).to_numpy()]
    adata = adata[:, np.asarray(adata.X.getnnz(axis=0) > 0)].copy()

    values = _log_values(adata, path, chosen)
    codes, names = pd.factorize(adata.obs["sample"])
    mean = _group_means(values, codes, len(names))
    control = list(names).index(CONTROL)
    ranked, order = ranked_genes(values, pd.Categorical(adata.obs["sample"], categories=names))
    first = adata.obs.drop_duplicates("sample").set_index("sample")
    conditions = pd.DataFrame(
        {
            "sample": ranked,
            "label": first.loc[ranked, "label"].to_numpy(),
            "genes": first.loc[ranked, "genes"].to_numpy(),
            "cells": size[ranked].to_numpy(),
        }
    )
    mean_conditions = mean[[i for i in range(len(names)) if i != control]]
    de_genes = [
        (name, rank, adata.var_names[gene])
        for name, row, profile in zip(ranked, order, mean_conditions, strict=True)
        for rank, gene in enumerate(top_non_dropout(row, profile, mean[control]))
    ]
    write_tsv(pd.DataFrame(de_genes, columns=["condition", "rank", "gene"]), out / "de_genes.tsv")

    symbols = adata.var_names if chosen.symbol_column is None else adata.var[chosen.symbol_column]
    symbols = np.asarray(symbols, dtype=str)
    id_of = dict(zip(symbols[::-1], adata.var_names[::-1], strict=True))
    perturbed = np.unique([g for pair in conditions["genes"] for g in pair.split("|")])
    Profiles(
        conditions, np.asarray(adata.var_names, dtype=str), symbols, mean_conditions, mean[control],
        perturbed, np.array([id_of.get(g, g) for g in perturbed], dtype=str),
    ).write(out)  # fmt: skip
    unmeasured = [g for g in perturbed.tolist() if g not in id_of]
    _write_controls(adata[(adata.obs["sample"] == CONTROL).to_numpy()], unmeasured, chosen, out / "expression.h5ad")
    return {
        "cells": adata.n_obs,
        "genes": adata.n_vars,
        "conditions": len(conditions),
        "singles": int((~conditions["genes"].str.contains("|", regex=False)).sum()),
        "control_cells": int(size[CONTROL]),
        "perturbed_genes_not_measured": unmeasured,
        "dropped_conditions_with_one_cell": few,
    }


def _read(path: Path, chosen: PrepareOptions) -> anndata.AnnData:
    """Read the cells that are kept; obs gets the column ``label``."""
    adata = read_expression(path, layer=None if chosen.value_kind == "counts" else "X")
    for column, where in ((chosen.condition_column, adata.obs), *((c, adata.obs) for c in chosen.keep),
                          *([(chosen.symbol_column, adata.var)] if chosen.symbol_column else [])):  # fmt: skip
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
    return adata


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


def _write_controls(controls: anndata.AnnData, unmeasured: list[str], chosen: PrepareOptions, path: Path) -> None:
    """Write the control cells, at most `max_control_cells` of them, with unmeasured genes appended as zeros."""
    import anndata

    rows = np.arange(controls.n_obs)
    if len(rows) > chosen.max_control_cells:
        rows = np.sort(rng("control cells").choice(rows, chosen.max_control_cells, replace=False))
    x = sparse.hstack(
        [controls.X[rows], sparse.csr_matrix((len(rows), len(unmeasured)), dtype=np.float32)], format="csr"
    )
    names = [*controls.var_names, *unmeasured]
    anndata.AnnData(
        x,
        obs=pd.DataFrame(index=controls.obs_names[rows].astype(str)),
        var=pd.DataFrame(index=pd.Index(names, dtype=str)),
        uns={"value_kind": chosen.value_kind},
    ).write_h5ad(path, compression="gzip")
