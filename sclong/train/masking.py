"""Which values the model must reconstruct: a pure function of a seed, a step and a cell's place in the step's batch.

Shapes: B cells, N positions (genes and the trailing PAD).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import torch

from sclong.seeding import derive_seed

MASK_VALUE = -10.0
"""The value that stands for "hidden" in the model's input, and for "no label" in the labels."""


class Masked(NamedTuple):
    """Cells of which some values are hidden.

    Attributes
    ----------
    masked_BN : (B, N) float
        The values, with -10 at the hidden entries.
    labels_BN : (B, N) float
        The original value at every chosen entry, -10 elsewhere; 0 only at chosen zeros.
    chosen_BN, replaced_BN : (B, N) bool
        What the loss is taken over; the hidden part of it.
    """

    masked_BN: torch.Tensor
    labels_BN: torch.Tensor
    chosen_BN: torch.Tensor
    replaced_BN: torch.Tensor

    def split(self, cells: int) -> Iterator[Masked]:
        """Cut into parts of so many cells (the last may have fewer)."""
        for part in zip(*(tensor.split(cells) for tensor in self), strict=True):
            yield Masked(*part)


def mask_values(
    values_BN: torch.Tensor,
    seed: int,
    step: int,
    mask_fraction: float,
    replace_fraction: float,
    *,
    zero_fraction: float = 0.0,
    places: Iterable[int] | None = None,
) -> Masked:
    """Choose values to reconstruct, and hide most of them.

    In each cell with m eligible entries (neither 0, which PAD always is, nor already hidden), exactly
    ``ceil(mask_fraction * m)`` are chosen, uniformly and without replacement. Each chosen entry is hidden with
    probability `replace_fraction`, independently; the others are chosen too but keep their value. That is the published
    rule. With `zero_fraction`, ``ceil(zero_fraction * z)`` of a cell's z zeros (PAD is none of them) are chosen too,
    and all of these are hidden; the choice among the other entries stays what it was.

    The draw of a cell is made on the CPU and depends on nothing but `seed`, `step`, its place and its eligible entries:
    it is the same on every device, however a batch is cut into parts, and can be repeated without state.

    Parameters
    ----------
    values_BN
        (B, N) float, the model's input before masking.
    seed, step
        Name the draw.
    mask_fraction, replace_fraction
        Share of the eligible entries that is chosen; share of the chosen ones that is hidden.
    zero_fraction
        Share of the zeros that is chosen and hidden.
    places
        Place of each cell in the step's whole batch, B numbers; None: 0, 1, ...

    Returns
    -------
    Masked
        On the device of `values_BN`, which is left as it is.
    """
    source_BN = values_BN.cpu()
    shape = (3 if zero_fraction else 2, *source_BN.shape)
    draw_3BN = torch.empty(shape)  # score of the expressed, whether hidden, score of the zeros
    for row, place in enumerate(range(len(source_BN)) if places is None else places):
        generator = torch.Generator().manual_seed(derive_seed("mask", seed, step, int(place)))
        for part_BN in draw_3BN:
            torch.rand(shape[2], generator=generator, out=part_BN[row])

    chosen_BN = _choose(draw_3BN[0], (source_BN != 0) & (source_BN != MASK_VALUE), mask_fraction)
    replaced_BN = chosen_BN & (draw_3BN[1] < replace_fraction)
    if zero_fraction:
        is_zero_BN = source_BN == 0
        is_zero_BN[:, -1] = False
        zeros_BN = _choose(draw_3BN[2], is_zero_BN, zero_fraction)
        chosen_BN, replaced_BN = chosen_BN | zeros_BN, replaced_BN | zeros_BN

    chosen_BN, replaced_BN = chosen_BN.to(values_BN.device), replaced_BN.to(values_BN.device)
    masked_BN = values_BN.masked_fill(replaced_BN, MASK_VALUE)
    labels_BN = values_BN.masked_fill(~chosen_BN, MASK_VALUE)
    return Masked(masked_BN, labels_BN, chosen_BN, replaced_BN)


def _choose(score_BN: torch.Tensor, eligible_BN: torch.Tensor, fraction: float) -> torch.Tensor:
    """Return the share of each row's eligible entries that has the highest scores, (B, N) bool; rounded up."""
    # 1e-9: the product of a decimal fraction and a count can end a hair above the whole number it stands for
    count_B = torch.ceil(fraction * eligible_BN.sum(1).double() - 1e-9).long()
    most = int(count_B.max()) if len(count_B) else 0
    _, top_BK = score_BN.masked_fill(~eligible_BN, -1.0).topk(most, dim=1)
    return torch.zeros_like(eligible_BN).scatter_(1, top_BK, torch.arange(most) < count_B[:, None])
