"""Attention on a GPU: the fused FAVOR+ kernels against performer-pytorch's operations and exact attention.

    python benchmarks/attention_cuda.py                  # the published model's two shapes, bfloat16
    python benchmarks/attention_cuda.py --cells 1 4      # and other batches
    python benchmarks/attention_cuda.py --sweep          # instead: how the fused kernels may be cut

Prints errors against float64 first, then medians of ten runs (CUDA events, after warm-up), ratios to the fused kernels,
peak memory above the inputs, and the rate of the fused kernels' matrix products.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable, Iterator

import torch
from torch.nn.functional import scaled_dot_product_attention

from sclong.nn import favor_triton
from sclong.nn.favor_blocks import blocked_attention
from sclong.nn.favor_features import n_random_features, oracle_attention

WIDTH = 64
FEATURES = n_random_features(WIDTH)
PRODUCTS = {"forward": 4, "forward + backward": 13}  # of 2 M D operations per position and head
Attend = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def separate(attend: Callable[..., torch.Tensor], *more: str) -> Attend:
    """Return attention over merged queries, keys and values."""
    return lambda qkv, directions: attend(*qkv.permute(2, 0, 3, 1, 4), directions, *more).transpose(1, 2)


def candidates(stabilizer: str) -> dict[str, Attend]:
    """Return what is compared."""
    return {
        "fused": lambda qkv, directions: favor_triton.merged_attention_triton(qkv, directions, stabilizer),
        "blocks": lambda qkv, directions: blocked_attention(qkv, directions, stabilizer),
        "performer-pytorch": separate(oracle_attention, stabilizer),
        "exact": separate(lambda q, k, v, _: scaled_dot_product_attention(q, k, v)),
    }


def inputs(cells: int, heads: int, n: int, dtype: torch.dtype, scale: float = 0.6) -> tuple[torch.Tensor, torch.Tensor]:
    """Return random queries, keys and values (B, N, 3, H, D), and directions (M, D)."""
    generator = torch.Generator("cuda").manual_seed(0)
    qkv = torch.randn(cells, n, 3, heads, WIDTH, device="cuda", generator=generator)
    qkv[:, :, :2] *= scale
    return qkv.to(dtype), torch.randn(FEATURES, WIDTH, device="cuda", generator=generator)


def run(attend: Attend, qkv: torch.Tensor, directions: torch.Tensor, gradient: torch.Tensor | None) -> torch.Tensor:
    """Attend once; with a gradient of the output, go back too."""
    if gradient is None:
        with torch.inference_mode():
            return attend(qkv, directions)
    qkv.grad = None
    out = attend(qkv, directions)
    out.backward(gradient)
    return out.detach()


def milliseconds(attend: Attend, qkv: torch.Tensor, directions: torch.Tensor, gradient: torch.Tensor | None) -> float:
    """Return the median of ten runs after three."""
    times = []
    for i in range(13):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        run(attend, qkv, directions, gradient)
        end.record()
        end.synchronize()
        if i >= 3:
            times.append(begin.elapsed_time(end))
    return statistics.median(times)


def errors(stabilizer: str) -> None:
    """Print relative errors against float64, of outputs and of gradients."""
    print("| dtype | computation | error of outputs | of dq | of dk | of dv |\n|---|---|---|---|---|---|")
    for dtype in (torch.float32, torch.bfloat16):
        qkv, directions = inputs(2, 4, 3000, dtype)
        gradient = torch.randn_like(qkv[:, :, 0])
        wide = qkv.double().requires_grad_()
        exact = run(separate(oracle_attention, stabilizer), wide, directions.double(), gradient.double())
        for name, attend in list(candidates(stabilizer).items())[:3]:
            leaf = qkv.clone().requires_grad_()
            out = run(attend, leaf, directions, gradient)
            pairs = [(out, exact), *((leaf.grad[:, :, i], wide.grad[:, :, i]) for i in range(3))]
            row = [f"{float((a.double() - b).norm() / b.norm()):.1e}" for a, b in pairs]
            print(f"| {str(dtype)[6:]} | {name} | {' | '.join(row)} |", flush=True)


def compare(shapes: list[tuple[int, int, int]], stabilizer: str) -> None:
    """Print times, ratios and peak memory."""
    print(
        "\n| cells, heads, positions | pass | computation | ms | of fused | peak MiB | TFLOP/s |\n|---|---|---|---|---|---|---|"
    )
    for cells, heads, n in shapes:
        for name_of_pass, products in PRODUCTS.items():
            fused = None
            for name, attend in candidates(stabilizer).items():
                qkv, directions = inputs(cells, heads, n, torch.bfloat16)
                gradient = torch.randn_like(qkv[:, :, 0]) if products > 4 else None
                qkv.requires_grad_(gradient is not None)
                torch.cuda.reset_peak_memory_stats()
                held = torch.cuda.memory_allocated()
                try:
                    ms = milliseconds(attend, qkv, directions, gradient)
                except torch.OutOfMemoryError:
                    ms = float("nan")
                peak = (torch.cuda.max_memory_allocated() - held) / 2**20
                fused = fused or ms
                rate = (
                    f"{products * 2 * FEATURES * WIDTH * cells * heads * n / ms / 1e9:.0f}" if name == "fused" else ""
                )
                print(
                    f"| {cells}, {heads}, {n:,} | {name_of_pass} | {name} | {ms:.3f} | {ms / fused:.2f} | {peak:.0f} | {rate} |",
                    flush=True,
                )
                del qkv, gradient
                torch.cuda.empty_cache()


def cuts() -> Iterator[tuple[str, favor_triton.Tile | int]]:
    """Name what may be cut otherwise, and how."""
    tile = favor_triton.Tile
    yield from (("CHUNK", chunk) for chunk in (512, 1024, 2048))
    yield from (("context", tile(n, 256, w, s)) for n in (32, 64) for w in (4, 8) for s in (1, 2, 3))
    for name in ("query", "gradient"):
        yield from ((name, tile(n, m, w, s)) for n in (64, 128) for m in (32, 64, 128) for w in (4, 8) for s in (2, 3))


def sweep(shapes: list[tuple[int, int, int]], stabilizer: str) -> None:
    """Print the times of other cuts of the fused kernels, one changed at a time."""
    print("\n| cells, heads, positions | changed | to | forward ms | forward + backward ms |\n|---|---|---|---|---|")
    attend, tiles, chunk = candidates(stabilizer)["fused"], dict(favor_triton.TILES[torch.bfloat16]), favor_triton.CHUNK
    for cells, heads, n in shapes:
        qkv, directions = inputs(cells, heads, n, torch.bfloat16)
        gradient = torch.randn_like(qkv[:, :, 0])
        for name, value in [("nothing", ""), *cuts()]:
            favor_triton.CHUNK = value if name == "CHUNK" else chunk
            favor_triton.TILES[torch.bfloat16] = tiles | ({name: value} if name in tiles else {})
            try:
                forward = milliseconds(attend, qkv.detach(), directions, None)
                both = milliseconds(attend, qkv.detach().requires_grad_(), directions, gradient)
            except Exception as error:  # what the compiler refuses, or does not fit
                print(f"| {cells}, {heads}, {n:,} | {name} | {value} | {type(error).__name__} | |", flush=True)
                continue
            print(f"| {cells}, {heads}, {n:,} | {name} | {value} | {forward:.3f} | {both:.3f} |", flush=True)
    favor_triton.TILES[torch.bfloat16], favor_triton.CHUNK = tiles, chunk


def main() -> None:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, nargs="+", default=[1])
    parser.add_argument("--stabilizer", choices=["per_head", "per_cell", "global"], default="per_head")
    parser.add_argument("--sweep", action="store_true")
    args = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit("This benchmark needs a CUDA device, and torch sees none; benchmarks/model.py measures on a CPU.")
    if not favor_triton.available():
        sys.exit("The fused kernels need Triton and a GPU of compute capability 8.0 or more; one of them is missing.")
    import triton

    print(
        f"{torch.cuda.get_device_name()}, torch {torch.__version__}, Triton {triton.__version__}, {args.stabilizer}\n"
    )
    errors(args.stabilizer)
    shapes = [(cells, heads, n) for cells in args.cells for heads, n in ((32, 4096), (8, 27_875))]
    (sweep if args.sweep else compare)(shapes, args.stabilizer)


if __name__ == "__main__":
    main()
