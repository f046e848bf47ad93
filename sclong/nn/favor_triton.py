"""FAVOR+ attention for CUDA, in five Triton kernels that keep random features on the chip.

The function is that of :mod:`sclong.nn.favor_features`, forward and gradients, with features recomputed in backward.

1. `_context_kernel` over keys: each program sums e_k [v | 1] over CHUNK positions and notes the largest exponents;
2. `_combine_kernel`: adds the chunks (no atomics: results are the same in every run), the stabilizer and the floor;
3. `_query_kernel`: attended values, and each query's largest exponent and denominator;
4. `_query_gradient_kernel`: dq, and the gradient of each denominator; then 1 over queries and 2: the context's gradient;
5. `_key_gradient_kernel`: dk and dv.

How a feature ``exp(s - h - stabilizer) + eps`` is made. Directions carry c = D**-0.25 and log2 e, so exponents s and half
squared norms h are in base 2. Completing the square, s - h <= |direction|**2 / 2 (natural): about 60 at the very most for
D = 64, so exp2(s - h) needs no stabilizer in float32. Kernels 1 and 3 sum exp2(s - h) while they look for the maximum,
and multiply the sums by exp2(-maximum) at the end: one pass, no rescaling. The factor M**-0.5 cancels. The floor eps is a
term of rank one: column sums of the context, sums of the values. M is padded with copies of the first direction, which
change no maximum, and rows of zeros in the context; positions are padded with copies of the last one, of weight zero.

Through the maxima ("per_cell", "global") the gradient goes to the first largest exponent; if several are exactly equal,
the oracle shares it evenly.

Memory traffic, in tensors of B N H D elements. Forward: k, v, q are read once and out is written; and 8 bytes a query, and
4 M (D + 2) bytes written and read per CHUNK positions of a head. Backward: q, dout (twice), out, k, v are read, dq, dk, dv
written: 10. Matrix products of 2 M D operations a position and head: 4 forward, 9 backward, with 2 and 3 exponentials a
feature. For D = 64 in bfloat16 that is more arithmetic than traffic, so tensor cores and the exponential unit set the
limit. Sums and exponentials are float32; operands of matrix products have the dtype of the input.

CHUNK depends neither on the batch nor on the device, so a cell's numbers do not depend on its companions ("global" apart).

Shapes: B cells, H heads, N positions, D width of a head, M random features, S chunks; a suffix 3 is q, k and v.
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import torch
from torch.autograd.function import once_differentiable

from sclong.errors import ConfigError
from sclong.nn.favor_features import EPS, Stabilizer

try:
    import triton
    import triton.language as tl
except ImportError:  # there is none for this platform
    triton = None

WIDTHS = (16, 32, 64)
LOG2E = 1.4426950408889634


class Tiles(NamedTuple):
    """How a kernel is cut: positions and features of a tile, warps of a program, stages of the pipeline."""

    positions: int
    features: int
    warps: int
    stages: int


TILES = {
    torch.bfloat16: {"context": Tiles(64, 256, 8, 2), "query": Tiles(128, 64, 8, 2), "gradient": Tiles(128, 64, 8, 2)},
    torch.float32: {"context": Tiles(32, 32, 4, 2), "query": Tiles(64, 32, 4, 2), "gradient": Tiles(32, 32, 4, 2)},
}
CHUNK = 1024


def _jit(kernel: Any) -> Any:
    """Compile for Triton where it is, so that this module can be imported where it is not."""
    return triton.jit(kernel) if triton else kernel


@_jit
def _dot(a, b, acc, PRECISION: tl.constexpr):
    if PRECISION == "interpreted":  # Triton's interpreter holds bfloat16 as integers
        return tl.dot(a.to(tl.float32), b.to(tl.float32), acc, input_precision="ieee")
    return tl.dot(a, b, acc, input_precision=PRECISION)


@_jit
def _head(ptr, bh, H, stride_b, stride_h):
    """Return where cell and head number `bh` begins."""
    return ptr + (bh // H).to(tl.int64) * stride_b + (bh % H).to(tl.int64) * stride_h


@_jit
def _rows(ptr, rows, stride, D: tl.constexpr):
    return tl.load(ptr + rows[:, None] * stride + tl.arange(0, D)[None, :])


@_jit
def _half_norm(x, D: tl.constexpr):
    x = x.to(tl.float32)
    return tl.sum(x * x, 1) * (0.5 * 1.4426950408889634 / D**0.5)


@_jit
def _context_step(acc, z, top, directions, x, y, weight, shift, KEYS: tl.constexpr, PRECISION: tl.constexpr):
    s = _dot(directions, tl.trans(x), None, PRECISION)
    e = tl.exp2(s - shift[None, :])
    if KEYS:
        top = tl.maximum(top, tl.max(s, 1))
    z += tl.sum(e * weight[None, :], 1)
    return _dot(e.to(y.dtype), y, acc, PRECISION), z, top


@_jit
def _context_kernel(
    x_ptr, x_b, x_n, x_h, y_ptr, y_b, y_n, y_h, directions_ptr, top_ptr, den_ptr, dden_ptr,
    context_ptr, z_ptr, max_ptr, sum_ptr, weight_ptr, H, N, S,
    KEYS: tl.constexpr, D: tl.constexpr, MAIN: tl.constexpr, TAIL: tl.constexpr, TM: tl.constexpr, TN: tl.constexpr,
    CHUNK: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Sum feature^T [y | weight] over a chunk. Keys: y = v, weight 1. Queries: y = dout / den, weight d den."""
    chunk, bh, tile = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    x_ptr = _head(x_ptr, bh, H, x_b, x_h)
    y_ptr = _head(y_ptr, bh, H, y_b, y_h)
    d = tl.arange(0, D)
    m = tile * TM + tl.arange(0, TM)
    directions = _rows(directions_ptr, m, D, D)
    acc = tl.zeros([TM, D], tl.float32)
    z = tl.zeros([TM], tl.float32)
    top = tl.full([TM], float("-inf"), tl.float32)
    if TAIL:
        tail_m = MAIN + tl.arange(0, TAIL)
        tail_directions = _rows(directions_ptr, tail_m, D, D)
        tail_acc = tl.zeros([TAIL, D], tl.float32)
        tail_z = tl.zeros([TAIL], tl.float32)
        tail_top = tl.full([TAIL], float("-inf"), tl.float32)
    y_sum = tl.zeros([TN, D], tl.float32)
    weight_sum = tl.zeros([TN], tl.float32)
    for start in range(chunk * CHUNK, tl.minimum((chunk + 1) * CHUNK, N), TN):
        n = start + tl.arange(0, TN)
        rows = tl.minimum(n, N - 1)
        x = _rows(x_ptr, rows, x_n, D)
        y = tl.load(y_ptr + rows[:, None] * y_n + d[None, :], (n < N)[:, None], other=0.0)
        shift = _half_norm(x, D)
        if KEYS:
            weight = (n < N).to(tl.float32)
        else:
            at = bh.to(tl.int64) * N + rows
            shift += tl.load(top_ptr + at)
            weight = tl.load(dden_ptr + at, n < N, other=0.0)
            y = (y.to(tl.float32) / tl.load(den_ptr + at)[:, None]).to(x.dtype)
        y_sum += y.to(tl.float32)
        weight_sum += weight
        acc, z, top = _context_step(acc, z, top, directions, x, y, weight, shift, KEYS, PRECISION)
        if TAIL:
            tail_acc, tail_z, tail_top = _context_step(
                tail_acc, tail_z, tail_top, tail_directions, x, y, weight, shift, KEYS, PRECISION
            )
    slot = bh.to(tl.int64) * S + chunk
    at = slot * (MAIN + TAIL) + m
    tl.store(context_ptr + at[:, None] * D + d[None, :], acc)
    tl.store(z_ptr + at, z)
    if KEYS:
        tl.store(max_ptr + at, top)
    if TAIL:
        at = slot * (MAIN + TAIL) + tail_m
        tl.store(context_ptr + at[:, None] * D + d[None, :], tail_acc)
        tl.store(z_ptr + at, tail_z)
        if KEYS:
            tl.store(max_ptr + at, tail_top)
    if tile == 0:
        tl.store(sum_ptr + slot * D + d, tl.sum(y_sum, 0))
        tl.store(weight_ptr + slot, tl.sum(weight_sum, 0))


