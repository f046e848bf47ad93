"""torch.compile with a way back: where it does not work, the same function runs eagerly and a line says why."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch._dynamo.exc import TorchDynamoException

from sclong.runlog import LOGGER


def compile_or_eager(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return `function`, compiled at its first call; where that fails (no C++ compiler, say), `function` as it is.

    Parameters
    ----------
    function
        A function without side effects, so that a failed call can be repeated.
    """
    compiled = torch.compile(function)
    chosen = [compiled]

    def call(*args: Any) -> Any:
        if chosen[0] is compiled:
            try:
                return compiled(*args)
            except TorchDynamoException as error:
                reason = " ".join(str(error).split())[:200]
                LOGGER.warning("torch.compile does not work here (%s); going on without it", reason)
                chosen[0] = function
        return function(*args)

    return call
