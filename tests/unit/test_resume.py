"""Predictions that a job after a kill goes on with: folds that are done, and a training between two epochs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from sclong.benchmark import resume
from sclong.benchmark.resume import Continuation, Unfinished
from sclong.benchmark.selection import BestEpoch

EPOCHS = 9


class KilledError(Exception):
    """The job is gone."""


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resume, "EVERY_S", 0.0)


def train(killed_after: int | None = None, scores: tuple[float, ...] = (1, 3, 2, 5, 4, 4, 4, 4, 4)) -> np.ndarray:
    """Train a network with dropout for some epochs, the best chosen; return its answers."""
    torch.manual_seed(1)
    network = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Dropout(0.3), nn.Linear(8, 1))
    optimiser = torch.optim.Adam(network.parameters(), lr=0.05)
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimiser, 0.7)
    x_NF = torch.linspace(-1, 1, 30).reshape(10, 3)
    best = BestEpoch(network, patience=3)
    training = Continuation("net", network, optimiser, best)
    for epoch in range(training.restore(), 0 if best.ended else EPOCHS):
        network.train()
        optimiser.zero_grad()
        network(x_NF[torch.randperm(10)]).square().mean().backward()
        optimiser.step()
        schedule.step()
        ended = best.update(scores[epoch])
        training.done(epoch + 1)
        if epoch + 1 == killed_after:
            raise KilledError
        if ended:
            break
    best.restore()
    return network.eval()(x_NF).detach().numpy()


@pytest.mark.parametrize("killed_after", [1, 3, 4, 6, 7])
def test_a_training_that_was_killed_ends_with_the_same_weights(eager: None, tmp_path: Path, killed_after: int) -> None:
    whole = Unfinished(tmp_path / "whole", {"a": 1}).fold("0", train)
    np.testing.assert_array_equal(whole, train())  # outside of a prediction nothing is kept
    folder = tmp_path / "killed"
    with pytest.raises(KilledError):
        Unfinished(folder, {"a": 1}).fold("0", lambda: train(killed_after))
    assert {p.name for p in folder.iterdir()} == {"identity.json", "fold-0.net.safetensors"}
    np.testing.assert_array_equal(Unfinished(folder, {"a": 1}).fold("0", train), whole)


def test_what_another_identity_left_is_forgotten(eager: None, tmp_path: Path) -> None:
    folder = tmp_path / "x"
    first = Unfinished(folder, {"code": "a", "files": [("x", 1)]})
    assert first.fold("a/b", lambda: np.zeros(2)).tolist() == [0, 0]
    again = Unfinished(folder, {"code": "a", "files": [("x", 1)]})
    assert again.fold("a/b", lambda: pytest.fail("it is kept")).tolist() == [0, 0]
    other = Unfinished(folder, {"code": "b", "files": [("x", 1)]})
    assert other.fold("a/b", lambda: np.ones(2)).tolist() == [1, 1]
    other.remove()
    assert not list(tmp_path.iterdir())


def test_short_predictions_leave_no_file(tmp_path: Path) -> None:
    unfinished = Unfinished(tmp_path / "x", {})
    unfinished.fold("0", train)
    assert not list(tmp_path.iterdir())


def test_a_fold_that_took_long_is_kept(tmp_path: Path) -> None:
    now = iter([0.0, 61.0])
    Unfinished(tmp_path / "x", {}, lambda: next(now)).fold("0", lambda: np.arange(3))
    assert Unfinished(tmp_path / "x", {}).fold("0", lambda: pytest.fail("it is kept")).tolist() == [0, 1, 2]
