"""Scores of an inferred gene regulatory network against known directed edges.

All metrics look at *candidate* pairs only: every regulator (row) with every gene (column) except itself. Scores are
used as they are, higher is more likely; a method whose sign means activation or repression hands in absolute values.
Tied scores count by expectation: any order of the genes in a file gives the same number.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd


@dataclass(frozen=True)
class EdgeList:
    """Directed edges as they count, and what was left out on the way.

    Attributes
    ----------
    regulators, targets : (edges,) str
        One entry per edge, sorted by regulator, then target.
    dropped
        How many rows were left out as: ``self_loops``, ``unknown_genes`` (one of the two genes was not measured),
        ``not_a_regulator``, ``duplicates`` (counted in this order).
    missing_genes
        How many distinct genes of the network were not measured.
    """

    regulators: np.ndarray
    targets: np.ndarray
    dropped: dict[str, int]
    missing_genes: int

    @property
    def regulator_names(self) -> list[str]:
        """Distinct regulators, sorted."""
        return [str(g) for g in np.unique(self.regulators)]

    @property
    def gene_names(self) -> list[str]:
        """Distinct regulators and targets, sorted."""
        return [str(g) for g in np.unique(np.concatenate([self.regulators, self.targets]))]


def clean_edges(
    regulators: Sequence[str],
    targets: Sequence[str],
    measured: Sequence[str],
    allowed_regulators: Sequence[str] | None = None,
) -> EdgeList:
    """Reduce a published network to the directed edges that can be judged.

    A -> B and B -> A are two edges; A -> A is none; an edge that is listed twice is one.

    Parameters
    ----------
    regulators, targets
        One entry per row of the network file.
    measured
        Genes of the expression data.
    allowed_regulators
        Transcription factors; None keeps every regulator of the network.
    """
    edges = pd.DataFrame({"regulator": np.asarray(regulators, dtype=str), "target": np.asarray(targets, dtype=str)})
    missing = set(edges["regulator"]).union(edges["target"]).difference(measured)
    dropped: dict[str, int] = {}

    def keep(table: pd.DataFrame, rows: pd.Series, reason: str) -> pd.DataFrame:
        dropped[reason] = int((~rows).sum())
        return table[rows]

    edges = keep(edges, edges["regulator"] != edges["target"], "self_loops")
    edges = keep(edges, edges["regulator"].isin(measured) & edges["target"].isin(measured), "unknown_genes")
    if allowed_regulators is not None:
        edges = keep(edges, edges["regulator"].isin(allowed_regulators), "not_a_regulator")
    edges = keep(edges, ~edges.duplicated(), "duplicates").sort_values(["regulator", "target"])
    return EdgeList(edges["regulator"].to_numpy(str), edges["target"].to_numpy(str), dropped, len(missing))


def adjacency(edges: EdgeList, regulators: Sequence[str], genes: Sequence[str]) -> np.ndarray:
    """Return the edges as a matrix, (regulators, genes) bool; edges of other genes are not in it."""
    rows = pd.Index(regulators).get_indexer(pd.Index(edges.regulators))
    columns = pd.Index(genes).get_indexer(pd.Index(edges.targets))
    inside = (rows >= 0) & (columns >= 0)
    out = np.zeros((len(regulators), len(genes)), dtype=bool)
    out[rows[inside], columns[inside]] = True
    return out


def candidate_pairs(regulators: Sequence[str], genes: Sequence[str], *, include_self: bool = False) -> np.ndarray:
    """Return which pairs are judged, (regulators, genes) bool: all, or all but a gene with itself."""
    if include_self:
        return np.ones((len(regulators), len(genes)), dtype=bool)
    return np.asarray(regulators, dtype=str)[:, None] != np.asarray(genes, dtype=str)[None, :]


def positive_rate(truth: np.ndarray, candidates: np.ndarray) -> float:
    """Return the share of true edges among the candidate pairs."""
    return float(truth[candidates].mean())


def average_precision(truth: np.ndarray, scores: np.ndarray, candidates: np.ndarray) -> float:
    r"""Area under the precision-recall curve as a step function.

    .. math:: AP = \sum_n (R_n - R_{n-1}) P_n

    over the distinct scores, from high to low; pairs with one score enter together.

    Parameters
    ----------
    truth, scores, candidates : (regulators, genes)
        bool, float, bool. At least one candidate pair is true.
    """
    hits, sizes = _tied_blocks(truth[candidates], scores[candidates])
    found = np.cumsum(hits)
    return float((hits * found / np.cumsum(sizes)).sum() / found[-1])


def aupr_ratio(truth: np.ndarray, scores: np.ndarray, candidates: np.ndarray) -> float:
    """Average precision over that of a random ranking, which is the positive rate.

    1 is chance, ``1 / positive_rate`` is the maximum. The published evaluation (DeepSEM's script, which scLong's
    authors used) also counts the pair of every regulator with itself; with `candidates` from
    ``candidate_pairs(..., include_self=True)`` this function does so too. Such pairs are no edges: they lower the
    positive rate, and so raise the ratio of a method that scores them low.

    Parameters
    ----------
    truth, scores, candidates : (regulators, genes)
        bool, float, bool. At least one candidate pair is true.

    References
    ----------
    Shu et al. 2021, DeepSEM, Nature Computational Science 1:491; Pratapa et al. 2020, BEELINE, Nature Methods 17:147.
    """
    return average_precision(truth, scores, candidates) / positive_rate(truth, candidates)


def early_hits(truth: np.ndarray, scores: np.ndarray, candidates: np.ndarray) -> float:
    """Return how many of the |E| highest candidate pairs are true, |E| being the number of true edges.

    Where the border runs through pairs with one score, their true edges count with the share of the pairs that still
    fit: the expectation over random orders of the tie.
    """
    hits, sizes = _tied_blocks(truth[candidates], scores[candidates])
    wanted = hits.sum()
    before = np.cumsum(sizes) - sizes
    share = np.clip((wanted - before) / sizes, 0.0, 1.0)
    return float((hits * share).sum())


def epr(truth: np.ndarray, scores: np.ndarray, candidates: np.ndarray) -> float:
    r"""Early precision ratio: precision among the top |E| pairs over that of a random ranking.

    .. math:: EPR = \frac{overlap}{|E|^2 / (|TF| \cdot |G| - |TF|)}

    where the denominator's denominator is the number of candidate pairs without self pairs. 1 is chance,
    ``1 / positive_rate`` is the maximum.

    Parameters
    ----------
    truth, scores, candidates : (regulators, genes)
        bool, float, bool. At least one candidate pair is true.

    References
    ----------
    Pratapa et al. 2020, BEELINE, Nature Methods 17:147 (early precision ratio).
    """
    edges = int(truth[candidates].sum())
    return early_hits(truth, scores, candidates) * int(candidates.sum()) / edges**2


def auroc(truth: np.ndarray, scores: np.ndarray, candidates: np.ndarray) -> float:
    """Area under the ROC curve: the chance that a true pair outscores a false one, ties counting one half.

    Parameters
    ----------
    truth, scores, candidates : (regulators, genes)
        bool, float, bool. At least one candidate pair is true and one is false.
    """
    hits, sizes = _tied_blocks(truth[candidates], scores[candidates])
    misses = sizes - hits
    misses_below = misses.sum() - np.cumsum(misses)
    return float((hits * (misses_below + misses / 2)).sum() / (hits.sum() * misses.sum()))


def _tied_blocks(truth: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Count true pairs and all pairs at each distinct score, highest score first; float64."""
    distinct, block = np.unique(scores, return_inverse=True)
    hits = np.bincount(block, weights=truth.astype(np.float64), minlength=len(distinct))
    sizes = np.bincount(block, minlength=len(distinct)).astype(np.float64)
    return hits[::-1], sizes[::-1]
