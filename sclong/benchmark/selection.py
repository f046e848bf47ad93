"""Which epoch of a training answers: early stopping on a part that is not the test part."""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

LOGGER = logging.getLogger(__name__)


class BestEpoch:
    """The weights of the epoch with the highest score; the first of equals; never one whose score is NaN.

    Parameters
    ----------
    network
        Its weights at this moment are kept until an epoch scores more than `score`.
    patience
        Evaluations in a row without a better one that end the training; None: none does.
    score
        Of the weights at this moment. An error is given with its sign turned.

    Attributes
    ----------
    scores : list of float
        Of all evaluations, in order. Each is logged at level DEBUG as well.
    """

    def __init__(self, network: nn.Module, patience: int | None = None, score: float = -np.inf) -> None:
        self.scores: list[float] = []
        self._network, self._patience = network, patience
        self._score, self._waited = score, 0
        self._state: dict[str, torch.Tensor] = dict(copy.deepcopy(network.state_dict()))

    def update(self, score: float) -> bool:
        """Take the score of the weights as they are now; return whether the training shall end."""
        self.scores.append(score)
        LOGGER.debug("evaluation %d: %.5f", len(self.scores), score)
        self._waited += 1
        if score > self._score:
            self._score, self._state, self._waited = score, dict(copy.deepcopy(self._network.state_dict())), 0
        return self.ended

    @property
    def ended(self) -> bool:
        """Whether as many evaluations in a row were no better as the patience allows."""
        return self._waited == self._patience

    def state(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        """Return the weights of the best epoch, and JSON values: all that :meth:`resume` needs."""
        lowest = bool(np.isneginf(self._score))
        facts = {"score": None if lowest else float(self._score), "waited": self._waited, "scores": self.scores}
        return dict(self._state), facts

    def resume(self, weights: Mapping[str, torch.Tensor], facts: Mapping[str, Any]) -> None:
        """Be what another was when it gave this :meth:`state`."""
        self._state, self._waited, self.scores = dict(weights), int(facts["waited"]), list(facts["scores"])
        self._score = -np.inf if facts["score"] is None else float(facts["score"])

    def restore(self) -> None:
        """Give the network the weights of its best epoch."""
        self._network.load_state_dict(self._state)