@_jit
def _combine_kernel(
    parts_ptr, z_parts_ptr, sum_ptr, weight_ptr, stabilizer_ptr, context_ptr, z_ptr, floor_ptr, z_floor_ptr, S, M,
    EPS: tl.constexpr, SCALE: tl.constexpr, D: tl.constexpr, PADDED: tl.constexpr, TM: tl.constexpr,
):  # fmt: skip
    """Add chunks and the other side's floor: context, z; and eps times their column sums, this side's floor."""
    bh = tl.program_id(0).to(tl.int64)
    d = tl.program_id(1) * 16 + tl.arange(0, 16)
    m = tl.arange(0, TM)
    acc = tl.zeros([TM, 16], tl.float32)
    z = tl.zeros([TM], tl.float32)
    y_sum = tl.zeros([16], tl.float32)
    weight_sum = 0.0
    for s in tl.range(0, S, loop_unroll_factor=4):
        at = (bh * S + s) * PADDED + m
        acc += tl.load(parts_ptr + at[:, None] * D + d[None, :], (m < M)[:, None], other=0.0)
        z += tl.load(z_parts_ptr + at, m < M, other=0.0)
        y_sum += tl.load(sum_ptr + (bh * S + s) * D + d)
        weight_sum += tl.load(weight_ptr + bh * S + s)
    if SCALE:
        scale = tl.exp2(-tl.maximum(tl.load(stabilizer_ptr + bh), -100.0))
        acc *= scale
        z *= scale
    acc = tl.where((m < M)[:, None], acc + EPS * y_sum[None, :], 0.0)
    z = tl.where(m < M, z + EPS * weight_sum, 0.0)
    at = bh * PADDED + m
    tl.store(context_ptr + at[:, None] * D + d[None, :], acc.to(context_ptr.dtype.element_ty), (m < PADDED)[:, None])
    tl.store(floor_ptr + bh * D + d, EPS * tl.sum(acc, 0))
    if tl.program_id(1) == 0:
        tl.store(z_ptr + at, z, m < PADDED)
        tl.store(z_floor_ptr + bh, EPS * tl.sum(z, 0))


