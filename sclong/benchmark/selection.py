"""Which epoch of a training answers: early stopping on a part that is not the test part."""

import copy
import logging

import numpy as np
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
        self._score, self._state, self._waited = score, copy.deepcopy(network.state_dict()), 0

    def update(self, score: float) -> bool:
        """Take the score of the weights as they are now; return whether the training shall end."""
        self.scores.append(score)
        LOGGER.debug("evaluation %d: %.5f", len(self.scores), score)
        self._waited += 1
        if score > self._score:
            self._score, self._state, self._waited = score, copy.deepcopy(self._network.state_dict()), 0
        return self._waited == self._patience

    def restore(self) -> None:
        """Give the network the weights of its best epoch."""
        self._network.load_state_dict(self._state)
