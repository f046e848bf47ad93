"""FAVOR+ attention on CUDA: Triton kernels that keep random features on the chip.

The function is that of :mod:`sclong.nn.favor_features`, with its gradients; the backward pass makes features anew.

Forward: `context` over keys (each program sums e_k [v | 1] over a chunk of positions and notes the largest exponents),
`combine` (adds the chunks, then the stabilizer and the floor), `query` (attended values, and each query's largest
exponent and denominator). Backward: `gradient` over queries (dq, and the gradient of each denominator), `context` and
`combine` over queries (the gradient of the context), `gradient` over keys (dk and dv).

How a feature ``exp(s - h - stabilizer) + eps`` is made. Directions carry c = D**-0.25 and log2 e, so exponents s and
half squared norms h are in base 2. Completing the square, s - h (natural) is at most |direction|**2 / 2, about 60 at
the very most for D = 64, so that exp2(s - h) fits float32 without a stabilizer: sums are made while the maximum is
looked for, and multiplied by exp2(-maximum) at the end. The factor M**-0.5 cancels. The floor eps is a term of rank
one: column sums of the context, sums of the values. M is padded with copies of the first direction, which change no
maximum, and with rows of zeros in the context; positions with copies of the last one, of weight zero.

Through the maxima ("per_cell", "global") the gradient goes to the first largest exponent; the oracle shares it evenly
among exponents that are exactly equal.

Memory traffic, in tensors of B H N D elements. Forward: k, v and q are read, out is written; and 8 bytes per query, and
4 M (D + 2) bytes per CHUNK positions of a head, written and read. Backward: 7 are read (q and dout twice, out, k, v), 3
written. Matrix products of 2 M D operations per position and head: 4 forward, 9 backward; exponentials per feature: 2
and 3. At D = 64 in bfloat16 forward is 266 operations per byte, about where tensor cores and memory of recent GPUs
balance, and there is one exponential per 128 operations: the exponential unit, tensor cores and memory are close
limits. Sums, exponents and exponentials are float32; operands of matrix products have the dtype of the input. There are
no atomics: results repeat bit by bit, and as CHUNK depends neither on the batch nor on the device, a cell's numbers do
not depend on its companions (but for "global").

Shapes: B cells, H heads, N positions, D width of a head, M random features, P padded features, S chunks; a 3 stands for
queries, keys and values.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.autograd.function import once_differentiable

from sclong.nn import favor_launch
from sclong.nn.favor_features import Stabilizer
from sclong.nn.favor_launch import Launcher, kernels_here, strided, takes


def available(x: torch.Tensor | None = None) -> bool:
    """Return whether the kernels can run here; with a tensor (..., D), whether it is one on a GPU that they take."""
    if x is None:
        return kernels_here() is not None
    return x.is_cuda and takes(x)


def favor_attention_triton(
    q_BHND: torch.Tensor,
    k_BHND: torch.Tensor,
    v_BHND: torch.Tensor,
    projection_MD: torch.Tensor,
    stabilizer: Stabilizer,
) -> torch.Tensor:
    """Attend.

    Parameters
    ----------
    q_BHND, k_BHND, v_BHND : (B, H, N, D) float32 or bfloat16
        Queries, keys and values; views with any strides over B, H and N are read in place.
    projection_MD : (M, D)
        Random directions; no gradient flows to them.
    stabilizer
        See :func:`sclong.nn.favor_features.key_features`.

    Returns
    -------
    (B, H, N, D)
        A view of memory in the order (B, N, H, D).

    Raises
    ------
    ConfigError
        The kernels cannot run here, or do not take these tensors.
    """
    return _Separate.apply(q_BHND, k_BHND, v_BHND, projection_MD, stabilizer).transpose(1, 2)


def merged_attention_triton(
    qkv_BN3HD: torch.Tensor, projection_MD: torch.Tensor, stabilizer: Stabilizer
) -> torch.Tensor:
    """Attend with merged queries, keys and values (B, N, 3, H, D); return (B, N, H, D).

    As :func:`favor_attention_triton`, but the gradient is written merged as well, so that autograd copies nothing.
    """
    return _Merged.apply(qkv_BN3HD, projection_MD, stabilizer)


class _Separate(torch.autograd.Function):
    """Attention over queries, keys and values."""

    @staticmethod
    def forward(ctx: Any, *args: Any) -> torch.Tensor:
        q_BHND, k_BHND, v_BHND, projection_MD, stabilizer = args
        return _forward(ctx, (q_BHND, k_BHND, v_BHND), projection_MD, stabilizer)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dout_BNHD: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        B, N, H, D = dout_BNHD.shape
        dqkv_3BHND = dout_BNHD.new_empty(3, B, N, H, D).transpose(2, 3).unbind()
        _backward(ctx, dout_BNHD, dqkv_3BHND)
        return *dqkv_3BHND, None, None


class _Merged(torch.autograd.Function):
    """Attention over merged queries, keys and values."""

    @staticmethod
    def forward(ctx: Any, *args: Any) -> torch.Tensor:
        qkv_BN3HD, projection_MD, stabilizer = args
        return _forward(ctx, qkv_BN3HD.permute(2, 0, 3, 1, 4).unbind(), projection_MD, stabilizer)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dout_BNHD: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        B, N, H, D = dout_BNHD.shape
        dqkv_BN3HD = dout_BNHD.new_empty(B, N, 3, H, D)
        _backward(ctx, dout_BNHD, dqkv_BN3HD.permute(2, 0, 3, 1, 4).unbind())
        return dqkv_BN3HD, None, None


def _forward(
    ctx: Any, qkv_3BHND: tuple[torch.Tensor, ...], projection_MD: torch.Tensor, stabilizer: Stabilizer
) -> torch.Tensor:
    """Return attended values (B, N, H, D)."""
    q_BHND, k_BHND, v_BHND = (x if x.stride(-1) == 1 else x.contiguous() for x in qkv_3BHND)
    run = Launcher(q_BHND, len(projection_MD))
    with torch.cuda.device_of(q_BHND):
        directions_PD = run.directions(projection_MD)
        parts = run.parts(k_BHND, v_BHND, directions_PD)
        scope = {"per_head": (2, 3), "per_cell": (1, 2, 3), "global": (0, 1, 2, 3)}[stabilizer]
        stabilizer_BH = parts.top.amax(scope, keepdim=True)[..., 0, 0].expand(run.B, run.H).contiguous()
        context_BHPD, z_BHP, *floors = run.combine(parts, stabilizer_BH)
        out_BNHD = run.new(run.B, run.N, run.H, run.D, dtype=run.dtype)
        top_BHN, den_BHN = run.new(run.B, run.H, run.N), run.new(run.B, run.H, run.N)
        run.launch("query", *strided(q_BHND), directions_PD, context_BHPD, z_BHP, *floors, out_BNHD, top_BHN, den_BHN)
    through = stabilizer != "per_head"
    ctx.save_for_backward(
        q_BHND,
        k_BHND,
        v_BHND,
        projection_MD,
        directions_PD,
        context_BHPD,
        z_BHP,
        out_BNHD,
        top_BHN,
        den_BHN,
        stabilizer_BH,
        parts.top if through else None,
    )
    ctx.stabilizer, ctx.through = stabilizer, through
    return out_BNHD


def _backward(ctx: Any, dout_BNHD: torch.Tensor, dqkv_3BHND: tuple[torch.Tensor, ...]) -> None:
    """Write the gradients of queries, keys and values."""
    (
        q_BHND,
        k_BHND,
        v_BHND,
        projection_MD,
        directions_PD,
        context_BHPD,
        z_BHP,
        out_BNHD,
        top_BHN,
        den_BHN,
        stabilizer_BH,
        top_BHSP,
    ) = ctx.saved_tensors
    dq_BHND, dk_BHND, dv_BHND = dqkv_3BHND
    dout_BHND = (dout_BNHD if dout_BNHD.stride(-1) == 1 else dout_BNHD.contiguous()).transpose(1, 2)
    run = Launcher(q_BHND, len(projection_MD))
    with torch.cuda.device_of(q_BHND):
        dden_BHN = torch.empty_like(den_BHN)
        n_tiles = -(-run.N // favor_launch.TILES[run.dtype]["gradient"].positions)
        total_BHT = run.new(run.B, run.H, n_tiles)
        run.launch(
            "gradient",
            *strided(q_BHND),
            *strided(dout_BHND),
            directions_PD,
            context_BHPD,
            z_BHP,
            None,
            top_BHN,
            den_BHN,
            dden_BHN,
            out_BNHD,
            *strided(dq_BHND),
            *strided(dq_BHND),
            None,
            KEYS=False,
            THROUGH=ctx.through,
        )
        parts = run.parts(q_BHND, dout_BHND, directions_PD, top_BHN, den_BHN, dden_BHN)
        dcontext_BHPD, dz_BHP, floor_BHD, _ = run.combine(parts)
        run.launch(
            "gradient",
            *strided(k_BHND),
            *strided(v_BHND),
            directions_PD,
            dcontext_BHPD,
            dz_BHP,
            floor_BHD,
            stabilizer_BH,
            None,
            None,
            None,
            *strided(dk_BHND),
            *strided(dv_BHND),
            total_BHT,
            KEYS=True,
            THROUGH=ctx.through,
        )
        if ctx.through:
            _through_the_stabilizer(
                k_BHND, dk_BHND, projection_MD, directions_PD, top_BHSP, total_BHT.sum(-1), ctx.stabilizer
            )


def _through_the_stabilizer(
    k_BHND: torch.Tensor,
    dk_BHND: torch.Tensor,
    projection_MD: torch.Tensor,
    directions_PD: torch.Tensor,
    top_BHSP: torch.Tensor,
    total_BH: torch.Tensor,
    stabilizer: Stabilizer,
) -> None:
    """Add to the gradient of the keys what flows through the maximum, minus all that flows to exponents.

    The place of the maximum is known up to its chunk of positions, whose exponents are made once more. Nothing here
    waits for the GPU.
    """
    _, H, S, P = top_BHSP.shape
    N, D = k_BHND.shape[2:]
    groups_G = len(top_BHSP) if stabilizer == "per_cell" else 1
    where_G = top_BHSP.reshape(groups_G, -1).argmax(1)
    feature_G = where_G % P
    feature_G = feature_G * (feature_G < len(projection_MD))  # padding is copies of the first direction
    chunk_G = where_G // P % S
    head_G = where_G // (P * S) % H
    cell_G = where_G // (P * S * H) if stabilizer == "global" else torch.arange(groups_G, device=k_BHND.device)
    chunk = favor_launch.CHUNK
    positions_GC = (chunk_G[:, None] * chunk + torch.arange(min(chunk, N), device=k_BHND.device)).clamp(max=N - 1)
    keys_GCD = k_BHND[cell_G[:, None], head_G[:, None], positions_GC].float()
    exponents_GC = (keys_GCD * directions_PD[feature_G].float()[:, None]).sum(-1)
    position_G = positions_GC.gather(1, exponents_GC.argmax(1, keepdim=True))[:, 0]
    lost_G = total_BH.view(groups_G, -1).sum(1)
    direction_GD = D**-0.25 * projection_MD[feature_G].float()
    dk_BHND[cell_G, head_G, position_G] -= (lost_G[:, None] * direction_GD).to(dk_BHND.dtype)
