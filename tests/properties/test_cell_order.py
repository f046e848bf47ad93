"""Order of cells: every epoch shows every training cell once, over all processes, whatever their number."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from sclong.train.dataset import CellOrder, shuffled
from sclong.train.loader import share_of_rank


@given(n=st.integers(1, 3000), key=st.integers(0, 2**64 - 1))
@settings(max_examples=80, deadline=None)
def test_a_shuffle_is_a_permutation(n: int, key: int) -> None:
    assert sorted(shuffled(np.arange(n), n, key).tolist()) == list(range(n))


@given(n=st.integers(1, 3000), key=st.integers(0, 2**64 - 1), seed=st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_places_may_be_asked_for_in_any_order(n: int, key: int, seed: int) -> None:
    places = np.random.default_rng(seed).integers(0, n, 50)
    assert (shuffled(places, n, key) == shuffled(np.arange(n), n, key)[places]).all()


def test_a_shuffle_looks_shuffled() -> None:
    """Neighbours are parted, places are taken evenly, and keys differ: as numpy's permutations, by the same numbers."""
    n = 10_007
    ours = np.array([shuffled(np.arange(n), n, key) for key in range(50)])
    random = np.random.default_rng(0)
    numpys = np.array([random.permutation(n) for _ in range(50)])
    for table, name in ((ours, "ours"), (numpys, "numpy's")):
        step = np.abs(np.diff(table, axis=1)).mean() / n
        assert abs(step - 1 / 3) < 0.005, name
        assert abs(np.corrcoef(table[0], table[1])[0, 1]) < 0.04, name
        assert np.abs(np.corrcoef(table, np.arange(n))[-1, :-1]).max() < 0.045, name
        halves = (table[:, : n // 2] < n // 2).mean(axis=1)
        assert np.abs(halves - 0.5).max() < 0.03, name


@given(
    n=st.integers(2, 60),
    each=st.integers(1, 5),
    world_size=st.integers(1, 6),
    seed=st.integers(0, 5),
)
@settings(max_examples=60, deadline=None)
def test_no_cell_is_lost_or_doubled_over_processes(n: int, each: int, world_size: int, seed: int) -> None:
    rows = np.arange(100, 100 + n)
    order = CellOrder(rows, each * world_size, seed)
    steps = -(-3 * n // (each * world_size))
    stream = np.concatenate(
        [
            order.cells(step)[share_of_rank(each * world_size, rank, world_size)]
            for step in range(1, steps + 1)
            for rank in range(world_size)
        ]
    )
    for epoch in range(3):
        assert sorted(stream[epoch * n : (epoch + 1) * n].tolist()) == rows.tolist()


def test_few_cells_are_shuffled_evenly() -> None:
    """Over many keys, the first two places take every pair of 11 cells equally often (chi-square; 109 degrees)."""
    n, keys = 11, np.random.default_rng(2).integers(0, 2**63, 5000)
    first_two = np.array([shuffled(np.arange(2), n, int(key)) for key in keys])
    found = np.zeros((n, n))
    np.add.at(found, (first_two[:, 0], first_two[:, 1]), 1)
    expected = len(keys) / (n * (n - 1))
    chi_square = ((found - expected) ** 2 / expected)[~np.eye(n, dtype=bool)].sum()
    assert chi_square / (n * (n - 1) - 1) < 1.5
