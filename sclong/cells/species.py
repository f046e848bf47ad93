"""Cells of another species: obs says so, or their genes do."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import sparse

from sclong.errors import InputDataError, listing

HUMAN = {
    "homo sapiens",
    "human",
    "h sapiens",
    "hsapiens",
    "homo sapiens (human)",
    "ncbitaxon:9606",
    "9606",
    "hs",
    "grch37",
    "grch38",
    "hg19",
    "hg38",
}
UNKNOWN = {"", "nan", "none", "na", "unknown", "<na>"}
ORGANISM_COLUMNS = ("organism", "organism_ontology_term_id", "species", "species_ontology_term_id", "organism_name")
FOREIGN_GENE = re.compile(
    r"(?:GRCm3[89]|mm10|mm9|mm39|GRCm39|rn6|rn7|GRCz11|Mmul_10)_+|(?:\w+?_+)?ENS[A-Z]{3,}G\d{11}|FBgn\d{7}|WBGene\d{8}"
    r"|[A-Z][a-z]{2,}[a-z0-9]*$|Gm\d{3,}$|\w+Rik$"  # symbols as mouse genes have
)
HIGHEST_SHARE = 0.5
LEAST_SHARE_OF_GENES = 0.01


def organism_columns(columns: Sequence[str]) -> list[str]:
    """Return the columns of obs that name an organism."""
    return [c for c in columns if str(c).lower() in ORGANISM_COLUMNS]


def require_human(obs: pd.DataFrame, where: str, table: str = "obs") -> None:
    """Check that no column of obs that names an organism names another than human.

    Parameters
    ----------
    obs : (cells, any)
        The cells that shall be used.
    where
        The file, for messages.
    table
        "obs", or "uns" for what is said of all cells.

    Raises
    ------
    InputDataError
        Cells of another species.
    """
    for column in organism_columns(list(obs.columns)):
        others = [v for v in obs[column].unique() if _key(v) not in HUMAN | UNKNOWN]
        if others:
            n_others = int(obs[column].isin(others).sum())
            raise InputDataError(
                f"{where}: {table}[{column!r}] says {listing(others)} ({n_others:,} of {len(obs):,} cells)",
                "human cells",
                f"leave the others out: adata[adata.obs[{column!r}] == 'Homo sapiens'] (as it is written in your "
                f"file); in a corpus, keep_cells: \"{column} == 'Homo sapiens'\"",
            )


def _key(name: object) -> str:
    return str(name).strip().lower().replace("_", " ").replace(".", "")


def foreign_genes(names: Sequence[str]) -> np.ndarray:
    """Return which genes are of another species by the names that are read, (genes,) bool."""
    return np.array([FOREIGN_GENE.match(str(name)) is not None for name in names], dtype=bool)


def require_human_counts(counts: sparse.csr_matrix, foreign: np.ndarray, where: str, first: int = 0) -> None:
    """Check that no cell has most of its counts in genes of another species.

    Parameters
    ----------
    counts : (cells, genes)
    foreign : (genes,) bool
        What :func:`foreign_genes` returned; nothing is checked where less than 1 % of the genes are foreign.
    where, first
        The file, and the number of the first of these cells in it, for messages.

    Raises
    ------
    InputDataError
        Cells of another species.
    """
    if foreign.mean() < LEAST_SHARE_OF_GENES:
        return
    theirs = counts @ foreign.astype(np.float64)
    totals = np.asarray(counts.sum(axis=1, dtype=np.float64)).ravel()
    wrong = np.flatnonzero(theirs > HIGHEST_SHARE * totals)
    if len(wrong):
        raise InputDataError(
            f"{where}: {len(wrong):,} of {counts.shape[0]:,} cells have most of their counts in genes of another "
            f"species, the first in row {first + wrong[0]:,} ({theirs[wrong[0]]:,.0f} of {totals[wrong[0]]:,.0f})",
            "human cells",
            "leave those cells out before (what human counts they have is ambient RNA)",
        )
