"""How the Triton kernels of the attention are launched: tiles, precision, memory (:mod:`.favor_triton` uses it).

Shapes as in :mod:`.favor_triton`.
"""

from __future__ import annotations

import importlib.util
from functools import cache
from types import ModuleType
from typing import Any, NamedTuple

import torch

from sclong.errors import ConfigError
from sclong.nn.favor_features import EPS

WIDTHS = (16, 32, 64)
CHUNK = 1024
"""Positions per program that sums a context; a multiple of every tile."""
LOG2E = 1.4426950408889634


class Tile(NamedTuple):
    """How a kernel is cut: positions and features of a tile, warps of a program, stages of its pipeline."""

    positions: int
    features: int
    warps: int
    stages: int


TILES = {
    torch.bfloat16: {"context": Tile(64, 256, 8, 2), "query": Tile(128, 64, 8, 3), "gradient": Tile(64, 64, 4, 2)},
    torch.float32: {"context": Tile(32, 32, 4, 2), "query": Tile(64, 32, 8, 2), "gradient": Tile(32, 32, 4, 2)},
}


@cache
def kernels_here() -> ModuleType | None:
    """Return the kernels where they can run: Triton, and its interpreter or a GPU of compute capability 8 or more."""
    if importlib.util.find_spec("triton") is None:
        return None
    from sclong.nn import favor_kernels

    if is_interpreted(favor_kernels):
        return favor_kernels
    return favor_kernels if torch.cuda.is_available() and torch.cuda.get_device_capability() >= (8, 0) else None


def is_interpreted(kernels: ModuleType) -> bool:
    """Return whether TRITON_INTERPRET=1 was set when the kernels were imported: they run on the CPU."""
    return not isinstance(kernels.query_kernel, kernels.triton.runtime.JITFunction)


def takes(x: torch.Tensor) -> bool:
    """Return whether the kernels take a tensor (..., D) here."""
    kernels = kernels_here()
    if kernels is None or not (x.is_cuda or is_interpreted(kernels)):
        return False
    return x.dtype in TILES and x.shape[-1] in WIDTHS


def float32_precision() -> str:
    """Return "tf32" where torch may use it for matrix products on CUDA, else "ieee"."""
    matmul = torch.backends.cuda.matmul
    if hasattr(matmul, "fp32_precision"):  # torch 2.9 or newer, which refuses to mix this with the older name
        return "tf32" if matmul.fp32_precision == "tf32" else "ieee"
    return "tf32" if matmul.allow_tf32 else "ieee"


def strided(x_BHND: torch.Tensor) -> tuple[torch.Tensor, int, int, int]:
    """Return a tensor and its strides over cells, positions and heads, as kernels take them."""
    return x_BHND, x_BHND.stride(0), x_BHND.stride(2), x_BHND.stride(1)


class Parts(NamedTuple):
    """Sums over chunks of positions, and largest exponents, (B, H, S, ...)."""

    context: torch.Tensor
    z: torch.Tensor
    top: torch.Tensor
    values: torch.Tensor
    weights: torch.Tensor


class Launcher:
    """The kernels, with what the tensors of a call decide: padding, tiles, precision."""

    def __init__(self, like_BHND: torch.Tensor, n_features: int) -> None:
        kernels = kernels_here()
        if kernels is None or not takes(like_BHND):
            raise ConfigError(
                found=f"the fused attention kernel was given {like_BHND.dtype}, heads of width {like_BHND.shape[-1]}, "
                f"on {like_BHND.device}",
                expected=f"float32 or bfloat16, widths {WIDTHS}, a CUDA device of capability 8.0 or more, and Triton",
                action="use the blocked computation (kernels: blocks)",
            )
        self.kernels = kernels
        self.B, self.H, self.N, self.D = like_BHND.shape
        self.M, self.dtype, self.device = n_features, like_BHND.dtype, like_BHND.device
        cdiv, power_of_2 = self.kernels.triton.cdiv, self.kernels.triton.next_power_of_2
        self.S = cdiv(self.N, CHUNK)
        if self.dtype == torch.float32:
            self.main, self.tail = 32 * cdiv(self.M, 32), 0
        else:  # one wide tile and a narrow one: 256 + 16 for 266
            self.main = max(16, power_of_2(self.M + 1) // 2)
            self.tail = max(16, power_of_2(self.M - self.main)) if self.main < self.M else 0
        self.P = self.main + self.tail
        self.precision = "interpreted" if is_interpreted(self.kernels) else float32_precision()

    def new(self, *shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        """Return uninitialised memory."""
        return torch.empty(shape, dtype=dtype, device=self.device)

    def directions(self, projection_MD: torch.Tensor) -> torch.Tensor:
        """Return directions in base 2 with the scale of queries and keys, padded with copies of the first: (P, D)."""
        padding = projection_MD[:1].expand(self.P - self.M, -1)
        return (torch.cat([projection_MD, padding]).float() * (LOG2E * self.D**-0.25)).to(self.dtype)

    def launch(self, name: str, *args: Any, **constants: Any) -> None:
        """Run "context", "query" or "gradient"."""
        tile = TILES[self.dtype][name]
        features = min(tile.features, self.main)
        grid: tuple[int, ...]
        if name == "context":
            grid = (self.S, self.B * self.H, self.main // features)
            constants |= {"S": self.S, "CHUNK": CHUNK}
        else:
            grid = (-(-self.N // tile.positions), self.B * self.H)
        getattr(self.kernels, f"{name}_kernel")[grid](
            *args,
            self.H,
            self.N,
            **constants,
            D=self.D,
            MAIN=self.main,
            TAIL=self.tail,
            TM=features,
            TN=tile.positions,
            PRECISION=self.precision,
            num_warps=tile.warps,
            num_stages=tile.stages,
        )

    def parts(self, x_BHND: torch.Tensor, y_BHND: torch.Tensor, directions_PD: torch.Tensor, *stats: Any) -> Parts:
        """Sum features and values over chunks; `stats` of queries: largest exponents, denominators, their gradients."""
        lead = (self.B, self.H, self.S)
        parts = Parts(
            self.new(*lead, self.P, self.D),
            self.new(*lead, self.P),
            self.new(*lead, self.P),
            self.new(*lead, self.D),
            self.new(*lead),
        )
        top, den, dden = stats or (None, None, None)
        self.launch(
            "context", *strided(x_BHND), *strided(y_BHND), directions_PD, top, den, dden, *parts, KEYS=not stats
        )
        return parts

    def combine(self, parts: Parts, stabilizer_BH: torch.Tensor | None = None) -> tuple[torch.Tensor, ...]:
        """Return the context (B, H, P, D) and z (B, H, P) with the floor of the features they sum, and eps times the
        sums of both over features, (B, H, D) and (B, H).
        """  # noqa: D205
        lead = (self.B, self.H)
        results = (
            self.new(*lead, self.P, self.D, dtype=self.dtype),
            self.new(*lead, self.P),
            self.new(*lead, self.D),
            self.new(*lead),
        )
        self.kernels.combine_kernel[(self.B * self.H, self.D // 16)](
            parts.context,
            parts.z,
            parts.values,
            parts.weights,
            stabilizer_BH,
            *results,
            self.S,
            self.M,
            EPS=EPS,
            SCALE=stabilizer_BH is not None,
            D=self.D,
            PADDED=self.P,
            TM=self.kernels.triton.next_power_of_2(self.P),
            num_warps=8,
        )
        return results
