"""Scores of an inferred gene regulatory network against known directed edges.

All metrics look at *candidate* pairs only: every regulator (row) with every gene (column) except itself. Scores are
used as they are, higher is more likely; a method whose sign means activation or repression hands in absolute values.
The three measures that are somebody else's (``aupr_ratio_published``, ``aupr_ratio_beeline``, ``epr_beeline``) take
weights instead, as their scripts do: the absolute value of a score, 0 where there is no prediction. Tied scores count
by expectation: any order of the genes in a file gives the same number.

All pairs are sorted once (:class:`Ranking`); the rest costs time and memory by the number of true edges only.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

NO_PREDICTION = -1.0
"""Score of a pair of which a method says nothing: below the cosine of any pair of which it says something."""


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
    codes, _ = pd.factorize(np.concatenate([np.asarray(regulators, dtype=str), np.asarray(genes, dtype=str)]))
    codes = codes.astype(np.int32)
    return np.asarray(codes[: len(regulators), None] != codes[None, len(regulators) :])


def positive_rate(truth: np.ndarray, candidates: np.ndarray) -> float:
    """Return the share of true edges among the candidate pairs."""
    return float(truth[candidates].mean())


@dataclass(frozen=True)
class Ranking:
    """True edges among all candidate pairs, by score.

    Attributes
    ----------
    ascending : (pairs,) float
        Scores of all candidate pairs, sorted.
    edges : (edges,) float
        Scores of the true ones.
    """

    ascending: np.ndarray
    edges: np.ndarray

    @classmethod
    def of(cls, truth: np.ndarray, scores: np.ndarray, candidates: np.ndarray) -> Ranking:
        """Sort the candidate pairs.

        Parameters
        ----------
        truth, scores, candidates : (regulators, genes)
            bool, float, bool. At least one candidate pair is true.
        """
        ascending = scores[candidates]
        ascending.sort()
        return cls(ascending, scores[truth & candidates])

    def with_edges(self, scores: np.ndarray) -> Ranking:
        """Return the ranking of the same pairs when others of them are the true edges, which have these `scores`."""
        return Ranking(self.ascending, scores)

    @cached_property
    def blocks(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return ``(hits, above, at_least)`` at each distinct score of a true edge, highest first; float64.

        True edges with this score; pairs with a higher score; pairs with this or a higher score.
        """
        distinct, hits = np.unique(self.edges, return_counts=True)
        distinct, n_pairs = distinct[::-1], len(self.ascending)
        above = n_pairs - np.searchsorted(self.ascending, distinct, side="right")
        at_least = n_pairs - np.searchsorted(self.ascending, distinct, side="left")
        return hits[::-1].astype(np.float64), above.astype(np.float64), at_least.astype(np.float64)

    @property
    def positive_rate(self) -> float:
        """Share of true edges among the pairs."""
        return len(self.edges) / len(self.ascending)

    def average_precision(self) -> float:
        """See :func:`average_precision`."""
        hits, _, at_least = self.blocks
        found = np.cumsum(hits)
        return float((hits * found / at_least).sum() / found[-1])

    def interpolated_area(self) -> float:
        """See :func:`aupr_ratio_beeline`."""
        hits, above, at_least = self.blocks
        found_before = np.cumsum(hits) - hits
        slope = (at_least - above - hits) / hits  # false pairs that come with each true one
        # between two scores x true pairs come with x * slope + offset false ones; the integral of x / (x + false)
        offset = (above - found_before) - slope * found_before
        growth = np.log1p(np.divide(at_least - above, above, out=np.zeros_like(above), where=above > 0))
        area = hits / (1 + slope) - offset / (1 + slope) ** 2 * growth
        return float(area.sum() / hits.sum())

    def early_hits(self) -> float:
        """See :func:`early_hits`."""
        hits, above, at_least = self.blocks
        share = np.clip((hits.sum() - above) / (at_least - above), 0.0, 1.0)
        return float((hits * share).sum())

    def early_precision_beeline(self, digits: int = 6) -> float:
        """See :func:`epr_beeline`; not divided by the positive rate yet."""

        def rounded(score: np.floating) -> float:  # keeps the order: the sorted scores need no rounded copy
            return float(np.round(np.float64(score), digits))

        n_pairs = len(self.ascending)
        first_positive = bisect_right(self.ascending, 0.0, key=rounded)
        if first_positive == n_pairs:
            return 0.0
        threshold = rounded(self.ascending[max(first_positive, n_pairs - len(self.edges))])
        called = n_pairs - bisect_left(self.ascending, threshold, key=rounded)
        return int((np.round(self.edges.astype(np.float64), digits) >= threshold).sum()) / called

    def auroc(self) -> float:
        """See :func:`auroc`."""
        hits, above, at_least = self.blocks
        misses = at_least - above - hits
        misses_below = (len(self.ascending) - hits.sum()) - (at_least - np.cumsum(hits))
        return float((hits * (misses_below + misses / 2)).sum() / (hits.sum() * (len(self.ascending) - hits.sum())))


