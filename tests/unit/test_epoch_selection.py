"""Which epoch of a training answers."""

import math

import pytest
import torch
from torch import nn

from sclong.benchmark.selection import BestEpoch


def weight_after(scores: list[float], patience: int | None = None, start: float = -math.inf) -> tuple[float, int]:
    """Return the weight that is kept of epochs 1, 2, ..., and how many ran. The weight before them is 0."""
    network = nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        network.weight.fill_(0.0)
    best = BestEpoch(network, patience, start)
    ran = 0
    for ran, score in enumerate(scores, start=1):
        with torch.no_grad():
            network.weight.fill_(float(ran))
        if best.update(score):
            break
    best.restore()
    assert best.scores == pytest.approx(scores[:ran], nan_ok=True)
    return network.weight.item(), ran


@pytest.mark.parametrize(
    ("scores", "kept", "ran"),
    [
        ([1.0, 3.0, 2.0, 2.5], 2, 4),  # two after the best end it
        ([1.0, 0.5, 2.0, 0.1, 0.2, 9.0], 3, 5),  # the count begins anew; what comes later is never seen
        ([1.0, 1.0, 1.0], 1, 3),  # the first of equals
        ([math.nan, math.nan, 5.0], 0, 2),
        ([math.nan, 1.0, math.nan], 2, 3),
    ],
)
def test_best_epoch_is_kept_and_patience_ends_the_training(scores: list[float], kept: int, ran: int) -> None:
    assert weight_after(scores, patience=2) == (kept, ran)


def test_without_patience_all_epochs_run() -> None:
    assert weight_after([3.0, *[1.0] * 50]) == (1, 51)


def test_weights_before_the_first_epoch_are_a_candidate_when_they_have_a_score() -> None:
    assert weight_after([-2.0, -1.5], start=-1.0) == (0, 2)
    assert weight_after([-2.0, -0.5], start=-1.0) == (2, 2)


def test_every_evaluation_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("DEBUG", logger="sclong.benchmark.selection"):
        weight_after([0.5, 0.25])
    assert [record.args for record in caplog.records] == [(1, 0.5), (2, 0.25)]
