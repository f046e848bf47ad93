"""Pre-norm Performer encoder; parameter names are those of the published checkpoint.

Shapes: B cells, N positions, W width of the encoder, H heads, D width of a head.
"""

from __future__ import annotations

import torch
from torch import nn

from sclong.nn.favor import FavorAttention, Stabilizer


class SelfAttention(nn.Module):
    """Multi-head FAVOR+ self-attention: q, k, v without bias, output with bias."""

    def __init__(self, dim: int, heads: int, dim_head: int, stabilizer: Stabilizer) -> None:
        super().__init__()
        inner = heads * dim_head
        self.heads = heads
        self.fast_attention = FavorAttention(dim_head, stabilizer)
        self.to_q = nn.Linear(dim, inner, bias=False)
        self.to_k = nn.Linear(dim, inner, bias=False)
        self.to_v = nn.Linear(dim, inner, bias=False)
        self.to_out = nn.Linear(inner, dim)

    def forward(self, x_BNW: torch.Tensor) -> torch.Tensor:
        """Return (B, N, W)."""
        q_BHND, k_BHND, v_BHND = (
            project(x_BNW).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for project in (self.to_q, self.to_k, self.to_v)
        )
        return self.to_out(self.fast_attention(q_BHND, k_BHND, v_BHND).transpose(1, 2).flatten(2))


class FeedForward(nn.Module):
    """Linear, GELU (erf), Linear."""

    def __init__(self, dim: int, mult: int) -> None:
        super().__init__()
        self.w1 = nn.Linear(dim, mult * dim)
        self.w2 = nn.Linear(mult * dim, dim)

    def forward(self, x_BNW: torch.Tensor) -> torch.Tensor:
        """Return (B, N, W)."""
        return self.w2(nn.functional.gelu(self.w1(x_BNW)))


class PreNorm(nn.Module):
    """LayerNorm before a sub-layer."""

    def __init__(self, dim: int, fn: nn.Module) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.fn = fn

    def forward(self, x_BNW: torch.Tensor) -> torch.Tensor:
        """Return the sub-layer's output."""
        return self.fn(self.norm(x_BNW))


class Wrapped(nn.Module):
    """Carries the level ``fn`` that the published names have around the feed-forward part."""

    def __init__(self, fn: nn.Module) -> None:
        super().__init__()
        self.fn = fn

    def forward(self, x_BNW: torch.Tensor) -> torch.Tensor:
        """Return ``fn(x)``."""
        return self.fn(x_BNW)


class Layers(nn.Module):
    """Residual layers, each attention then feed-forward."""

    def __init__(self, layers: nn.ModuleList) -> None:
        super().__init__()
        self.layers = layers

    def forward(self, x_BNW: torch.Tensor) -> torch.Tensor:
        """Return (B, N, W)."""
        for attention, feed_forward in self.layers:
            x_BNW = x_BNW + attention(x_BNW)
            x_BNW = x_BNW + feed_forward(x_BNW)
        return x_BNW


class Performer(nn.Module):
    """Stack of pre-norm residual layers without a final norm.

    Parameters
    ----------
    dim, depth, heads, dim_head
        Width, number of layers, heads and their width.
    ff_mult
        Feed-forward width as a multiple of `dim`.
    stabilizer
        See :func:`sclong.nn.favor.key_features`.
    """

    def __init__(
        self, dim: int, depth: int, heads: int, dim_head: int, ff_mult: int = 4, stabilizer: Stabilizer = "per_head"
    ) -> None:
        super().__init__()
        self.net = Layers(
            nn.ModuleList(
                nn.ModuleList(
                    [
                        PreNorm(dim, SelfAttention(dim, heads, dim_head, stabilizer)),
                        PreNorm(dim, Wrapped(FeedForward(dim, ff_mult))),
                    ]
                )
                for _ in range(depth)
            )
        )
        self.register_buffer("calls_since_last_redraw", torch.zeros((), dtype=torch.int64))

    def forward(self, x_BNW: torch.Tensor) -> torch.Tensor:
        """Return (B, N, W)."""
        return self.net(x_BNW)
