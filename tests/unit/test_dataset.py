from __future__ import annotations

from collections import Counter
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
from toy_training import CELLS_PER_DONOR, N_DONORS, N_GENES, toy_corpus

from sclong.errors import InputDataError
from sclong.train.dataset import CellOrder, PretrainingCells, held_out_names


def test_steps_are_known_without_walking_there() -> None:
    rows = np.arange(100, 137)
    walked = [CellOrder(rows, 8, 1).cells(step) for step in range(1, 30)]
    for step in (29, 3, 17):
        assert np.array_equal(CellOrder(rows, 8, 1).cells(step), walked[step - 1])


def test_every_epoch_shows_every_cell_once_in_another_order() -> None:
    rows = np.arange(100, 137)
    order = CellOrder(rows, 8, 1)
    stream = np.concatenate([order.cells(step) for step in range(1, 38)])
    epochs = stream.reshape(8, 37)
    assert all(np.array_equal(np.sort(epoch), rows) for epoch in epochs)
    assert not np.array_equal(epochs[0], epochs[1])
    assert not np.array_equal(CellOrder(rows, 8, 2).cells(1), order.cells(1))


def test_a_step_may_be_longer_than_an_epoch() -> None:
    cells = CellOrder(np.arange(5), 12, 0).cells(1)
    assert len(cells) == 12
    assert sorted(Counter(cells).values()) == [2, 2, 2, 3, 3]


def test_held_out_names_follow_seed_and_share() -> None:
    donors = {f"d{i}": 20 for i in range(40)}
    chosen = held_out_names(donors, 0.1, 0)
    assert len(chosen) == 4 and chosen < set(donors)
    assert held_out_names(dict(reversed(donors.items())), 0.1, 0) == chosen, "the order of donors does not matter"
    assert held_out_names(donors, 0.1, 1) != chosen
    assert held_out_names({"a": 9, "b": 5, "c": 7}, 0.01, 0) == {"b"}, "at least one: the smallest comes nearest"
    assert len(held_out_names({"a": 1, "b": 1}, 0.99, 0)) == 1, "never all"


@pytest.mark.parametrize("seed", range(3))
def test_a_share_of_the_cells_is_held_out_not_of_the_donors(seed: int) -> None:
    sizes = {"whole source": 7000, "big": 2500, **{f"d{i}": n for i, n in enumerate([400, 330, 260, 170, 90, 50])}}
    total = sum(sizes.values())
    subsets = [sum(part) for k in range(1, len(sizes)) for part in combinations(sizes.values(), k)]
    for share in (0.05, 0.1, 0.2, 0.3):
        held_out = sum(sizes[name] for name in held_out_names(sizes, share, seed))
        nearest = min(abs(n - share * total) for n in subsets)
        assert abs(held_out - share * total) == pytest.approx(nearest), "what trying all subsets finds"


def test_one_donor_cannot_be_held_out() -> None:
    with pytest.raises(InputDataError, match="donor_column"):
        held_out_names({"a": 5}, 0.1, 0)


def test_cells_of_held_out_names_are_never_trained_on(tmp_path: Path) -> None:
    store, _, _ = toy_corpus(tmp_path)
    for seed in range(5):
        cells = PretrainingCells(store, batch_size=8, held_out_fraction=0.34, validation_cells=15, seed=seed)
        donor = store.obs["donor"].to_numpy()
        assert len(cells.donors) == 2
        assert set(donor[cells.validation]) <= cells.donors
        assert not set(donor[cells.order.rows]) & cells.donors
        assert len(cells.order.rows) == (N_DONORS - 2) * CELLS_PER_DONOR
        assert len(cells.validation) == 15 == len(set(cells.validation))
        again = PretrainingCells(store, batch_size=16, held_out_fraction=0.34, validation_cells=15, seed=seed)
        assert np.array_equal(again.validation, cells.validation)


