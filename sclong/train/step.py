"""One optimiser step, shared by all processes.

Shapes: B cells of this process, N positions (genes and PAD).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from sclong.config.sections import PretrainConfig
from sclong.errors import SclongError
from sclong.train.masking import Masked, mask_values
from sclong.train.optim import clip_gradients
from sclong.train.parallel import Replica


class DivergenceError(SclongError):
    """The loss or its gradient is no longer a number, or has exploded."""


@dataclass(frozen=True)
class Batch:
    """Cells of a step that one process reads.

    Attributes
    ----------
    rows : (B,) int64
        Positions in the store.
    places : (B,) int64
        Places in the step's whole batch.
    values_BN : (B, N) float32
        The model's input before masking.
    """

    rows: np.ndarray
    places: np.ndarray
    values_BN: torch.Tensor


@dataclass(frozen=True)
class StepResult:
    """What a step tells: the same on every process.

    Attributes
    ----------
    loss
        Mean squared error over all chosen entries, pooled over cells.
    loss_replaced, loss_kept, loss_zeros
        The same over hidden expressed entries, expressed entries left visible, hidden zeros. None: there were none.
    gradient_norm
        Before clipping.
    """

    loss: float
    loss_replaced: float | None
    loss_kept: float | None
    loss_zeros: float | None
    gradient_norm: float


class ErrorSums:
    """Sums of squared errors over chosen entries, apart for hidden ones, visible ones and hidden zeros."""

    def __init__(self, device: torch.device) -> None:
        self.sums_32 = torch.zeros(3, 2, dtype=torch.float64, device=device)  # (replaced, kept, zeros) x (sum, entries)

    def add(self, errors: MaskedErrors) -> None:
        """Count the squared errors of some cells."""
        for row, entries_BN in enumerate((errors.replaced_BN, errors.kept_BN, errors.zeros_BN)):
            self.sums_32[row, 0] += errors.error_BN.detach()[entries_BN].sum(dtype=torch.float64)
            self.sums_32[row, 1] += entries_BN.sum()


def means(sums_32: torch.Tensor) -> list[float | None]:
    """Return the means over all entries, then over each kind (None: no entry), of sums of :class:`ErrorSums`."""
    return [total / n if n else None for total, n in [sums_32.sum(0).tolist(), *sums_32.tolist()]]


@dataclass(frozen=True)
class MaskedErrors:
    """Squared errors of some cells, (B, N), 0 where nothing was chosen; which entries are of which kind; labels."""

    error_BN: torch.Tensor
    prediction_BN: torch.Tensor
    labels_BN: torch.Tensor
    replaced_BN: torch.Tensor
    kept_BN: torch.Tensor
    zeros_BN: torch.Tensor


def squared_errors(
    model: nn.Module,
    masked: Masked,
    device: torch.device,
) -> MaskedErrors:
    """Run the model on masked cells and compare it with their labels, on its device."""
    masked_BN, labels_BN, chosen_BN, replaced_BN = (t.to(device, non_blocking=True) for t in masked)
    prediction_BN = model(masked_BN).reconstruction_BN
    error_BN = (prediction_BN - labels_BN).square().masked_fill(~chosen_BN, 0.0)
    zeros_BN = labels_BN == 0
    return MaskedErrors(
        error_BN, prediction_BN.detach(), labels_BN, replaced_BN & ~zeros_BN, chosen_BN & ~replaced_BN, zeros_BN
    )


def cells_per_pass(config: PretrainConfig) -> int:
    """Return how many cells a process reads in one forward and backward pass."""
    share = config.batch_size // (config.processes * config.nodes)
    return min(config.micro_batch_size or share, share)


def training_step(
    replica: Replica,
    optimizer: torch.optim.Optimizer,
    batch: Batch,
    config: PretrainConfig,
    step: int,
    stop: object = False,
    limit: float = math.inf,
) -> StepResult:
    """Do one optimiser step.

    The loss is the mean squared error over all chosen entries of the step's cells, pooled over the cells of all
    processes: their number is known to all before the first backward pass, so that neither the number of processes nor
    that of passes changes it.

    Parameters
    ----------
    replica, optimizer
        Model of this process and its optimiser, whose rate is set.
    batch
        This process's share of the cells.
    config, step
        Masking and clipping; names the draw of the mask.
    stop
        True from when this process was asked to stop on; read before every pass.
    limit
        The loss may not be greater.

    Raises
    ------
    DivergenceError
        Loss or gradient is not finite, or the loss is beyond the limit. The weights are still those of the step before.
    StopNowError
        A process was asked to stop. The weights are still those of the step before.
    """
    model, world = replica.model, replica.world
    model.train()
    optimizer.zero_grad(set_to_none=True)
    masked = mask_values(
        batch.values_BN,
        config.seed,
        step,
        config.mask_fraction,
        config.replace_fraction,
        zero_fraction=config.mask_zero_fraction,
        places=batch.places.tolist(),
    )
    n_chosen = int(world.total(masked.chosen_BN.sum()[None]).item())
    sums = ErrorSums(world.device)
    parts = list(masked.split(cells_per_pass(config)))
    with model.go_conv.once():
        for number, part in enumerate(parts, start=1):
            world.check(stop)
            with replica.accumulating(last=number == len(parts)):
                errors = squared_errors(replica.call, part, world.device)
                # gradients are averaged over processes: the factor makes that a sum
                (errors.error_BN.sum() * world.size / max(n_chosen, 1)).backward()
            sums.add(errors)
    replica.finish_gradients()
    norm = clip_gradients(model.parameters(), config.gradient_clip)
    loss, replaced, kept, zeros = means(world.total(sums.sums_32))
    if loss is None or not math.isfinite(loss) or not math.isfinite(norm) or loss > limit:
        raise DivergenceError(
            f"step {step}: loss {loss}, norm of the gradient {norm}",
            "finite numbers" + ("" if math.isinf(limit) else f", and a loss of at most {limit:.4g}"),
            "lower pretrain.learning_rate or pretrain.gradient_clip and train in another folder; the last checkpoint "
            "before this step is kept, and the cells of the step are in diverged_step_*.npz beside it",
        )
    optimizer.step()
    return StepResult(loss, replaced, kept, zeros, norm)
