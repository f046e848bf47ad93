"""Metrics of perturbation responses, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from sclong.seeding import rng
from sclong.tasks.genetic_perturbation.metrics import (
    cosine_distances,
    direction_accuracy,
    discrimination,
    l1_distances,
    pearson_around,
)

CONTROL = np.array([1.0, 1.0, 1.0, 1.0])


def test_direction_accuracy_by_hand() -> None:
    truth = np.array([2.0, 0.0, 3.0, 1.0])  # up, down, up, unchanged (left out)
    assert direction_accuracy(truth, np.array([9.0, 0.5, 0.9, 5.0]), CONTROL) == pytest.approx(2 / 3)
    assert direction_accuracy(truth, CONTROL, CONTROL) == 0  # no change is no sign
    assert direction_accuracy(truth, truth, CONTROL) == 1
    assert np.isnan(direction_accuracy(CONTROL, truth, CONTROL))


def test_pearson_around_by_hand() -> None:
    centre = np.array([1.0, 2.0, 3.0])
    truth, prediction = np.array([2.0, 2.0, 2.0]), np.array([3.0, 3.0, 3.0])
    assert pearson_around(truth, prediction, centre) == pytest.approx(1)
    assert pearson_around(truth, np.array([1.0, 3.0, 3.0]), centre) == pytest.approx(0)
    np.testing.assert_allclose(
        pearson_around(np.stack([truth, truth]), np.array([[0.0, 2.0, 4.0], prediction]), centre), [-1, 1]
    )


def test_the_centre_itself_scores_nothing_even_rounded() -> None:
    draw = rng("centre")
    centre, truth = draw.random(50), draw.random(50)
    assert pearson_around(truth, centre.astype(np.float32), centre) == 0
    assert pearson_around(truth, centre + 1e-3 * draw.normal(size=50), centre) != 0


def test_distances_by_hand() -> None:
    prediction, truth = np.array([[0.0, 0.0], [3.0, 4.0]]), np.array([[1.0, 1.0], [3.0, 0.0]])
    np.testing.assert_allclose(l1_distances(prediction, truth), [[1, 1.5], [2.5, 2]])
    np.testing.assert_allclose(cosine_distances(prediction, truth), [[1, 1], [1 - 7 / (5 * np.sqrt(2)), 1 - 0.6]])


def test_discrimination_by_hand() -> None:
    distances = np.array([[1.0, 2.0, 3.0], [1.0, 1.0, 0.5], [3.0, 3.0, 3.0]])
    np.testing.assert_allclose(discrimination(distances, ["A", "B", "C"]), [1, 0.25, 0.5])


def test_discrimination_does_not_compare_conditions_of_the_same_genes() -> None:
    distances = np.array([[1.0, 0.5, 3.0], [2.0, 1.0, 0.5], [3.0, 3.0, 3.0]])
    np.testing.assert_allclose(discrimination(distances, ["A", "A", "B"]), [1, 0, 0.5])
    assert np.isnan(discrimination(np.ones((2, 2)), ["A", "A"])).all()


@pytest.mark.parametrize("distances", [l1_distances, cosine_distances])
def test_one_answer_to_everything_discriminates_nothing(distances) -> None:
    draw = rng("discrimination")
    truth = draw.normal(size=(21, 30))
    genes = [f"G{i}" for i in range(21)]
    same = np.tile(draw.normal(size=30), (21, 1))
    assert discrimination(distances(same, truth), genes).mean() == pytest.approx(0.5)
    np.testing.assert_array_equal(discrimination(distances(truth, truth), genes), 1)
    assert discrimination(distances(np.zeros_like(truth), truth), genes).mean() == pytest.approx(0.5)