def weights(scores: np.ndarray) -> np.ndarray:
    """Return how strong a link is, whatever its sign: the absolute score, 0 where it is :data:`NO_PREDICTION`."""
    return np.where(scores == NO_PREDICTION, scores.dtype.type(0), np.abs(scores))


def average_precision(truth: np.ndarray, scores: np.ndarray, candidates: np.ndarray) -> float:
    r"""Area under the precision-recall curve as a step function.

    .. math:: AP = \sum_n (R_n - R_{n-1}) P_n

    over the distinct scores, from high to low; pairs with one score enter together.

    Parameters
    ----------
    truth, scores, candidates : (regulators, genes)
        bool, float, bool. At least one candidate pair is true.
    """
    return Ranking.of(truth, scores, candidates).average_precision()


def aupr_ratio(truth: np.ndarray, scores: np.ndarray, candidates: np.ndarray) -> float:
    """Average precision over that of a random ranking, which is the positive rate.

    1 is chance, ``1 / positive_rate`` is the maximum.

    Parameters
    ----------
    truth, scores, candidates : (regulators, genes)
        bool, float, bool. At least one candidate pair is true.

    References
    ----------
    Shu et al. 2021, DeepSEM, Nature Computational Science 1:491; Pratapa et al. 2020, BEELINE, Nature Methods 17:147.
    """
    return measures(truth, scores, candidates)["aupr_ratio"]


def aupr_ratio_published(truth: np.ndarray, scores: np.ndarray, candidates: np.ndarray) -> float:
    """Average precision of :func:`weights` over the positive rate, with the pair of every regulator with itself last.

    So does DeepSEM's script, which the authors of scLong used: a pair without a score, as a gene with itself, counts as
    scored -1. Such pairs are no edges. Ranked last they leave the average precision as it is and lower the positive
    rate: without negative scores the ratio is that of :func:`aupr_ratio` times genes / (genes - 1).

    Parameters
    ----------
    truth, scores, candidates : (regulators, genes)
        bool, float, bool. At least one candidate pair is true.
    """
    return measures(truth, scores, candidates)["aupr_ratio_published"]


def aupr_ratio_beeline(truth: np.ndarray, scores: np.ndarray, candidates: np.ndarray) -> float:
    """Area under the interpolated precision-recall curve over the positive rate, as BEELINE has it.

    Pairs are ranked by :func:`weights`. Between two of them true and false pairs come in at a constant proportion, and
    precision follows from that (Davis and Goadrich 2006, the R package PRROC); :func:`aupr_ratio` takes steps instead.
    BEELINE's script also judges pairs whose first gene is no regulator; here, as everywhere, only regulators have rows.

    Parameters
    ----------
    truth, scores, candidates : (regulators, genes)
        bool, float, bool. At least one candidate pair is true.
    """
    return measures(truth, scores, candidates)["aupr_ratio_beeline"]


