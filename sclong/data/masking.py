"""Which expressed values the model must reconstruct: a pure function of a seed and a step.

Shapes: B cells, N positions (genes and the trailing PAD).
"""

from __future__ import annotations

import torch

from sclong.seeding import derive_seed

MASK_VALUE = -10.0
"""The value that stands for "hidden" in the model's input, and for "no label" in the labels."""


def mask_values(
    values_BN: torch.Tensor, seed: int, step: int, mask_fraction: float, replace_fraction: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Choose expressed values to reconstruct, and hide most of them.

    In each cell with m eligible entries (neither 0, which PAD always is, nor already hidden), exactly
    ``ceil(mask_fraction * m)`` are chosen, uniformly and without replacement. Each chosen entry is hidden with
    probability `replace_fraction`, independently; the others are chosen too but keep their value.

    The draw is made on the CPU and depends on nothing but `seed`, `step` and the eligible entries, so that it is the
    same on every device and can be repeated without state.

    Parameters
    ----------
    values_BN
        (B, N) float, the model's input before masking.
    seed, step
        Name the draw.
    mask_fraction, replace_fraction
        Share of the eligible entries that is chosen; share of the chosen ones that is hidden.

    Returns
    -------
    masked_BN : (B, N) float
        `values_BN` with -10 at the hidden entries.
    labels_BN : (B, N) float
        The original value at every chosen entry, -10 elsewhere.
    chosen_BN, replaced_BN : (B, N) bool
        What the loss is taken over; the hidden part of it.
    """
    generator = torch.Generator().manual_seed(derive_seed("mask", seed, step))
    score_BN = torch.rand(values_BN.shape, generator=generator)
    hide_BN = torch.rand(values_BN.shape, generator=generator) < replace_fraction

    eligible_BN = ((values_BN != 0) & (values_BN != MASK_VALUE)).cpu()
    eligible_B = eligible_BN.sum(1)
    # 1e-9: the product of a decimal fraction and a count can end a hair above the whole number it stands for
    count_B = torch.ceil(mask_fraction * eligible_B.double() - 1e-9).long()
    most = int(count_B.max()) if len(count_B) else 0
    _, top_BK = score_BN.masked_fill_(~eligible_BN, -1.0).topk(most, dim=1)
    chosen_BN = torch.zeros_like(eligible_BN).scatter_(1, top_BK, torch.arange(most) < count_B[:, None])

    chosen_BN = chosen_BN.to(values_BN.device)
    replaced_BN = chosen_BN & hide_BN.to(values_BN.device)
    masked_BN = values_BN.masked_fill(replaced_BN, MASK_VALUE)
    labels_BN = values_BN.masked_fill(~chosen_BN, MASK_VALUE)
    return masked_BN, labels_BN, chosen_BN, replaced_BN
