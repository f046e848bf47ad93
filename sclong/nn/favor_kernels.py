"""Triton kernels of :mod:`sclong.nn.favor_triton`, which tells what they compute. Import it only where Triton is.

Shapes: B cells, H heads, N positions, D width of a head, M random features, S chunks of positions. MAIN + TAIL is M
padded, TM and TN are features and positions of a tile. Pointers of tensors (B, H, N, D) come with their strides over
cells, positions and heads; over D it is 1. All else is contiguous and begins with (B, H).
"""

import triton
import triton.language as tl


@triton.jit
def _dot(a, b, acc, PRECISION: tl.constexpr):
    if PRECISION == "interpreted":  # Triton's interpreter holds bfloat16 as integers
        return tl.dot(a.to(tl.float32), b.to(tl.float32), acc, input_precision="ieee")
    return tl.dot(a, b, acc, input_precision=PRECISION)


@triton.jit
def _head(ptr, bh, H, stride_b, stride_h):
    """Return where cell and head number `bh` begins."""
    return ptr + (bh // H).to(tl.int64) * stride_b + (bh % H).to(tl.int64) * stride_h


@triton.jit
def _rows(ptr, rows, stride, D: tl.constexpr):
    return tl.load(ptr + rows[:, None] * stride + tl.arange(0, D)[None, :])


@triton.jit
def _half_norm(x, D: tl.constexpr):
    x = x.to(tl.float32)
    return tl.sum(x * x, 1) * (0.5 * 1.4426950408889634 / D**0.5)


@triton.jit
def _context_step(acc, z, top, directions, x, y, weight, shift, KEYS: tl.constexpr, PRECISION: tl.constexpr):
    s = _dot(directions, tl.trans(x), None, PRECISION)
    e = tl.exp2(s - shift[None, :])
    if KEYS:
        top = tl.maximum(top, tl.max(s, 1))
    z += tl.sum(e * weight[None, :], 1)
    return _dot(e.to(y.dtype), y, acc, PRECISION), z, top


@triton.jit
def context_kernel(
    x_ptr,
    x_b,
    x_n,
    x_h,
    y_ptr,
    y_b,
    y_n,
    y_h,
    directions_ptr,
    top_ptr,
    den_ptr,
    dden_ptr,
    context_ptr,
    z_ptr,
    max_ptr,
    sum_ptr,
    weight_ptr,
    H,
    N,
    S,
    KEYS: tl.constexpr,
    D: tl.constexpr,
    MAIN: tl.constexpr,
    TAIL: tl.constexpr,
    TM: tl.constexpr,
    TN: tl.constexpr,
    CHUNK: tl.constexpr,
    PRECISION: tl.constexpr,
):
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
        wide_y = y.to(tl.float32)
        if KEYS:
            weight = (n < N).to(tl.float32)
        else:
            at = bh.to(tl.int64) * N + rows
            shift += tl.load(top_ptr + at)
            weight = tl.load(dden_ptr + at, n < N, other=0.0)
            wide_y = wide_y / tl.load(den_ptr + at)[:, None]
            y = wide_y.to(x.dtype)
        y_sum += wide_y
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


@triton.jit
def combine_kernel(
    parts_ptr,
    z_parts_ptr,
    sum_ptr,
    weight_ptr,
    stabilizer_ptr,
    context_ptr,
    z_ptr,
    floor_ptr,
    z_floor_ptr,
    S,
    M,
    EPS: tl.constexpr,
    SCALE: tl.constexpr,
    D: tl.constexpr,
    PADDED: tl.constexpr,
    TM: tl.constexpr,
):
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


@triton.jit
def _query_step(
    acc, den, top, q, half_norm, directions_ptr, context_ptr, z_ptr, m, D: tl.constexpr, PRECISION: tl.constexpr
):
    s = _dot(q, tl.trans(_rows(directions_ptr, m, D, D)), None, PRECISION)
    e = tl.exp2(s - half_norm[:, None])
    top = tl.maximum(top, tl.max(s, 1))
    den += tl.sum(e * tl.load(z_ptr + m)[None, :], 1)
    return _dot(e.to(q.dtype), _rows(context_ptr, m, D, D), acc, PRECISION), den, top


@triton.jit
def query_kernel(
    q_ptr,
    q_b,
    q_n,
    q_h,
    directions_ptr,
    context_ptr,
    z_ptr,
    floor_ptr,
    z_floor_ptr,
    out_ptr,
    top_ptr,
    den_ptr,
    H,
    N,
    D: tl.constexpr,
    MAIN: tl.constexpr,
    TAIL: tl.constexpr,
    TM: tl.constexpr,
    TN: tl.constexpr,
    PRECISION: tl.constexpr,
):
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


@triton.jit
def _gradient_step(
    dx,
    dy,
    total,
    top,
    at_top,
    x,
    y,
    weight,
    shift,
    directions_ptr,
    context_ptr,
    z_ptr,
    m,
    KEYS: tl.constexpr,
    ARGMAX: tl.constexpr,
    D: tl.constexpr,
    PRECISION: tl.constexpr,
):
    directions = _rows(directions_ptr, m, D, D)
    context = _rows(context_ptr, m, D, D)
    s = _dot(x, tl.trans(directions), None, PRECISION)
    e = tl.exp2(s - shift[:, None])
    z = tl.load(z_ptr + m)[None, :]
    ds = e * (_dot(y, tl.trans(context), None, PRECISION) + (z if KEYS else weight[:, None] * z))
    if ARGMAX:
        tile_top, index = tl.max(s, 1, return_indices=True)
        at_top = tl.where(tile_top > top, tl.min(m, 0) + index, at_top)
        top = tl.maximum(top, tile_top)
    if KEYS:
        dy = _dot(e.to(x.dtype), context, dy, PRECISION)
    total += tl.sum(ds, 1)
    return _dot(ds.to(x.dtype), directions, dx, PRECISION), dy, total, top, at_top


@triton.jit
def gradient_kernel(
    x_ptr,
    x_b,
    x_n,
    x_h,
    y_ptr,
    y_b,
    y_n,
    y_h,
    directions_ptr,
    context_ptr,
    z_ptr,
    floor_ptr,
    top_ptr,
    den_ptr,
    dden_ptr,
    out_ptr,
    dx_ptr,
    dx_b,
    dx_n,
    dx_h,
    dy_ptr,
    dy_b,
    dy_n,
    dy_h,
    total_ptr,
    H,
    N,
    KEYS: tl.constexpr,
    THROUGH: tl.constexpr,
    D: tl.constexpr,
    MAIN: tl.constexpr,
    TAIL: tl.constexpr,
    TM: tl.constexpr,
    TN: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Keys (y = v): dk and dv, the stabilizer held. Queries (y = dout): dq, and the gradient of the denominators."""
    n, bh = tl.program_id(0) * TN + tl.arange(0, TN), tl.program_id(1).to(tl.int64)
    rows = tl.minimum(n, N - 1)
    valid = n < N
    d = tl.arange(0, D)
    x = _rows(_head(x_ptr, bh, H, x_b, x_h), rows, x_n, D)
    y = _rows(_head(y_ptr, bh, H, y_b, y_h), rows, y_n, D)
    if KEYS:
        shift = _half_norm(x, D) + tl.load(top_ptr + bh)
        weight = None
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
            dx,
            dy,
            total,
            top,
            at_top,
            x,
            y,
            weight,
            shift,
            directions_ptr,
            context_ptr,
            z_ptr,
            start + tl.arange(0, TM),
            KEYS,
            THROUGH and not KEYS,
            D,
            PRECISION,
        )
    if TAIL:
        dx, dy, total, top, at_top = _gradient_step(
            dx,
            dy,
            total,
            top,
            at_top,
            x,
            y,
            weight,
            shift,
            directions_ptr,
            context_ptr,
            z_ptr,
            MAIN + tl.arange(0, TAIL),
            KEYS,
            THROUGH and not KEYS,
            D,
            PRECISION,
        )
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
