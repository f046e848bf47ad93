"""Which genes a perturbation changes: rankings, and the sets of genes that the published evaluation uses.

Definitions are those of GEARS' data processing (Roohani, Huang and Leskovec 2024): a gene of a condition is *non-zero*
when its mean over the condition's cells is not 0; a *true zero* when its mean is 0 in the condition and in control; and
*non-dropout* when it is one of the two. The rest are dropouts: expressed in control, never in the condition.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse

from sclong.errors import InputDataError, listing

CONTROL = "control"
TOP = 20
PUBLISHED_KEYS = (
    "rank_genes_groups_cov_all",
    "non_zeros_gene_idx",
    "non_dropout_gene_idx",
    "top_non_dropout_de_20",
    "top_non_zero_de_20",
)


@dataclass(frozen=True)
class GeneSets:
    """Rankings and sets of genes of every condition, in the order of ``conditions.tsv``.

    Attributes
    ----------
    order : (C, G) int32
        Genes (columns of the profiles) by falling |t|.
    non_zero, non_dropout : (C, G) bool
    top_non_dropout, top_non_zero : (C, 20) int32
        First ranked genes inside each set; -1 where there are fewer.
    """

    order: np.ndarray
    non_zero: np.ndarray
    non_dropout: np.ndarray
    top_non_dropout: np.ndarray
    top_non_zero: np.ndarray

    @classmethod
    def computed(cls, order: np.ndarray, mean: np.ndarray, control_mean: np.ndarray) -> GeneSets:
        """Apply the definitions of the module.

        Parameters
        ----------
        order : (C, G) int
        mean : (C, G) float
        control_mean : (G,) float
        """
        non_zero = mean != 0
        non_dropout = non_zero | ((mean == 0) & (control_mean == 0))
        top_non_dropout, top_non_zero = (first_ranked(order, kept) for kept in (non_dropout, non_zero))
        return cls(order.astype(np.int32), non_zero, non_dropout, top_non_dropout, top_non_zero)

    def top_ranked(self, row: int, k: int = TOP) -> np.ndarray:
        """Return the first `k` genes of a condition's whole ranking, ascending: the published ``de_idx``."""
        return np.sort(self.order[row, :k]).astype(np.int64)

    def non_dropout_de(self, row: int) -> np.ndarray:
        """Return the first 20 ranked non-dropout genes of a condition, best first."""
        top = self.top_non_dropout[row]
        return top[top >= 0].astype(np.int64)

    def write(self, folder: Path) -> None:
        """Write gene_sets.npz."""
        np.savez_compressed(folder / "gene_sets.npz", **vars(self))

    @classmethod
    def read(cls, folder: Path) -> GeneSets:
        """Read what :meth:`write` wrote."""
        with np.load(folder / "gene_sets.npz", allow_pickle=False) as arrays:
            return cls(**{f.name: arrays[f.name] for f in fields(cls)})


def first_ranked(order: np.ndarray, kept: np.ndarray, top: int = TOP) -> np.ndarray:
    """Return the first `top` kept genes of each ranking, (C, top) int32, -1 where there are fewer.

    Parameters
    ----------
    order : (C, G) int
    kept : (C, G) bool
        By gene, not by rank.
    """
    found = np.full((len(order), top), -1, dtype=np.int32)
    for row, genes in enumerate(order):
        first = genes[kept[row, genes]][:top]
        found[row, : len(first)] = first
    return found


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


def read_published(path: Path) -> dict[str, Any]:
    """Return the fields of ``uns`` that GEARS' processing writes, by key; empty when the ranking is not there.

    Returns
    -------
    dict
        Key (those of `PUBLISHED_KEYS` that the file has) -> condition name -> array of gene names or positions.
    """
    import h5py
    from anndata.io import read_elem

    with h5py.File(path) as file:
        uns = file.get("uns", {})
        if PUBLISHED_KEYS[0] not in uns:
            return {}
        return {key: read_elem(uns[key]) for key in PUBLISHED_KEYS if key in uns}


def published_sets(
    published: dict[str, Any], names: Sequence[str], genes: Sequence[str], all_genes: Sequence[str], own: GeneSets
) -> GeneSets:
    """Put the published rankings and sets in the order of a data set.

    Parameters
    ----------
    published
        Of :func:`read_published`.
    names
        Condition names, one per condition.
    genes : (G,)
        Genes that are kept.
    all_genes
        Genes of the file: what published positions count.
    own
        Computed sets: what stands for a field that the file lacks, and, after the published ranking, for genes that
        it leaves out.

    Raises
    ------
    InputDataError
        When a condition has no published list, or a list holds genes that the file lacks.
    """
    position = {g: i for i, g in reversed(list(enumerate(genes)))}
    kept = pd.Index(genes).get_indexer(pd.Index(all_genes))

    def lists(key: str) -> list[np.ndarray]:
        table = published[key]
        lacking = [n for n in names if n not in table]
        if lacking:
            raise InputDataError(
                f"uns[{key!r}] has no list for {len(lacking)} conditions: {listing(lacking)}",
                "a list for every condition name of the file",
                "write gene_lists: computed in the card's options",
            )
        return [np.asarray(table[n]) for n in names]

    def named(key: str, row: np.ndarray) -> np.ndarray:
        unknown = [g for g in map(str, row) if g not in position and g not in all_genes_set]
        if unknown:
            raise InputDataError(
                f"uns[{key!r}] names genes that are not in the file: {listing(unknown)}",
                "gene names as in var_names",
                "write gene_lists: computed in the card's options",
            )
        return np.array([position[g] for g in map(str, row) if g in position], dtype=np.int32)

    def members(key: str, computed: np.ndarray) -> np.ndarray:
        if key not in published:
            return computed
        out = np.zeros_like(computed)
        for row, places in enumerate(lists(key)):
            places = kept[places.astype(np.int64)]
            out[row, places[places >= 0]] = True
        return out

    def top(key: str, allowed: np.ndarray) -> np.ndarray:
        if key not in published:
            return first_ranked(order, allowed)
        out = np.full((len(names), TOP), -1, dtype=np.int32)
        for row, genes_of in enumerate(lists(key)):
            first = named(key, genes_of)[:TOP]
            out[row, : len(first)] = first
        return out

    all_genes_set = set(all_genes)
    order = np.empty_like(own.order)
    for row, ranking in enumerate(lists(PUBLISHED_KEYS[0])):
        first = named(PUBLISHED_KEYS[0], ranking)
        order[row] = np.concatenate([first, own.order[row][~np.isin(own.order[row], first)]])
    non_zero = members("non_zeros_gene_idx", own.non_zero)
    non_dropout = members("non_dropout_gene_idx", own.non_dropout)
    return GeneSets(
        order, non_zero, non_dropout, top("top_non_dropout_de_20", non_dropout), top("top_non_zero_de_20", non_zero)
    )


def shared_share(first: np.ndarray, second: np.ndarray) -> float:
    """Return the mean share of genes that two tables of first genes, (C, k) with -1 for none, have in common."""
    pairs = zip(first, second, strict=True)
    shares = [len(np.intersect1d(a[a >= 0], b[b >= 0])) / max((a >= 0).sum(), 1) for a, b in pairs]
    return float(np.mean(shares))
