"""FAVOR+ softmax attention (Choromanski et al. 2021): the module, and which of three computations it uses.

Shapes: B cells, H heads, N positions, D width of a head, M random features.
"""

from __future__ import annotations

from typing import Literal

import torch
from performer_pytorch.performer_pytorch import gaussian_orthogonal_random_matrix
from torch import nn

from sclong.nn import favor_triton
from sclong.nn.favor_blocks import blocked_attention
from sclong.nn.favor_features import EPS, Stabilizer, key_features, n_random_features, oracle_attention, query_features

Kernels = Literal["fast", "blocks", "oracle"]

__all__ = [
    "EPS",
    "FavorAttention",
    "Kernels",
    "Stabilizer",
    "favor_attention",
    "key_features",
    "n_random_features",
    "oracle_attention",
    "query_features",
]


def favor_attention(
    qkv_BN3HD: torch.Tensor, projection_MD: torch.Tensor, stabilizer: Stabilizer, kernels: Kernels = "fast"
) -> torch.Tensor:
    """Attend.

    Parameters
    ----------
    qkv_BN3HD : (B, N, 3, H, D) float32, bfloat16 or float64
        Queries, keys and values, as one merged projection makes them.
    projection_MD : (M, D)
        Random directions; no gradient flows to them.
    stabilizer
        See :func:`sclong.nn.favor_features.key_features`.
    kernels
        "fast": the fused kernel on CUDA where Triton is (heads of width 16, 32 or 64), else blocks. "blocks": blocks of
        positions, any device.
        "oracle": performer-pytorch's operations, which hold all random features in memory.

    Returns
    -------
    (B, N, H, D)
    """
    if kernels == "oracle":
        q_BHND, k_BHND, v_BHND = qkv_BN3HD.permute(2, 0, 3, 1, 4)
        return oracle_attention(q_BHND, k_BHND, v_BHND, projection_MD, stabilizer).transpose(1, 2)
    if kernels == "fast" and favor_triton.available(qkv_BN3HD):
        return favor_triton.merged_attention_triton(qkv_BN3HD, projection_MD, stabilizer)
    return blocked_attention(qkv_BN3HD, projection_MD, stabilizer)


class FavorAttention(nn.Module):
    """Linear-time approximation of softmax attention; the random directions are a buffer that `forward` never changes.

    Parameters
    ----------
    dim_head
        D.
    stabilizer, kernels
        See :func:`favor_attention`.
    """

    projection_matrix: torch.Tensor

    def __init__(self, dim_head: int, stabilizer: Stabilizer = "per_head", kernels: Kernels = "fast") -> None:
        super().__init__()
        self.dim_head, self.stabilizer, self.kernels = dim_head, stabilizer, kernels
        directions_MD = torch.empty(n_random_features(dim_head), dim_head)
        self.register_buffer("projection_matrix", directions_MD)
        if not directions_MD.is_meta:
            self.redraw()

    @torch.no_grad()
    def redraw(self) -> None:
        """Draw orthogonal random directions anew, from torch's global generator."""
        drawn_MD = gaussian_orthogonal_random_matrix(
            nb_rows=self.projection_matrix.shape[0], nb_columns=self.dim_head, scaling=0
        )
        self.projection_matrix.copy_(drawn_MD)

    def forward(self, qkv_BN3HD: torch.Tensor) -> torch.Tensor:
        """Return attended values, (B, N, H, D)."""
        return favor_attention(qkv_BN3HD, self.projection_matrix, self.stabilizer, self.kernels)


class ExactAttention(nn.Module):
    """Exact softmax attention; cost and, without a flash kernel, memory grow with the square of N."""

    def forward(self, qkv_BN3HD: torch.Tensor) -> torch.Tensor:
        """Return attended values, (B, N, H, D)."""
        q_BHND, k_BHND, v_BHND = qkv_BN3HD.permute(2, 0, 3, 1, 4)
        return nn.functional.scaled_dot_product_attention(q_BHND, k_BHND, v_BHND).transpose(1, 2)
