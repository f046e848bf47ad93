"""Ranking metrics against their definitions, written out."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sclong.benchmark.ranking import auroc, average_precision, grouped_pearson
from sclong.seeding import rng

labelled_scores = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 4)), min_size=2, max_size=25)


def auroc_by_pairs(truth: np.ndarray, scores: np.ndarray) -> float:
    """Share of (positive, negative) pairs in the right order; a tie counts half."""
    pairs = [(p > n) + 0.5 * (p == n) for p in scores[truth == 1] for n in scores[truth == 0]]
    return float(np.mean(pairs))


def precision_by_thresholds(truth: np.ndarray, scores: np.ndarray) -> float:
    """Sum over distinct thresholds of precision x rise of recall."""
    total, before = 0.0, 0.0
    for threshold in sorted(set(scores), reverse=True):
        chosen = scores >= threshold
        recall = truth[chosen].sum() / truth.sum()
        total += truth[chosen].mean() * (recall - before)
        before = recall
    return total


@settings(max_examples=150, deadline=None)
@given(labelled_scores)
def test_against_the_definitions_with_many_ties(rows: list[tuple[int, int]]) -> None:
    truth, scores = np.array(rows).T
    if 0 < truth.sum() < len(truth):
        assert auroc(truth, scores) == pytest.approx(auroc_by_pairs(truth, scores))
    else:
        assert np.isnan(auroc(truth, scores))
    if truth.any():
        assert average_precision(truth, scores) == pytest.approx(precision_by_thresholds(truth, scores))
    else:
        assert np.isnan(average_precision(truth, scores))


def test_floors_and_ceilings() -> None:
    truth = np.array([1, 0, 0, 1, 0])
    assert auroc(truth, truth) == average_precision(truth, truth) == 1.0
    assert auroc(truth, 1 - truth) == 0.0
    assert auroc(truth, np.full(5, 0.3)) == 0.5
    assert average_precision(truth, np.full(5, 0.3)) == pytest.approx(2 / 5)
    assert average_precision(np.ones(3), np.array([0.1, 0.9, 0.5])) == 1.0


def test_potency_makes_the_global_correlation_and_not_the_one_within_drugs() -> None:
    noise = rng("grouped pearson")
    drugs = np.repeat([f"d{i}" for i in range(30)], 20)
    potency = np.repeat(noise.normal(0, 3, 30), 20)
    truth = potency + noise.normal(size=600)
    knows_drugs_only = potency + 0.1 * noise.normal(size=600)
    assert np.corrcoef(truth, knows_drugs_only)[0, 1] > 0.9
    assert abs(grouped_pearson(truth, knows_drugs_only, drugs)) < 0.15
    assert grouped_pearson(truth, truth, drugs) == pytest.approx(1.0)


def test_groups_are_averaged_and_small_ones_left_out() -> None:
    truth = np.array([0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 0, 1, 2, 3], dtype=float)
    groups = np.array(["a"] * 5 + ["b"] * 5 + ["small"] * 4)
    predicted = np.concatenate([truth[:5], -truth[5:10], truth[10:]])
    assert grouped_pearson(truth, predicted, groups) == pytest.approx(0.0)
    assert grouped_pearson(truth, predicted, groups, minimum=4) == pytest.approx(1 / 3)
    order = rng("groups").permutation(14)
    assert grouped_pearson(truth[order], predicted[order], groups[order], minimum=4) == pytest.approx(1 / 3)


def test_a_constant_group_counts_zero_and_no_group_gives_nan() -> None:
    truth = np.arange(10, dtype=float)
    groups = np.repeat(["a", "b"], 5)
    predicted = np.where(groups == "a", truth, 1.0)
    assert grouped_pearson(truth, predicted, groups) == pytest.approx(0.5)
    assert np.isnan(grouped_pearson(truth, truth, groups, minimum=6))
