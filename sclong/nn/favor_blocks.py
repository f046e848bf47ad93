"""FAVOR+ attention in blocks of positions: the arithmetic of :mod:`sclong.nn.favor_features`, without its big arrays.

Random features of all positions, (B, H, N, M), are never held: a block's features live in one buffer that is used
again for the next block, and the backward pass computes them anew. What is saved for it is q, k, v, the output, the
context (B, H, M, D + 1), and a few numbers per position and head.

How the features of a block are made. With exponents s = c x . directions (c = D**-0.25) and h = c**2 |x|**2 / 2, a
feature is ``exp(s - h - stabilizer) + eps``; the factor M**-0.5 cancels between numerator and denominator. A softmax
over the M exponents of a row gives ``p = exp(s - max s) / Z`` in one pass that stays in cache. So
``exp(s - h - stabilizer)`` is p times one number per row, and that number is put on the narrow side (D + 1 columns of
values) of each product. The eps of all positions is a term of rank one: column sums of the context, and sums of the
values. For keys, the stabilizer is a maximum over all positions: it is taken as it grows, and the context is rescaled
when it does.

Shapes: B cells, H heads (of a cell, or of a group of cells side by side), N positions, D width of a head, M random
features, n positions of a block, E = D + 1 (values, and a column of ones that sums the features).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from sclong.nn.favor_features import EPS, Stabilizer

BLOCK_BYTES = {"cpu": 9_000_000, "cuda": 256_000_000}
"""Size of the buffer for the float32 features of a block; on a CPU it should stay in a cache."""


def _blocks(n_positions: int, heads: int, features: int, like: torch.Tensor) -> tuple[torch.Tensor, Iterator[slice]]:
    """Return a buffer (H * n * M elements) and the blocks of positions that fit it."""
    budget = BLOCK_BYTES["cuda" if like.is_cuda else "cpu"]
    length = max(1, min(n_positions, budget // (heads * features * 4)))
    starts = range(0, n_positions, length)
    # processors reduce half precisions slowly: there exponents and their softmax are float32, and only products are not
    dtype = like.dtype if like.is_cuda else _wide(like.dtype)
    buffer = like.new_empty(heads * length * features, dtype=dtype)
    return buffer, (slice(s, min(s + length, n_positions)) for s in starts)


def _low(buffer: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Return where the features of a block are put for products: the buffer itself where it has their precision."""
    return buffer if buffer.dtype == dtype else torch.empty_like(buffer, dtype=dtype)


