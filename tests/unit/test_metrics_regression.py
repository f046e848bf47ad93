"""Regression metrics against scipy and by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from sclong.benchmark.regression import average_ranks, mse, pearson, pearson_delta, precision_at_k, rmse, spearman
from sclong.seeding import rng


@pytest.fixture
def profiles() -> tuple[np.ndarray, np.ndarray]:
    draw = rng("metrics")
    truth = np.round(draw.normal(size=(30, 50)), 1)  # rounding makes ties
    return truth, np.round(0.5 * truth + draw.normal(size=(30, 50)), 1)


def test_equal_scipy_row_by_row(profiles: tuple[np.ndarray, np.ndarray]) -> None:
    a, b = profiles
    np.testing.assert_allclose(pearson(a, b), [stats.pearsonr(x, y)[0] for x, y in zip(a, b, strict=True)], atol=1e-12)
    np.testing.assert_allclose(
        spearman(a, b), [stats.spearmanr(x, y)[0] for x, y in zip(a, b, strict=True)], atol=1e-12
    )
    np.testing.assert_array_equal(average_ranks(a), stats.rankdata(a, axis=-1) - 1)


def test_one_vector_gives_one_number(profiles: tuple[np.ndarray, np.ndarray]) -> None:
    a, b = profiles
    assert float(spearman(a[0], b[0])) == pytest.approx(stats.spearmanr(a[0], b[0])[0])
    assert float(rmse(a.ravel(), b.ravel())) == pytest.approx(np.sqrt(((a - b) ** 2).mean()))
    np.testing.assert_allclose(mse(a, b), ((a - b) ** 2).mean(1))


def test_constant_vectors_correlate_zero() -> None:
    varying = np.arange(6.0)
    for constant in (np.zeros(6), np.full(6, 0.1), np.full(6, 1e6) + 1e-7):
        for metric in (pearson, spearman):
            assert metric(varying, constant) == 0 and metric(constant, varying) == 0
    assert pearson(1e-12 * varying, varying) == pytest.approx(1)  # small is not constant


def test_pearson_delta_looks_at_changes_only(profiles: tuple[np.ndarray, np.ndarray]) -> None:
    a, _ = profiles
    control = np.linspace(0, 20, 50)
    np.testing.assert_allclose(pearson_delta(control + a, control + 3 * a, control), 1.0)
    np.testing.assert_array_equal(pearson_delta(control + a, np.tile(control, (30, 1)), control), 0.0)


def test_precision_at_k_by_hand() -> None:
    truth = np.array([9, 8, 7, 0, -7, -8, -9.0])
    prediction = np.array([5, 0, 9, 8, -1, -9, -2.0])
    assert precision_at_k(truth, prediction, 2, relevant=3) == 0.5  # highest predicted: 2 and 3; 2 is a positive
    assert precision_at_k(truth, prediction, 2, relevant=2, lowest=True) == 1.0  # lowest predicted: 5 and 6
    assert precision_at_k(truth, prediction, 1, relevant=1, lowest=True) == 0.0
    both = precision_at_k(np.stack([truth, truth]), np.stack([truth, -truth]), 3, relevant=3)
    np.testing.assert_array_equal(both, [1.0, 0.0])
