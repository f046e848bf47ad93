"""From an expression value to a vector.

Shapes: B cells, N positions, D width of gene vectors.
"""

from __future__ import annotations

import torch
from torch import nn


class ValueEncoder(nn.Module):
    """Small MLP on one value: Linear(1, hidden), ReLU, Linear(hidden, D)."""

    def __init__(self, hidden: int, dim: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(1, hidden)
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, values_BN: torch.Tensor) -> torch.Tensor:
        """Return (B, N, D)."""
        return self.fc2(torch.relu(self.fc1(values_BN.unsqueeze(-1))))
