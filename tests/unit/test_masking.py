from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sclong.train.masking import MASK_VALUE, mask_values


def cells(n_cells: int, n_genes: int, density: float, seed: int) -> torch.Tensor:
    random = np.random.default_rng(seed)
    values = random.gamma(2.0, 1.0, (n_cells, n_genes + 1)) * (random.random((n_cells, n_genes + 1)) < density)
    values[:, -1] = 0
    return torch.tensor(values, dtype=torch.float32)


@settings(max_examples=40, deadline=None)
@given(
    n_cells=st.integers(1, 6),
    n_genes=st.integers(1, 90),
    density=st.floats(0, 1),
    mask=st.floats(0.01, 0.99),
    replace=st.floats(0.01, 1),
    seed=st.integers(0, 2**40),
)
def test_rules(n_cells: int, n_genes: int, density: float, mask: float, replace: float, seed: int) -> None:
    values = cells(n_cells, n_genes, density, seed)
    before = values.clone()
    masked, labels, chosen, replaced = mask_values(values, seed, 7, mask, replace)

    assert torch.equal(values, before), "the input is left alone"
    for cell in range(n_cells):
        m = int((values[cell] != 0).sum())
        assert int(chosen[cell].sum()) == math.ceil(mask * m - 1e-9)
    assert not (chosen & (values == 0)).any(), "zeros and PAD are never chosen"
    assert not (replaced & ~chosen).any()
    assert (masked[replaced] == MASK_VALUE).all() and torch.equal(masked[~replaced], values[~replaced])
    assert torch.equal(labels[chosen], values[chosen]) and (labels[~chosen] == MASK_VALUE).all()


@pytest.mark.parametrize(("m", "expected"), [(101, 16), (3, 1), (1, 1), (20, 3), (100, 15), (0, 0)])
def test_count_of_the_published_examples(m: int, expected: int) -> None:
    values = torch.zeros(1, 121)
    values[0, :m] = 1.0
    assert int(mask_values(values, 0, 0, 0.15, 0.9)[2].sum()) == expected


def test_decimal_fractions_are_exact() -> None:
    for fraction, m in [(0.1, k) for k in range(10, 2000, 10)] + [(0.07, 100), (0.29, 100), (0.57, 100)]:
        assert int(mask_values(torch.ones(1, m), 0, 0, fraction, 0.9)[2].sum()) == round(fraction * m)


def test_already_hidden_entries_are_not_chosen() -> None:
    values = torch.ones(1, 50)
    values[0, :25] = MASK_VALUE
    chosen = mask_values(values, 0, 0, 0.9, 0.9)[2]
    assert not chosen[0, :25].any()
    assert int(chosen.sum()) == math.ceil(0.9 * 25)


def test_is_a_function_of_seed_and_step_only() -> None:
    values = cells(4, 300, 0.4, 0)
    first = mask_values(values, 1, 2, 0.15, 0.9)
    torch.manual_seed(99)
    again = mask_values(values, 1, 2, 0.15, 0.9)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[2], mask_values(values, 1, 3, 0.15, 0.9)[2])
    assert not torch.equal(first[2], mask_values(values, 2, 2, 0.15, 0.9)[2])


def test_uniform_without_regard_to_position_or_value() -> None:
    values = torch.zeros(2000, 31)
    values[:, :20] = torch.arange(1.0, 21.0)
    _, _, chosen, replaced = mask_values(values, 5, 0, 0.15, 0.9)
    share = chosen[:, :20].double().mean(0)
    sd = math.sqrt(0.15 * 0.85 / 2000)
    assert ((share - 0.15).abs() < 5 * sd).all()
    assert abs(float(replaced.sum() / chosen.sum()) - 0.9) < 5 * math.sqrt(0.09 / 6000)


def test_cell_keeps_its_mask_in_whatever_part_of_the_batch() -> None:
    """Ranks and micro-batches are parts of the batch: a cell's place in the whole names its draw."""
    values = cells(7, 200, 0.4, 3)
    whole = mask_values(values, 1, 2, 0.15, 0.9, zero_fraction=0.1)
    for places in ([0, 1, 2], [3, 4, 5, 6], [5], [6, 0]):
        part = mask_values(values[places], 1, 2, 0.15, 0.9, zero_fraction=0.1, places=places)
        assert all(torch.equal(p, w[places]) for p, w in zip(part, whole, strict=True))
    same = torch.cat([values[:1], values[:1]])
    first, second = mask_values(same, 1, 2, 0.15, 0.9)[2]
    assert not torch.equal(first, second), "equal cells in two places are masked apart"


@settings(max_examples=30, deadline=None)
@given(n_genes=st.integers(1, 90), density=st.floats(0, 1), zeros=st.floats(0.01, 0.9), seed=st.integers(0, 2**40))
def test_zeros_are_chosen_besides_and_always_hidden(n_genes: int, density: float, zeros: float, seed: int) -> None:
    values = cells(3, n_genes, density, seed)
    masked, labels, chosen, replaced = mask_values(values, seed, 1, 0.15, 0.9, zero_fraction=zeros)
    without = mask_values(values, seed, 1, 0.15, 0.9)
    is_zero = values == 0
    assert torch.equal(chosen & ~is_zero, without[2]) and torch.equal(replaced & ~is_zero, without[3])
    assert torch.equal(chosen & is_zero, replaced & is_zero) and not chosen[:, -1].any(), "PAD is no zero"
    for cell in range(3):
        count = int(is_zero[cell, :-1].sum())
        assert int((chosen & is_zero)[cell].sum()) == math.ceil(zeros * count - 1e-9)
    assert torch.equal(labels == 0, chosen & is_zero) and (masked[replaced] == MASK_VALUE).all()