def _groups(qkv_BN3HD: torch.Tensor, features: int, together: bool) -> list[slice]:
    """Return the groups of cells that are computed together: those whose features fit the buffer, else single cells."""
    cells, n_positions, _, heads, _ = qkv_BN3HD.shape
    budget = BLOCK_BYTES["cuda" if qkv_BN3HD.is_cuda else "cpu"]
    size = max(1, budget // (heads * n_positions * features * 4)) if together else 1
    return [slice(start, min(start + size, cells)) for start in range(0, cells, size)]


def _as_heads(x_GNTHD: torch.Tensor) -> torch.Tensor:
    """Return the heads of a group of cells side by side, (T, G * H, N, D): a view of a single cell, else a copy."""
    group, n_positions, kinds, heads, dim = x_GNTHD.shape
    return x_GNTHD.permute(2, 0, 3, 1, 4).reshape(kinds, group * heads, n_positions, dim)


def _wide(dtype: torch.dtype) -> torch.dtype:
    """Return the precision of sums: float32 for half precisions."""
    return torch.float32 if dtype.itemsize < 4 else dtype


def _rows(buffer: torch.Tensor, x_HnD: torch.Tensor, directions_HDM: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return exponents of a block, in the buffer, and half the squared norms (H, n)."""
    heads, n, dim = x_HnD.shape
    s_HnM = buffer[: heads * n * directions_HDM.shape[-1]].view(heads, n, -1)
    torch.bmm(x_HnD.to(buffer.dtype), directions_HDM.to(buffer.dtype), out=s_HnM)
    return s_HnM, 0.5 * dim**-0.5 * x_HnD.to(_wide(x_HnD.dtype)).square().sum(-1)


def _softmax(s_HnM: torch.Tensor, low: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Turn exponents into their softmax, in `low`; return it and Z (H, n), in units of the largest exponential."""
    p_HnM = torch.softmax(s_HnM, -1, out=s_HnM)
    z_Hn = p_HnM.amax(-1).to(_wide(p_HnM.dtype)).reciprocal()
    low_HnM = low[: p_HnM.numel()].view_as(p_HnM)
    return (p_HnM if low.dtype == p_HnM.dtype else low_HnM.copy_(p_HnM)), z_Hn


def _key_context(
    k_HND: torch.Tensor, v_HND: torch.Tensor, directions_HDM: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the context without eps (H, M, E), stabilizer (H,), and ln Z + max - h and max per key (H, N)."""
    heads, n_positions, dim = k_HND.shape
    wide = _wide(k_HND.dtype)
    features = directions_HDM.shape[-1]
    buffer, blocks = _blocks(n_positions, heads, features, k_HND)
    low = _low(buffer, k_HND.dtype)
    context_HME = k_HND.new_zeros(heads, features, dim + 1, dtype=wide)
    reference_H = k_HND.new_full((heads,), -torch.inf, dtype=wide)
    log_weight_HN = k_HND.new_empty(heads, n_positions, dtype=wide)
    top_HN = k_HND.new_empty(heads, n_positions, dtype=wide)
    for block in blocks:
        s_HnM, half_norm_Hn = _rows(buffer, k_HND[:, block], directions_HDM)
        top_HN[:, block] = s_HnM.amax(-1)
        p_HnM, z_Hn = _softmax(s_HnM, low)
        log_weight_HN[:, block] = z_Hn.log() + top_HN[:, block] - half_norm_Hn
        higher_H = torch.maximum(reference_H, top_HN[:, block].amax(-1))
        weight_Hn1 = (log_weight_HN[:, block] - higher_H[:, None]).exp().unsqueeze(-1)
        values_HnE = torch.cat([v_HND[:, block] * weight_Hn1, weight_Hn1], -1).to(k_HND.dtype)
        context_HME *= (reference_H - higher_H).exp()[:, None, None]
        context_HME += torch.bmm(p_HnM.transpose(1, 2), values_HnE)
        reference_H = higher_H
    return context_HME, reference_H, log_weight_HN, top_HN


def _query(
    q_HND: torch.Tensor, context_HME: torch.Tensor, directions_HDM: torch.Tensor, out_HND: torch.Tensor
) -> torch.Tensor:
    """Write attended values; return the denominators (H, N)."""
    heads, n_positions, dim = q_HND.shape
    buffer, blocks = _blocks(n_positions, heads, directions_HDM.shape[-1], q_HND)
    low = _low(buffer, q_HND.dtype)
    low_HME = context_HME.to(q_HND.dtype)
    floor_H1E = EPS * context_HME.sum(1, keepdim=True)
    denominator_HN = torch.empty(heads, n_positions, dtype=context_HME.dtype, device=q_HND.device)
    for block in blocks:
        s_HnM, half_norm_Hn = _rows(buffer, q_HND[:, block], directions_HDM)
        p_HnM, z_Hn = _softmax(s_HnM, low)
        y_HnE = torch.bmm(p_HnM, low_HME) * (z_Hn * (-half_norm_Hn).exp()).unsqueeze(-1) + floor_H1E
        denominator_HN[:, block] = y_HnE[..., dim]
        out_HND[:, block] = y_HnE[..., :dim] / y_HnE[..., dim:]
    return denominator_HN


def blocked_attention(qkv_BN3HD: torch.Tensor, projection_MD: torch.Tensor, stabilizer: Stabilizer) -> torch.Tensor:
    """Return attended values, (B, N, H, D), of merged queries, keys and values.

    Without gradients, cells are computed one after the other, so that no number of a cell depends on how many others
    there are (but for the stabilizer "global"). In training, cells whose features fit the buffer together are computed
    as one. Random directions get no gradient.
    """
    together = torch.is_grad_enabled() and qkv_BN3HD.requires_grad
    return _BlockedFavor.apply(qkv_BN3HD, projection_MD, stabilizer, together)


class _BlockedFavor(torch.autograd.Function):
    """Attention over merged queries, keys and values; see :func:`blocked_attention`."""

    @staticmethod
    def forward(
        ctx: Any, qkv_BN3HD: torch.Tensor, projection_MD: torch.Tensor, stabilizer: Stabilizer, together: bool
    ) -> torch.Tensor:
        """Return attended values (B, N, H, D)."""
        with torch.autocast(qkv_BN3HD.device.type, enabled=False):
            return _forward(ctx, qkv_BN3HD, projection_MD, stabilizer, together)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor, None, None, None]:
        """Return the gradient of the merged queries, keys and values."""
        with torch.autocast(grads[0].device.type, enabled=False):
            return _backward(ctx, grads[0]), None, None, None


def _forward(
    ctx: Any, qkv_BN3HD: torch.Tensor, projection_MD: torch.Tensor, stabilizer: Stabilizer, together: bool
) -> torch.Tensor:
    cells, n_positions, _, heads, dim = qkv_BN3HD.shape
    directions_DM = (dim**-0.25 * projection_MD).to(qkv_BN3HD.dtype).T
    groups = _groups(qkv_BN3HD, len(projection_MD), together)
    parts = []
    for group in groups:
        _, k_HND, v_HND = _as_heads(qkv_BN3HD[group]).unbind()
        parts.append(_key_context(k_HND, v_HND, directions_DM.expand(len(k_HND), dim, -1)))
    context_BHME, reference_BH, log_weight_BHN, top_BHN = (
        torch.cat(part).unflatten(0, (cells, heads)) for part in zip(*parts, strict=True)
    )
    scope = {"per_head": (), "per_cell": (1,), "global": (0, 1)}[stabilizer]
    stabilizer_BH = reference_BH.amax(scope, keepdim=True).expand_as(reference_BH) if scope else reference_BH
    bare_BHME = context_BHME * (reference_BH - stabilizer_BH).exp()[..., None, None]
    sums_BHE = torch.cat(
        [
            qkv_BN3HD[:, :, 2].sum(1, dtype=bare_BHME.dtype),
            bare_BHME.new_full((cells, heads, 1), float(n_positions)),
        ],
        -1,
    )
    context_BHME = bare_BHME + EPS * sums_BHE.unsqueeze(2)
    out_BNHD = torch.empty_like(qkv_BN3HD[:, :, 0], memory_format=torch.contiguous_format)
    denominators = []
    for group in groups:
        q_HND = _as_heads(qkv_BN3HD[group, :, :1])[0]
        single = group.stop - group.start == 1
        out_HND = out_BNHD[group.start].transpose(0, 1) if single else torch.empty_like(q_HND)
        context_HME = context_BHME[group].flatten(0, 1)
        denominators.append(_query(q_HND, context_HME, directions_DM.expand(len(q_HND), dim, -1), out_HND))
        if not single:
            out_BNHD[group] = out_HND.unflatten(0, (-1, heads)).transpose(1, 2)
    denominator_BHN = torch.cat(denominators).unflatten(0, (cells, heads))
    ctx.save_for_backward(
        qkv_BN3HD,
        projection_MD,
        context_BHME,
        log_weight_BHN - stabilizer_BH.unsqueeze(-1),
        top_BHN == stabilizer_BH.unsqueeze(-1),
        out_BNHD,
        denominator_BHN,
    )
    ctx.stabilizer, ctx.together = stabilizer, together
    return out_BNHD


def _backward(ctx: Any, dout_BNHD: torch.Tensor) -> torch.Tensor:
    qkv_BN3HD, projection_MD, context_BHME, log_weight_BHN, highest_BHN, out_BNHD, denominator_BHN = ctx.saved_tensors
    cells, _, _, heads, dim = qkv_BN3HD.shape
    directions_DM = (dim**-0.25 * projection_MD).to(qkv_BN3HD.dtype).T
    through = ctx.stabilizer != "per_head"
    dqkv_BN3HD = torch.empty_like(qkv_BN3HD, memory_format=torch.contiguous_format)
    lost = []
    for group in _groups(qkv_BN3HD, len(projection_MD), ctx.together):
        q_HND, k_HND, v_HND = _as_heads(qkv_BN3HD[group]).unbind()
        single = group.stop - group.start == 1
        dqkv_3HND = dqkv_BN3HD[group.start].permute(1, 2, 0, 3) if single else q_HND.new_empty(3, *q_HND.shape)
        dq_HND, dk_HND, dv_HND = dqkv_3HND.unbind()
        directions_HDM = directions_DM.expand(len(q_HND), dim, -1)
        dcontext_HME = _query_backward(
            q_HND,
            context_BHME[group].flatten(0, 1),
            directions_HDM,
            _as_heads(out_BNHD[group].unsqueeze(2))[0],
            denominator_BHN[group].flatten(0, 1),
            _as_heads(dout_BNHD[group].unsqueeze(2))[0],
            dq_HND,
            through,
        )
        log_weight_HN = log_weight_BHN[group].flatten(0, 1)
        lost.append(_key_backward(k_HND, v_HND, dcontext_HME, directions_HDM, log_weight_HN, dk_HND, dv_HND))
        if not single:
            dqkv_BN3HD[group] = dqkv_3HND.unflatten(1, (-1, heads)).permute(1, 3, 0, 2, 4)
    if through:
        _through_the_stabilizer(
            qkv_BN3HD[:, :, 1],
            dqkv_BN3HD[:, :, 1],
            directions_DM,
            highest_BHN,
            torch.cat(lost).unflatten(0, (cells, heads)),
            ctx.stabilizer,
        )
    return dqkv_BN3HD


def _query_backward(
    q_HND: torch.Tensor,
    context_HME: torch.Tensor,
    directions_HDM: torch.Tensor,
    out_HND: torch.Tensor,
    denominator_HN: torch.Tensor,
    dout_HND: torch.Tensor,
    dq_HND: torch.Tensor,
    through: bool,
) -> torch.Tensor:
    """Write the gradient of the queries; return that of the context (H, M, E)."""
    heads, n_positions, dim = q_HND.shape
    features = directions_HDM.shape[-1]
    wide = context_HME.dtype
    buffer, blocks = _blocks(n_positions, heads, features, q_HND)
    low, other = _low(buffer, q_HND.dtype), torch.empty_like(buffer, dtype=q_HND.dtype)
    low_HEM = context_HME.to(q_HND.dtype).transpose(1, 2)
    directions_HMD = directions_HDM.transpose(1, 2)
    dcontext_HME = torch.zeros_like(context_HME)
    for block in blocks:
        s_HnM, half_norm_Hn = _rows(buffer, q_HND[:, block], directions_HDM)
        p_HnM, z_Hn = _softmax(s_HnM, low)
        dy_HnD = dout_HND[:, block].to(wide) / denominator_HN[:, block].unsqueeze(-1)
        dy_HnE = torch.cat([dy_HnD, -(dy_HnD * out_HND[:, block]).sum(-1, keepdim=True)], -1)
        scaled_HnE = (dy_HnE * (z_Hn * (-half_norm_Hn).exp()).unsqueeze(-1)).to(q_HND.dtype)
        dcontext_HME += torch.bmm(p_HnM.transpose(1, 2), scaled_HnE)
        dcontext_HME += EPS * dy_HnE.sum(1, keepdim=True)
        ds_HnM = other[: p_HnM.numel()].view_as(p_HnM)
        torch.bmm(scaled_HnE, low_HEM, out=ds_HnM)
        ds_HnM *= p_HnM
        total_Hn1 = ds_HnM.sum(-1, keepdim=True, dtype=wide)
        if through:  # the maximum of each query is where p is largest
            is_top_HnM = p_HnM == p_HnM.amax(-1, keepdim=True)
            ds_HnM -= is_top_HnM * (total_Hn1 / is_top_HnM.sum(-1, keepdim=True)).to(ds_HnM.dtype)
        dq_HND[:, block] = torch.bmm(ds_HnM, directions_HMD) - dim**-0.5 * total_Hn1 * q_HND[:, block]
    return dcontext_HME


def _key_backward(
    k_HND: torch.Tensor,
    v_HND: torch.Tensor,
    dcontext_HME: torch.Tensor,
    directions_HDM: torch.Tensor,
    log_weight_HN: torch.Tensor,
    dk_HND: torch.Tensor,
    dv_HND: torch.Tensor,
) -> torch.Tensor:
    """Write the gradients of keys and values, the stabilizer held; return minus the stabilizer's (H,)."""
    heads, n_positions, dim = k_HND.shape
    wide = dcontext_HME.dtype
    buffer, blocks = _blocks(n_positions, heads, directions_HDM.shape[-1], k_HND)
    low, other = _low(buffer, k_HND.dtype), torch.empty_like(buffer, dtype=k_HND.dtype)
    low_HME = dcontext_HME.to(k_HND.dtype)
    low_HEM = low_HME.transpose(1, 2)
    directions_HMD = directions_HDM.transpose(1, 2)
    floor_H1D = EPS * dcontext_HME.sum(1, keepdim=True)[..., :dim]
    total_H = dcontext_HME.new_zeros(heads)
    for block in blocks:
        p_HnM, _ = _softmax(_rows(buffer, k_HND[:, block], directions_HDM)[0], low)
        weight_Hn1 = log_weight_HN[:, block].exp().unsqueeze(-1)
        u_HnD = torch.bmm(p_HnM, low_HME[..., :dim].contiguous())
        dv_HND[:, block] = weight_Hn1 * u_HnD + floor_H1D
        values_HnE = torch.cat([v_HND[:, block] * weight_Hn1, weight_Hn1], -1).to(k_HND.dtype)
        ds_HnM = other[: p_HnM.numel()].view_as(p_HnM)
        torch.bmm(values_HnE, low_HEM, out=ds_HnM)
        ds_HnM *= p_HnM
        total_Hn1 = ds_HnM.sum(-1, keepdim=True, dtype=wide)
        total_H += total_Hn1.sum((1, 2))
        dk_HND[:, block] = torch.bmm(ds_HnM, directions_HMD) - dim**-0.5 * total_Hn1 * k_HND[:, block]
    return total_H


def _through_the_stabilizer(
    k_BNHD: torch.Tensor,
    dk_BNHD: torch.Tensor,
    directions_DM: torch.Tensor,
    highest_BHN: torch.Tensor,
    lost_BH: torch.Tensor,
    stabilizer: Stabilizer,
) -> None:
    """Add to the gradient of the keys what flows through the maximum; equal maxima share it evenly."""
    cell, head, position = highest_BHN.nonzero(as_tuple=True)
    wide_DM = directions_DM.to(lost_BH.dtype)
    exponents_KM = k_BNHD[cell, position, head].to(lost_BH.dtype) @ wide_DM
    is_top_KM = (exponents_KM == exponents_KM.amax(-1, keepdim=True)).to(lost_BH.dtype)
    if stabilizer == "global":
        share_K = (lost_BH.sum() / is_top_KM.sum()).expand(len(cell))
    else:
        ties_B = lost_BH.new_zeros(len(lost_BH)).index_add_(0, cell, is_top_KM.sum(-1))
        share_K = (lost_BH.sum(1) / ties_B)[cell]
    gradient_KD = -(is_top_KM * share_K[:, None]) @ wide_DM.T
    dk_BNHD.index_put_((cell, position, head), gradient_KD.to(dk_BNHD.dtype), accumulate=True)
