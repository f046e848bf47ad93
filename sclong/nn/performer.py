"""Pre-norm Performer encoder; parameter names are those of the published checkpoint.

Shapes: B cells, N positions, W width of the encoder, H heads, D width of a head.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, cast

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from sclong.nn.compilation import compile_or_eager
from sclong.nn.favor import ExactAttention, FavorAttention, Kernels, Stabilizer


@dataclass(frozen=True)
class PerformerOptions:
    """How a Performer computes; see the keys of the same names in :class:`sclong.config.load.Architecture`."""

    ff_mult: int = 4
    stabilizer: Stabilizer = "per_head"
    attention: Literal["favor", "exact"] = "favor"
    kernels: Kernels = "fast"
    recompute_layers: bool = False
    compile: bool = False


class SelfAttention(nn.Module):
    """Multi-head self-attention: q, k, v without bias, output with bias.

    The three projections are parameters of their own, as published, and one product of matrices.
    """

    def __init__(self, dim: int, heads: int, dim_head: int, options: PerformerOptions) -> None:
        super().__init__()
        inner = heads * dim_head
        self.heads, self.merged = heads, options.kernels != "oracle"
        self.fast_attention: nn.Module = (
            ExactAttention()
            if options.attention == "exact"
            else FavorAttention(dim_head, options.stabilizer, options.kernels)
        )
        self.to_q = nn.Linear(dim, inner, bias=False)
        self.to_k = nn.Linear(dim, inner, bias=False)
        self.to_v = nn.Linear(dim, inner, bias=False)
        self.to_out = nn.Linear(inner, dim)

    def forward(self, x_BNW: torch.Tensor) -> torch.Tensor:
        """Return (B, N, W)."""
        projections = (self.to_q, self.to_k, self.to_v)
        if self.merged:
            qkv_BNI = nn.functional.linear(x_BNW, torch.cat([p.weight for p in projections]))
        else:
            qkv_BNI = torch.cat([project(x_BNW) for project in projections], -1)
        qkv_BN3HD = qkv_BNI.unflatten(-1, (3, self.heads, -1))
        return self.to_out(self.fast_attention(qkv_BN3HD).flatten(2))


class FeedForward(nn.Module):
    """Linear, GELU (erf), Linear; the backward pass computes the GELU again instead of keeping its output."""

    def __init__(self, dim: int, mult: int, options: PerformerOptions) -> None:
        super().__init__()
        self.w1 = nn.Linear(dim, mult * dim)
        self.w2 = nn.Linear(mult * dim, dim)
        self.lean = options.kernels != "oracle" and not options.compile  # a compiler decides itself what to keep

    def forward(self, x_BNW: torch.Tensor) -> torch.Tensor:
        """Return (B, N, W)."""
        hidden_BNF = self.w1(x_BNW)
        if self.lean and torch.is_grad_enabled():
            return _GeluLinear.apply(hidden_BNF, self.w2.weight, self.w2.bias)
        return self.w2(nn.functional.gelu(hidden_BNF))


class _GeluLinear(torch.autograd.Function):
    """``gelu(x) W.T + b`` that keeps x, not gelu(x)."""

    @staticmethod
    def forward(ctx: Any, x_BNF: torch.Tensor, weight_WF: torch.Tensor, bias_W: torch.Tensor) -> torch.Tensor:
        """Return (B, N, W) in the precision of x."""
        ctx.save_for_backward(x_BNF, weight_WF)
        with torch.autocast(x_BNF.device.type, enabled=False):
            return nn.functional.linear(nn.functional.gelu(x_BNF), weight_WF.to(x_BNF.dtype), bias_W.to(x_BNF.dtype))

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return the gradients of x, weight and bias."""
        x_BNF, weight_WF = ctx.saved_tensors
        d_KW = grads[0].flatten(0, 1)
        with torch.autocast(x_BNF.device.type, enabled=False):
            dweight_WF = d_KW.T @ nn.functional.gelu(x_BNF).flatten(0, 1)
            dgelu_BNF = (d_KW @ weight_WF.to(x_BNF.dtype)).view_as(x_BNF)
            dx_BNF = torch.ops.aten.gelu_backward(dgelu_BNF, x_BNF)
        dtype = weight_WF.dtype
        return dx_BNF, dweight_WF.to(dtype), d_KW.sum(0, dtype=dtype)


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

    def __init__(self, layers: nn.ModuleList, options: PerformerOptions) -> None:
        super().__init__()
        self.layers, self.recompute = layers, options.recompute_layers
        self._sublayer = compile_or_eager(_residual) if options.compile else _residual

    def _layer(self, x_BNW: torch.Tensor, attention: nn.Module, feed_forward: nn.Module) -> torch.Tensor:
        return self._sublayer(_residual(x_BNW, attention), feed_forward)

    def forward(self, x_BNW: torch.Tensor) -> torch.Tensor:
        """Return (B, N, W)."""
        for pair in self.layers:
            attention, feed_forward = cast(nn.ModuleList, pair)
            if self.recompute and torch.is_grad_enabled():
                x_BNW = checkpoint(
                    self._layer, x_BNW, attention, feed_forward, use_reentrant=False, preserve_rng_state=False
                )
            else:
                x_BNW = self._layer(x_BNW, attention, feed_forward)
        return x_BNW


def _residual(x_BNW: torch.Tensor, sublayer: nn.Module) -> torch.Tensor:
    return x_BNW + sublayer(x_BNW)


class Performer(nn.Module):
    """Stack of pre-norm residual layers without a final norm.

    Parameters
    ----------
    dim, depth, heads, dim_head
        Width, number of layers, heads and their width.
    options
        How it computes.
    """

    def __init__(
        self, dim: int, depth: int, heads: int, dim_head: int, options: PerformerOptions = PerformerOptions()
    ) -> None:
        super().__init__()
        layers = [
            nn.ModuleList(
                [
                    PreNorm(dim, SelfAttention(dim, heads, dim_head, options)),
                    PreNorm(dim, Wrapped(FeedForward(dim, options.ff_mult, options))),
                ]
            )
            for _ in range(depth)
        ]
        self.net = Layers(nn.ModuleList(layers), options)
        self.register_buffer("calls_since_last_redraw", torch.zeros((), dtype=torch.int64))

    def forward(self, x_BNW: torch.Tensor) -> torch.Tensor:
        """Return (B, N, W)."""
        return self.net(x_BNW)