def test_a_donor_in_two_sources_is_one_donor(tmp_path: Path) -> None:
    store, _, _ = toy_corpus(tmp_path)
    store.obs["donor"] = np.where(store.obs["source"] == "s0", store.obs["donor"], "donor0")
    cells = PretrainingCells(store, batch_size=8, held_out_fraction=0.5, validation_cells=9, seed=0)
    donor = store.obs["donor"].to_numpy()
    assert not set(donor[cells.order.rows]) & set(donor[cells.validation])


def test_persons_of_a_held_out_data_set_are_not_trained_on_elsewhere(tmp_path: Path) -> None:
    store, _, _ = toy_corpus(tmp_path)
    store.obs["dataset"] = store.obs["donor"]
    donor = store.obs["donor"].astype(str).to_numpy()
    store.obs["donor"] = np.where(np.isin(donor, ["donor0", "donor1"]), "one person", donor)  # in two data sets
    for seed in range(5):
        cells = PretrainingCells(
            store, batch_size=8, held_out_fraction=0.2, validation_cells=99, seed=seed, held_out_by="dataset"
        )
        persons = store.obs["donor"].to_numpy()
        assert set(persons[cells.validation]) == cells.donors
        assert not set(persons[cells.order.rows]) & cells.donors
    store.obs["donor"] = "one person"
    with pytest.raises(InputDataError, match="held_out_by: donor"):
        PretrainingCells(store, batch_size=8, held_out_fraction=0.2, validation_cells=9, seed=0, held_out_by="dataset")


def test_values_are_log1p_of_counts_per_ten_thousand_and_pad(tmp_path: Path) -> None:
    store, _, _ = toy_corpus(tmp_path)
    cells = PretrainingCells(store, batch_size=8, held_out_fraction=0.2, validation_cells=9, seed=0)
    rows = np.array([77, 3, 50])
    values = cells.values(rows)
    counts = store.rows(rows).toarray().astype(np.float64)
    assert values.shape == (3, N_GENES + 1) and values.dtype == torch.float32
    assert (values[:, -1] == 0).all()
    expected = np.log1p(1e4 * counts / counts.sum(1, keepdims=True))
    np.testing.assert_allclose(values[:, :-1].numpy(), expected, rtol=1e-5)


@pytest.mark.parametrize("name", ["log1p_cp10k", "cp10k", "paper_log"])
def test_values_equal_their_twin_to_the_bit(tmp_path: Path, name: str) -> None:
    store, _, _ = toy_corpus(tmp_path)
    options = {"batch_size": 8, "held_out_fraction": 0.2, "validation_cells": 9, "seed": 0}
    cells = PretrainingCells(store, normalization=name, **options)
    rows = np.array([5, 0, 44, 5])
    assert torch.equal(cells.values(rows), cells.values_naive(rows))
    other = PretrainingCells(store, **options)
    assert torch.equal(cells.values(rows), other.values(rows)) == (name == "log1p_cp10k")


def test_data_sets_or_cells_may_be_held_out_instead(tmp_path: Path) -> None:
    store, _, _ = toy_corpus(tmp_path)
    options = {"batch_size": 8, "held_out_fraction": 0.34, "validation_cells": 10**6, "seed": 0}
    by_set = PretrainingCells(store, held_out_by="dataset", **options)
    dataset = store.obs["dataset"].to_numpy()
    assert not set(dataset[by_set.validation]) & set(dataset[by_set.order.rows])
    assert by_set.donors == set(store.obs["donor"].to_numpy()[by_set.validation])
    by_cell = PretrainingCells(store, held_out_by="cell", **options)
    assert len(by_cell.validation) == round(0.34 * len(store))
    assert sorted([*by_cell.validation, *by_cell.order.rows]) == list(range(len(store)))
    donor = store.obs["donor"].to_numpy()
    assert set(donor[by_cell.validation]) & set(donor[by_cell.order.rows]), "one donor on both sides: the published cut"