def early_hits(truth: np.ndarray, scores: np.ndarray, candidates: np.ndarray) -> float:
    """Return how many of the |E| highest candidate pairs are true, |E| being the number of true edges.

    Where the border runs through pairs with one score, their true edges count with the share of the pairs that still
    fit: the expectation over random orders of the tie.
    """
    return Ranking.of(truth, scores, candidates).early_hits()


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
    return measures(truth, scores, candidates)["epr"]


def epr_beeline(truth: np.ndarray, scores: np.ndarray, candidates: np.ndarray) -> float:
    """Early precision ratio with BEELINE's treatment of signs and ties.

    :func:`weights` are rounded to six digits, and a weight of 0 is no prediction. Every pair whose weight is at least
    that of the |E|-th pair counts, so ties can give more than |E| pairs (and fewer where fewer are predicted). The
    precision among them is divided by the positive rate. Without ties and negative scores this is :func:`epr`.

    Parameters
    ----------
    truth, scores, candidates : (regulators, genes)
        bool, float, bool. At least one candidate pair is true.
    """
    return measures(truth, scores, candidates)["epr_beeline"]


def auroc(truth: np.ndarray, scores: np.ndarray, candidates: np.ndarray) -> float:
    """Area under the ROC curve: the chance that a true pair outscores a false one, ties counting one half.

    Parameters
    ----------
    truth, scores, candidates : (regulators, genes)
        bool, float, bool. At least one candidate pair is true and one is false.
    """
    return Ranking.of(truth, scores, candidates).auroc()


def measures(
    truth: np.ndarray, scores: np.ndarray, candidates: np.ndarray, ranking: Ranking | None = None
) -> dict[str, float]:
    """Return all measures of this module by name, from one sorting of the pairs.

    Parameters
    ----------
    truth, scores, candidates : (regulators, genes)
        bool, float, bool. At least one candidate pair is true.
    ranking
        Of these arrays, where it has been made already.
    """
    ranking = ranking or Ranking.of(truth, scores, candidates)
    rate = ranking.positive_rate
    by_weight = ranking if ranking.ascending[0] >= 0 else Ranking.of(truth, weights(scores), candidates)
    return {
        "aupr_ratio": ranking.average_precision() / rate,
        "epr": ranking.early_hits() / len(ranking.edges) / rate,
        "auroc": ranking.auroc() if rate < 1 else float("nan"),
        "aupr_ratio_published": by_weight.average_precision() / rate * truth.size / int(candidates.sum()),
        "aupr_ratio_beeline": by_weight.interpolated_area() / rate,
        "epr_beeline": by_weight.early_precision_beeline() / rate,
    }


def relabelled_average_precision(
    truth: np.ndarray,
    scores: np.ndarray,
    ranking: Ranking,
    regulator_columns: np.ndarray,
    generator: np.random.Generator,
    draws: int,
) -> np.ndarray:
    """Return the average precision against networks in which genes have exchanged their names: the null.

    Regulators exchange names among themselves, and so do the other genes. Each such network has the shape of the true
    one, all its degrees included; that it fits the scores is chance.

    Parameters
    ----------
    truth, scores : (regulators, genes)
        bool, float.
    ranking
        Of these; it is not sorted again.
    regulator_columns : (regulators,) int
        Column of each regulator.
    generator, draws
        Where the networks come from, and how many.

    Returns
    -------
    (draws,) float64
    """
    rows, columns = np.nonzero(truth)
    keep = columns != regulator_columns[rows]
    rows, columns = rows[keep], columns[keep]
    others = np.setdiff1d(np.arange(truth.shape[1]), regulator_columns)
    out = np.empty(draws)
    for draw in range(draws):
        new_row, new_column = generator.permutation(truth.shape[0]), np.empty(truth.shape[1], dtype=np.int64)
        new_column[regulator_columns] = regulator_columns[new_row]
        new_column[others] = generator.permutation(others)
        out[draw] = ranking.with_edges(scores[new_row[rows], new_column[columns]]).average_precision()
    return out


def p_value(observed: float, null: np.ndarray) -> float:
    """Return how often chance does as well: (1 + null values at least as high) / (1 + null values)."""
    return float((1 + (null >= observed * (1 - 1e-9)).sum()) / (1 + len(null)))
