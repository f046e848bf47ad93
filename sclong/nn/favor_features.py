"""Random features of FAVOR+ (Choromanski et al. 2021) and attention with them, one operation after the other.

This is the oracle: performer-pytorch's feature map and linear attention, with the two further stabilizers of the
published model. Faster ways to the same numbers are :mod:`sclong.nn.favor_blocks` and :mod:`sclong.nn.favor_triton`.

Shapes: B cells, H heads, N positions, D width of a head, M random features.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from performer_pytorch.performer_pytorch import linear_attention, softmax_kernel

EPS = 1e-4
Stabilizer = Literal["per_head", "per_cell", "global"]


def n_random_features(dim_head: int) -> int:
    """Return M = int(D ln D), the number of random features for heads of width D."""
    return int(dim_head * math.log(dim_head))


def random_features(
    x_BHND: torch.Tensor, projection_MD: torch.Tensor, over: tuple[int, ...], eps: float = EPS
) -> torch.Tensor:
    """Return positive random features of queries or keys, (B, H, N, M).

    ``M**-0.5 * (exp(s - |c x|**2 / 2 - max(s)) + eps)`` with ``c = D**-0.25`` and ``s = c x . direction``. The
    maximum runs over the dimensions `over`, and the gradient flows through it, as in the published code.
    """
    scaled_BHND = x_BHND.shape[-1] ** -0.25 * x_BHND
    exponent_BHNM = scaled_BHND @ projection_MD.T.to(x_BHND.dtype)
    half_norm_BHN1 = 0.5 * scaled_BHND.square().sum(-1, keepdim=True)
    top = exponent_BHNM.amax(dim=over, keepdim=True)
    features_BHNM = projection_MD.shape[0] ** -0.5 * (torch.exp(exponent_BHNM - half_norm_BHN1 - top) + eps)
    return features_BHNM.to(x_BHND.dtype)


def query_features(q_BHND: torch.Tensor, projection_MD: torch.Tensor, stabilizer: Stabilizer) -> torch.Tensor:
    """Return random features of queries, (B, H, N, M); the maximum is that of each query.

    "per_head" is performer-pytorch 1.1.4, which lets no gradient through the maximum; the others let it through.
    """
    if stabilizer == "per_head":
        return softmax_kernel(q_BHND, projection_matrix=projection_MD, is_query=True, eps=EPS)
    return random_features(q_BHND, projection_MD, over=(3,))


def key_features(k_BHND: torch.Tensor, projection_MD: torch.Tensor, stabilizer: Stabilizer) -> torch.Tensor:
    """Return random features of keys, (B, H, N, M).

    Parameters
    ----------
    k_BHND, projection_MD
        Keys and random directions.
    stabilizer
        Over what the maximum of the exponents is taken before exponentiation. "per_head": positions and features of
        each cell and head, no gradient (performer-pytorch 1.1.4). "per_cell": heads too, with gradient; equals the
        published model on one cell. "global": the whole batch, with gradient (the published code; results depend on the
        batch). Because a floor of 1e-4 is added after the exponential, they are three different functions.
    """
    if stabilizer == "per_head":
        return softmax_kernel(k_BHND, projection_matrix=projection_MD, is_query=False, eps=EPS)
    return random_features(k_BHND, projection_MD, over=(1, 2, 3) if stabilizer == "per_cell" else (0, 1, 2, 3))


def oracle_attention(
    q_BHND: torch.Tensor,
    k_BHND: torch.Tensor,
    v_BHND: torch.Tensor,
    projection_MD: torch.Tensor,
    stabilizer: Stabilizer,
) -> torch.Tensor:
    """Return attended values, (B, H, N, D)."""
    q_features_BHNM = query_features(q_BHND, projection_MD, stabilizer)
    k_features_BHNM = key_features(k_BHND, projection_MD, stabilizer)
    return linear_attention(q_features_BHNM, k_features_BHNM, v_BHND)