@_jit
def _query_step(
    acc, den, top, q, half_norm, directions_ptr, context_ptr, z_ptr, m, D: tl.constexpr, PRECISION: tl.constexpr
):
    s = _dot(q, tl.trans(_rows(directions_ptr, m, D, D)), None, PRECISION)
    e = tl.exp2(s - half_norm[:, None])
    top = tl.maximum(top, tl.max(s, 1))
    den += tl.sum(e * tl.load(z_ptr + m)[None, :], 1)
    return _dot(e.to(q.dtype), _rows(context_ptr, m, D, D), acc, PRECISION), den, top


@_jit
def _query_kernel(
    q_ptr, q_b, q_n, q_h, directions_ptr, context_ptr, z_ptr, floor_ptr, z_floor_ptr, out_ptr, top_ptr, den_ptr, H, N,
    D: tl.constexpr, MAIN: tl.constexpr, TAIL: tl.constexpr, TM: tl.constexpr, TN: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """Write attended values of a tile of queries, their largest exponents and their denominators."""
    n, bh = tl.program_id(0) * TN + tl.arange(0, TN), tl.program_id(1).to(tl.int64)
    d = tl.arange(0, D)
    q = _rows(_head(q_ptr, bh, H, q_b, q_h), tl.minimum(n, N - 1), q_n, D)
    half_norm = _half_norm(q, D)
    context_ptr += bh * (MAIN + TAIL) * D
    z_ptr += bh * (MAIN + TAIL)
    acc = tl.zeros([TN, D], tl.float32)
    den = tl.zeros([TN], tl.float32)
    top = tl.full([TN], float("-inf"), tl.float32)
    for start in range(0, MAIN, TM):
        m = start + tl.arange(0, TM)
        acc, den, top = _query_step(acc, den, top, q, half_norm, directions_ptr, context_ptr, z_ptr, m, D, PRECISION)
    if TAIL:
        m = MAIN + tl.arange(0, TAIL)
        acc, den, top = _query_step(acc, den, top, q, half_norm, directions_ptr, context_ptr, z_ptr, m, D, PRECISION)
    scale = tl.exp2(-tl.maximum(top, -100.0))
    den = den * scale + tl.load(z_floor_ptr + bh)
    out = (acc * scale[:, None] + tl.load(floor_ptr + bh * D + d)[None, :]) / den[:, None]
    out_ptr = _head(out_ptr, bh, H, N * H * D, D)
    tl.store(out_ptr + n[:, None] * (H * D) + d[None, :], out.to(q.dtype), (n < N)[:, None])
    tl.store(top_ptr + bh * N + n, top, n < N)
    tl.store(den_ptr + bh * N + n, den, n < N)


@_jit
def _gradient_step(
    dx, dy, total, top, at_top, x, y, weight, shift, directions_ptr, context_ptr, z_ptr, m,
    KEYS: tl.constexpr, ARGMAX: tl.constexpr, D: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    directions = _rows(directions_ptr, m, D, D)
    context = _rows(context_ptr, m, D, D)
    s = _dot(x, tl.trans(directions), None, PRECISION)
    e = tl.exp2(s - shift[:, None])
    ds = e * (_dot(y, tl.trans(context), None, PRECISION) + weight[:, None] * tl.load(z_ptr + m)[None, :])
    if ARGMAX:
        tile_top, index = tl.max(s, 1, return_indices=True)
        at_top = tl.where(tile_top > top, tl.min(m, 0) + index, at_top)
        top = tl.maximum(top, tile_top)
    if KEYS:
        dy = _dot(e.to(x.dtype), context, dy, PRECISION)
    total += tl.sum(ds, 1)
    return _dot(ds.to(x.dtype), directions, dx, PRECISION), dy, total, top, at_top


@_jit
def _gradient_kernel(
    x_ptr, x_b, x_n, x_h, y_ptr, y_b, y_n, y_h, directions_ptr, context_ptr, z_ptr, floor_ptr, top_ptr, den_ptr,
    dden_ptr, out_ptr, dx_ptr, dx_b, dx_n, dx_h, dy_ptr, dy_b, dy_n, dy_h, total_ptr, H, N,
    KEYS: tl.constexpr, THROUGH: tl.constexpr, D: tl.constexpr, MAIN: tl.constexpr, TAIL: tl.constexpr,
    TM: tl.constexpr, TN: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Keys (y = v): dk and dv, the stabilizer held. Queries (y = dout): dq, and the gradient of the denominators."""
    n, bh = tl.program_id(0) * TN + tl.arange(0, TN), tl.program_id(1).to(tl.int64)
    rows = tl.minimum(n, N - 1)
    valid = n < N
    d = tl.arange(0, D)
    x = _rows(_head(x_ptr, bh, H, x_b, x_h), rows, x_n, D)
    y = _rows(_head(y_ptr, bh, H, y_b, y_h), rows, y_n, D)
    if KEYS:
        shift = _half_norm(x, D) + tl.load(top_ptr + bh)
        weight = tl.full([TN], 1.0, tl.float32)
    else:
        shift = _half_norm(x, D) + tl.load(top_ptr + bh * N + rows)
        den = tl.load(den_ptr + bh * N + rows)
        wide_y = y.to(tl.float32) / den[:, None]
        out = _rows(_head(out_ptr, bh, H, N * H * D, D), rows, H * D, D)
        weight = -tl.sum(wide_y * out.to(tl.float32), 1)
        tl.store(dden_ptr + bh * N + n, weight, valid)
        y = wide_y.to(x.dtype)
    context_ptr += bh * (MAIN + TAIL) * D
    z_ptr += bh * (MAIN + TAIL)
    dx = tl.zeros([TN, D], tl.float32)
    dy = tl.zeros([TN, D], tl.float32)
    total = tl.zeros([TN], tl.float32)
    top = tl.full([TN], float("-inf"), tl.float32)
    at_top = tl.zeros([TN], tl.int32)
    for start in range(0, MAIN, TM):
        dx, dy, total, top, at_top = _gradient_step(
            dx, dy, total, top, at_top, x, y, weight, shift, directions_ptr, context_ptr, z_ptr,
            start + tl.arange(0, TM), KEYS, THROUGH and not KEYS, D, PRECISION,
        )  # fmt: skip
    if TAIL:
        dx, dy, total, top, at_top = _gradient_step(
            dx, dy, total, top, at_top, x, y, weight, shift, directions_ptr, context_ptr, z_ptr,
            MAIN + tl.arange(0, TAIL), KEYS, THROUGH and not KEYS, D, PRECISION,
        )  # fmt: skip
    if THROUGH and not KEYS:
        dx -= total[:, None] * _rows(directions_ptr, at_top, D, D).to(tl.float32)
    dx = dx * 0.6931471805599453 - total[:, None] * x.to(tl.float32) * (1.0 / D**0.5)
    dx_ptr = _head(dx_ptr, bh, H, dx_b, dx_h)
    tl.store(dx_ptr + n[:, None] * dx_n + d[None, :], dx.to(x.dtype), valid[:, None])
    if KEYS:
        dy += tl.load(floor_ptr + bh * D + d)[None, :]
        dy_ptr = _head(dy_ptr, bh, H, dy_b, dy_h)
        tl.store(dy_ptr + n[:, None] * dy_n + d[None, :], dy.to(x.dtype), valid[:, None])
        if THROUGH:
            at = bh * tl.num_programs(0) + tl.program_id(0)
            tl.store(total_ptr + at, tl.sum(tl.where(valid, total, 0.0), 0))


@cache
def _usable_here() -> bool:
    if triton is None:
        return False
    if interpreted():
        return True
    return torch.cuda.is_available() and torch.cuda.get_device_capability() >= (8, 0)


def interpreted() -> bool:
    """Return whether Triton's interpreter runs the kernels (TRITON_INTERPRET=1 when this module was imported)."""
    return triton is not None and not isinstance(_dot, triton.runtime.JITFunction)


def available(x: torch.Tensor | None = None) -> bool:
    """Return whether the kernels can run here: Triton, and a GPU of compute capability 8 or more or the interpreter.

    With a tensor (..., D): and whether they handle its device, dtype and width of heads.
    """
    if not _usable_here():
        return False
    return x is None or ((x.is_cuda or interpreted()) and x.dtype in TILES and x.shape[-1] in WIDTHS)


class _Call:
    """The kernels with what one call's tensors fix: tiles, padding, precision."""

    def __init__(self, q_BHND: torch.Tensor, projection_MD: torch.Tensor) -> None:
        self.B, self.H, self.N, self.D = q_BHND.shape
        self.M = len(projection_MD)
        self.S = triton.cdiv(self.N, CHUNK)
        self.tiles = TILES[q_BHND.dtype]
        if q_BHND.dtype == torch.float32:  # plain multiplications and additions: small tiles, no tail
            self.main, self.tail = 32 * triton.cdiv(self.M, 32), 0
            precision = "tf32" if torch.backends.cuda.matmul.allow_tf32 else "ieee"
        else:
            self.main = max(16, 2 ** (self.M.bit_length() - 1))
            self.tail = 0 if self.M <= self.main else max(16, triton.next_power_of_2(self.M - self.main))
            precision = "ieee"
        self.common = {"D": self.D, "MAIN": self.main, "TAIL": self.tail}
        self.common["PRECISION"] = "interpreted" if interpreted() else precision

    @property
    def padded(self) -> int:
        """M and its padding."""
        return self.main + self.tail

    def cut(self, name: str) -> dict[str, Any]:
        """Return constants and launch options of a kernel."""
        tile = self.tiles[name]
        features = min(tile.features, self.main)
        return {**self.common, "TN": tile.positions, "TM": features, "num_warps": tile.warps, "num_stages": tile.stages}

    def directions(self, projection_MD: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """Return scaled directions, padded with copies of the first."""
        copies_MD = projection_MD[:1].expand(self.padded - self.M, -1)
        return (torch.cat([projection_MD.float(), copies_MD.float()]) * (LOG2E * self.D**-0.25)).to(dtype)

    def context(self, x, y, directions, stats, stabilizer_of):  # noqa: ANN001, ANN201
        pass
