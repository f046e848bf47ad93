"""The optimiser, its learning rate as a function of the optimiser step, and the clipping of gradients."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch.distributed.tensor import DTensor

from sclong.config.sections import PretrainConfig


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


def cycle_rate(
    place: int, peak: float, minimum: float, warmup: int, length: int, factor: float = 2.0, decay: float = 0.9
) -> float:
    """Return the learning rate at a place of a row of cycles, each a warm-up and half a cosine, each lower and longer.

    The formula of CosineAnnealingWarmupRestarts: in a cycle of length T with peak P, at its place c, the rate is
    ``minimum + (P - minimum) * c / warmup`` below `warmup`, else that of half a cosine over ``T - warmup`` places. The
    next cycle has ``(T - warmup) * factor + warmup`` places (rounded down) and the peak ``P * decay``.

    Parameters
    ----------
    place
        0 for the first, which has the minimum when there is a warm-up.
    peak, minimum
        Learning rates; `peak` is the first cycle's.
    warmup, length
        Places of the warm-up; of the whole first cycle.
    factor, decay
        Of the next cycle.

    Examples
    --------
    >>> [round(cycle_rate(e, 5e-5, 1e-6, 5, 15), 9) for e in (0, 1, 5, 6, 15, 16)]  # the published training
    [1e-06, 1.08e-05, 5e-05, 4.8801e-05, 1e-06, 9.8e-06]
    """
    while place >= length:
        place -= length
        length = int((length - warmup) * factor) + warmup
        peak *= decay
    return learning_rate(place, length, peak, minimum, warmup)


def rate_of_step(step: int, config: PretrainConfig, training_cells: int) -> float:
    """Return the learning rate of optimiser step `step` (the first is 1) by the configured schedule.

    ``authors`` counts epochs, as the published training did: its rate changes only when all `training_cells` have been
    seen once more.
    """
    peak, minimum = config.learning_rate, config.minimum_learning_rate
    if config.schedule == "authors":
        return cycle_rate((step - 1) * config.batch_size // training_cells, peak, minimum, warmup=5, length=15)
    if config.schedule == "cosine_restarts" and config.restart_steps is not None:  # which the configuration checks
        return cycle_rate(
            step, peak, minimum, config.warmup_steps, config.restart_steps, config.restart_factor, config.restart_decay
        )
    return learning_rate(step, config.steps, peak, minimum, config.warmup_steps)


def make_optimizer(
    model: torch.nn.Module, name: str = "adam", weight_decay: float = 0.0
) -> torch.optim.Adam | torch.optim.AdamW:
    """Return Adam or AdamW with the published constants (0.9, 0.999, 1e-8); the loop sets the rate.

    Weight decay (published: none) is for parameters of two dimensions and more. Parameters in shards and whole ones are
    in groups of their own, since an operation over many tensors cannot mix them.
    """
    groups: dict[tuple[bool, bool], list[torch.nn.Parameter]] = {}
    for parameter in model.parameters():
        groups.setdefault((isinstance(parameter, DTensor), parameter.ndim > 1), []).append(parameter)
    kind = torch.optim.AdamW if name == "adamw" else torch.optim.Adam
    return kind(
        [
            {"params": parameters, "weight_decay": weight_decay if matrix else 0.0}
            for (_, matrix), parameters in groups.items()
        ],
        lr=0.0,
        betas=(0.9, 0.999),
        eps=1e-8,
    )


def set_learning_rate(optimizer: torch.optim.Optimizer, value: float) -> None:
    """Set the learning rate of every parameter group."""
    for group in optimizer.param_groups:
        group["lr"] = value


def clip_gradients(parameters: Iterable[torch.nn.Parameter], maximum: float) -> float:
    """Scale gradients so that the norm of all of them, over all shards, is at most `maximum`; return the norm before.

    Whole gradients must be the same on every process. A norm that is not finite leaves gradients that are not either.
    """
    gradients = [p.grad for p in parameters if p.grad is not None]
    shards = [g.to_local() for g in gradients if isinstance(g, DTensor)]
    whole = [g for g in gradients if not isinstance(g, DTensor)]
    norm = torch.nn.utils.get_total_norm(whole)
    if shards:
        square = torch.nn.utils.get_total_norm(shards).square()
        torch.distributed.all_reduce(square)
        norm = (square + norm.to(square.device).square()).sqrt()
    scale = (maximum / (norm + 1e-6)).clamp(max=1.0)
    for gradient in [*shards, *whole]:
        gradient.mul_(scale.to(gradient.device))
    return float(norm)
