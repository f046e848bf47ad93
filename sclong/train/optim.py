"""Adam, and its learning rate as a function of the optimiser step."""

from __future__ import annotations

import math

import torch


def learning_rate(step: int, steps: int, peak: float, minimum: float, warmup: int) -> float:
    """Return the learning rate of an optimiser step: linear warm-up, then half a cosine down to the minimum.

    ``minimum + (peak - minimum) * step / warmup`` up to step `warmup`, then
    ``minimum + (peak - minimum) * (1 + cos(pi * (step - warmup) / (steps - warmup))) / 2``.

    Parameters
    ----------
    step
        1 for the first.
    steps
        The last step, which has the minimum.
    peak, minimum
        Learning rates.
    warmup
        Step that has the peak; 0: the cosine begins at once.

    Examples
    --------
    >>> [round(learning_rate(s, 10, 1.0, 0.0, 2), 3) for s in (1, 2, 6, 10)]
    [0.5, 1.0, 0.5, 0.0]
    """
    if step <= warmup:
        return minimum + (peak - minimum) * step / warmup
    return minimum + (peak - minimum) * (1 + math.cos(math.pi * (step - warmup) / (steps - warmup))) / 2


def make_optimizer(model: torch.nn.Module) -> torch.optim.Adam:
    """Return Adam with the published constants (0.9, 0.999, 1e-8, no weight decay); the loop sets the rate."""
    return torch.optim.Adam(model.parameters(), lr=0.0, betas=(0.9, 0.999), eps=1e-8)


def set_learning_rate(optimizer: torch.optim.Optimizer, value: float) -> None:
    """Set the learning rate of every parameter group."""
    for group in optimizer.param_groups:
        group["lr"] = value
