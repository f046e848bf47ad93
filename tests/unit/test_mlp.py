"""The small network: learns, is seeded, chooses on the validation part only."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sclong.benchmark.mlp import fit_predict_mlp
from sclong.errors import InputDataError
from sclong.seeding import rng

N, F = 240, 6


@pytest.fixture
def data() -> tuple[np.ndarray, np.ndarray]:
    draw = rng("test mlp")
    x = draw.normal(size=(N, F)) * [1, 1, 1, 100, 0.01, 0] + [0, 0, 0, 500, 0, 3]  # scales differ, one is constant
    signal = x[:, 0] * 2 + np.abs(x[:, 1]) + (x[:, 3] - 500) / 100
    y = np.column_stack([signal, 10 - 0.3 * signal, np.full(N, 7.0)]) + 0.05 * draw.normal(size=(N, 1)) * [1, 1, 0]
    return x, y


def fit(x: np.ndarray, y: np.ndarray, seed: int = 0, **options: object) -> np.ndarray:
    return fit_predict_mlp(x[:160], y[:160], x[160:200], y[160:200], x[200:], seed, **options)


def test_learns_in_the_units_of_the_targets(data: tuple[np.ndarray, np.ndarray]) -> None:
    x, y = data
    answer = fit(x, y, dropout=0.0)
    assert answer.shape == (40, 3) and answer.dtype == np.float32
    residual = ((answer - y[200:]) ** 2).mean(0) / np.maximum(y[200:].var(0), 1)
    assert residual[0] < 0.1 and residual[1] < 0.2
    np.testing.assert_array_equal(answer[:, 2], 7.0)  # a constant target stays what it is


def test_probabilities(data: tuple[np.ndarray, np.ndarray]) -> None:
    x, y = data
    label = (y[:, 0] > np.median(y[:, 0])).astype(int)
    answer = fit(x, label, loss="bce")
    assert answer.shape == (40, 1) and ((answer >= 0) & (answer <= 1)).all()
    assert ((answer[:, 0] > 0.5) == label[200:]).mean() > 0.85


def test_seed_decides_and_global_state_stays(data: tuple[np.ndarray, np.ndarray]) -> None:
    x, y = data
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    first = fit(x, y, seed=1, epochs=5)
    assert torch.rand(1) == expected
    np.testing.assert_array_equal(first, fit(x, y, seed=1, epochs=5))
    assert not np.allclose(first, fit(x, y, seed=2, epochs=5))


def test_inputs_that_carry_nothing_give_the_training_mean() -> None:
    draw = rng("noise")
    x, y = draw.normal(size=(90, 4)), draw.normal(size=(90, 2)) + 5
    constant = np.zeros_like(x)
    np.testing.assert_allclose(
        fit_predict_mlp(constant[:60], y[:60], constant[60:75], y[60:75], constant[75:], 0, epochs=0),
        np.repeat(y[:60].mean(0, keepdims=True), 15, axis=0),
        rtol=1e-5,
    )
    labels = (draw.random(90) < 0.25).astype(float)
    rate = fit_predict_mlp(x[:60], labels[:60], x[60:75], labels[60:75], x[75:], 0, loss="bce", epochs=0)
    np.testing.assert_allclose(rate, labels[:60].mean(), rtol=1e-4)


def test_epoch_is_chosen_on_validation(data: tuple[np.ndarray, np.ndarray]) -> None:
    """With validation targets that contradict training, every step makes it worse: the start is kept."""
    x, y = data
    x_train, y_train = x[:160, :1], y[:160, :1]
    answer = fit_predict_mlp(x_train, y_train, x_train, 2 * y_train.mean() - y_train, x[200:, :1], 0)
    assert np.allclose(answer, y_train.mean(), atol=1e-4)


def test_empty_validation_is_an_error(data: tuple[np.ndarray, np.ndarray]) -> None:
    x, y = data
    with pytest.raises(InputDataError, match="validation part has no samples"):
        fit_predict_mlp(x, y, x[:0], y[:0], x, 0)
