"""Speed and memory of the model: the default computation against the oracle path, in one run.

The oracle path (`kernels: oracle`) is performer-pytorch's feature map and linear attention with torch-geometric's
graph convolution, eager, one operation after the other, as the published code runs it.

    python benchmarks/model.py                  # everything that this machine can run
    python benchmarks/model.py attention model  # some parts: attention lengths model memory exact gpu

On a CPU the model is the published one at full width (27,875 positions) with 2 of its 42 large layers. Variants take
turns (interleaved) in one process; medians are printed, of wall time and of processor time (less noisy where other
things run), and the ratio to the oracle in float32. Memory is the peak above what the process held before the step, each variant in a
fresh process. On CUDA the part `gpu` runs the whole 1b.
"""

from __future__ import annotations

import argparse
import gc
import json
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from scipy import sparse

from sclong.config.load import load_architecture
from sclong.config.sections import Architecture
from sclong.genes.go_graph import GoGraph
from sclong.nn.dual_encoder import DualEncoder
from sclong.nn.favor import ExactAttention, FavorAttention
from sclong.nn.performer import Performer, PerformerOptions

N_GENES = 27_874
CONFIG = Path(__file__).parent.parent / "config"
VARIANTS = {
    "oracle float32": {"kernels": "oracle"},
    "oracle bfloat16": {"kernels": "oracle", "precision": "bfloat16"},
    "fast float32": {},
    "fast bfloat16": {"precision": "bfloat16"},
    "fast float32, layers recomputed": {"recompute_layers": True},
    "fast bfloat16, layers recomputed": {"precision": "bfloat16", "recompute_layers": True},
    "fast float32, compiled": {"compile": True},
}


def go_like_graph() -> GoGraph:
    """Return a random graph with as many edges as that of the Gene Ontology has."""
    draw = np.random.default_rng(0)
    edges = np.unique(draw.integers(0, N_GENES**2, 397_046))
    weights = draw.uniform(0.1, 1, len(edges)).astype(np.float32)
    matrix = sparse.coo_matrix((weights, np.divmod(edges, N_GENES)), shape=(N_GENES, N_GENES)).tocsr()
    return GoGraph(matrix.indptr, matrix.indices, matrix.data)


def cells(n: int, seed: int = 0) -> torch.Tensor:
    """Return cells with about 8 % of the genes detected."""
    draw = np.random.default_rng(seed)
    values = (draw.random((n, N_GENES + 1)) < 0.08) * draw.lognormal(0, 0.5, (n, N_GENES + 1))
    values[:, -1] = 0
    return torch.from_numpy(values.astype(np.float32))


def architecture(variant: str, depth: int) -> Architecture:
    """Return the published architecture with fewer large layers, computed as the variant says."""
    arch = load_architecture("1b", CONFIG)
    return Architecture(**{**arch.model_dump(), "large_depth": depth, **VARIANTS[variant]})


def models(variants: list[str], depth: int) -> dict[str, DualEncoder]:
    """Return models of equal weights."""
    graph, out = go_like_graph(), {}
    for variant in variants:
        torch.manual_seed(0)
        out[variant] = DualEncoder(architecture(variant, depth), N_GENES, graph)
    return out


def embed_step(model: DualEncoder, values_BN: torch.Tensor) -> None:
    """Do what embedding does with a batch."""
    with torch.inference_mode():
        model.eval()(values_BN)


def train_step(model: DualEncoder, values_BN: torch.Tensor) -> None:
    """Do a forward and a backward pass."""
    model.train().zero_grad(set_to_none=True)
    model(values_BN).reconstruction_BN.square().mean().backward()


def interleaved(steps: dict[str, Callable[[], object]], repeats: int) -> dict[str, tuple[float, float]]:
    """Return the medians of wall and of processor seconds of steps that take turns; a first turn is not counted."""
    wall: dict[str, list[float]] = {name: [] for name in steps}
    cpu: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(repeats + 1):
        for name, step in steps.items():
            gc.collect()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            begun = time.perf_counter(), time.process_time()
            step()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            if turn:
                wall[name].append(time.perf_counter() - begun[0])
                cpu[name].append(time.process_time() - begun[1])
    return {name: (statistics.median(wall[name]), statistics.median(cpu[name])) for name in steps}


def show(title: str, times: dict[str, tuple[float, float]]) -> None:
    """Print a table of times and of ratios to the first row."""
    wall_0, cpu_0 = next(iter(times.values()))
    print(f"\n### {title}\n\n| | wall s | x | processor s | x |\n|---|---|---|---|---|")
    for name, (wall, cpu) in times.items():
        print(f"| {name} | {wall:.3f} | {wall_0 / wall:.2f} | {cpu:.3f} | {cpu_0 / cpu:.2f} |", flush=True)


def attention_step(
    module: torch.nn.Module, shape: tuple[int, ...], dtype: torch.dtype, backward: bool
) -> Callable[[], object]:
    """Return a step of attention alone."""
    qkv = torch.randn(*shape, generator=torch.Generator().manual_seed(0)).to(dtype).requires_grad_(backward)
    weight = torch.randn(shape[0], shape[1], *shape[3:], generator=torch.Generator().manual_seed(1)).to(dtype)

    def step() -> None:
        with torch.set_grad_enabled(backward):
            out = module(qkv)
        if backward:
            out.backward(weight)
            qkv.grad = None

    return step


def attention(repeats: int) -> None:
    """Attention alone, at the length of the small encoder."""
    shape = (1, N_GENES + 1 - 4096, 3, 8, 64)
    for backward in (False, True):
        steps = {}
        for kernels in ("oracle", "blocks"):
            for dtype in (torch.float32, torch.bfloat16):
                torch.manual_seed(0)
                module = FavorAttention(64, "per_cell", kernels)
                name = f"{kernels} {str(dtype).removeprefix('torch.')}"
                steps[name] = attention_step(module, shape, dtype, backward)
        show(
            f"attention alone, {shape[1]:,} positions, 8 heads, forward{' and backward' * backward}",
            interleaved(steps, repeats),
        )


def lengths(repeats: int) -> None:
    """Cost against the number of positions: FAVOR+ grows in proportion, exact attention with the square."""
    print("\n### attention alone, forward, by number of positions (float32, 8 heads)\n")
    print("| positions | oracle s | blocks s | blocks µs per position | exact s |\n|---|---|---|---|---|")
    for n in (2_048, 4_096, 8_192, 16_384, 27_875):
        modules = {"oracle": FavorAttention(64, "per_cell", "oracle"), "blocks": FavorAttention(64, "per_cell")}
        if n <= 8_192:
            modules["exact"] = ExactAttention()
        steps = {k: attention_step(m, (1, n, 3, 8, 64), torch.float32, False) for k, m in modules.items()}
        t = {name: wall for name, (wall, _) in interleaved(steps, repeats).items()}
        exact = f"{t['exact']:.3f}" if "exact" in t else ""
        print(f"| {n:,} | {t['oracle']:.3f} | {t['blocks']:.3f} | {1e6 * t['blocks'] / n:.1f} | {exact} |", flush=True)


def model(repeats: int) -> None:
    """The whole model at full width, two large layers; one large layer alone, and what that means for 42."""
    values = cells(1)
    names = [name for name in VARIANTS if "recomputed" not in name]
    built = models(names, depth=2)
    medians = {}
    for title, step in (("forward", embed_step), ("training step", train_step)):
        medians[title] = interleaved(
            {name: lambda m=m, step=step: step(m, values) for name, m in built.items()}, repeats
        )
        show(f"full width, 2 large layers, 1 cell: {title}", medians[title])
        for m in built.values():
            m.zero_grad(set_to_none=True)
    del built
    layers = {}
    for name in ("oracle float32", "fast float32", "fast bfloat16"):
        torch.manual_seed(0)
        arch = architecture(name, 1)
        layer = Performer(1280, 1, 32, 64, PerformerOptions(4, arch.stabilizer, kernels=arch.kernels))
        layers[name] = (layer, arch.precision == "bfloat16")
    x = torch.randn(1, 4096, 1280)

    def layer_step(layer: Performer, low: bool, backward: bool) -> None:
        with torch.set_grad_enabled(backward), torch.autocast("cpu", dtype=torch.bfloat16, enabled=low):
            out = layer(x)
        if backward:
            out.square().mean().backward()

    for title, backward in (("forward", False), ("training step", True)):
        steps = {k: lambda k=k, b=backward: layer_step(*layers[k], b) for k in layers}
        times = interleaved(steps, repeats)
        show(f"one large layer, 4,096 positions: {title}", times)
        whole = {k: tuple(a + 40 * b for a, b in zip(medians[title][k], times[k], strict=True)) for k in times}
        show(f"extrapolated to 42 large layers: {title}", whole)


def memory() -> None:
    """Peak memory of one step above the process before it, each in a fresh process."""
    print("\n### peak memory of a step above the loaded process (1 cell, 2 large layers)\n")
    print("| | forward GB | x | training step GB | x |\n|---|---|---|---|---|")
    first: list[float] = []
    for name in VARIANTS:
        if "compiled" in name:
            continue
        peaks = []
        for step in ("embed", "train"):
            run = subprocess.run(
                [sys.executable, __file__, "one", name, step], capture_output=True, text=True, check=True
            )
            peaks.append(json.loads(run.stdout.splitlines()[-1])["peak_gb"])
        first = first or peaks
        ratios = [a / b for a, b in zip(first, peaks, strict=True)]
        print(f"| {name} | {peaks[0]:.2f} | {ratios[0]:.1f} | {peaks[1]:.2f} | {ratios[1]:.1f} |", flush=True)


def one(variant: str, step: str) -> None:
    """Do one step and print the peak of the resident memory above what it was before (Linux)."""
    values = cells(1)
    built = models([variant], depth=2)[variant]
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak of building
    status = lambda key: int(Path("/proc/self/status").read_text().split(f"{key}:")[1].split()[0]) / 1e6  # noqa: E731
    before = status("VmRSS")
    (embed_step if step == "embed" else train_step)(built, values)
    print(json.dumps({"peak_gb": status("VmHWM") - before}))


def exact(repeats: int) -> None:
    """Exact attention in the large encoder against FAVOR+, one large layer."""
    x = torch.randn(1, 4096, 1280)
    layers = {
        name: Performer(1280, 1, 32, 64, PerformerOptions(stabilizer="per_cell", attention=name))
        for name in ("favor", "exact")
    }
    for title, backward in (("forward", False), ("training step", True)):

        def step(layer: Performer, backward: bool = backward) -> None:
            with torch.set_grad_enabled(backward):
                out = layer(x)
            if backward:
                out.square().mean().backward()

        show(
            f"one large layer, 4,096 positions, float32: {title}",
            interleaved({k: lambda m=m: step(m) for k, m in layers.items()}, repeats),
        )


def flops_per_cell(arch: Architecture, positions: int = N_GENES + 1) -> float:
    """Return multiplications and additions (2 each) of the products of matrices of a forward pass."""

    def performer(n: int, width: int, depth: int, heads: int, dim_head: int) -> float:
        inner, features = heads * dim_head, int(dim_head * np.log(dim_head))
        per_position = 4 * width * inner + 2 * arch.ff_mult * width**2 + 4 * features * inner
        return 2.0 * n * depth * per_position

    top = arch.top_genes
    return (
        performer(top, arch.large_dim, arch.large_depth, arch.large_heads, arch.large_dim_head)
        + performer(positions - top, arch.base_dim, arch.mini_depth, arch.mini_heads, arch.mini_dim_head)
        + performer(positions, arch.base_dim, arch.decoder_depth, arch.decoder_heads, arch.decoder_dim_head)
        + 4.0 * top * arch.base_dim * arch.large_dim
    )


def gpu(repeats: int) -> None:
    """The whole 1b on a CUDA device: cells per second, share of the device's bfloat16 peak, peak memory."""
    if not torch.cuda.is_available():
        print("\n### gpu\n\nNot run: torch sees no CUDA device. On a machine with one: python benchmarks/model.py gpu")
        return
    peak = 989e12 if "H200" in torch.cuda.get_device_name() or "H100" in torch.cuda.get_device_name() else None
    graph = go_like_graph()
    print(f"\n### 1b on {torch.cuda.get_device_name()}\n")
    print(
        "| | step | cells per pass | cells/s | TFLOP/s | share of 989 TFLOP/s | peak memory GB |\n|---|---|---|---|---|---|---|"
    )
    flops = flops_per_cell(load_architecture("1b", CONFIG))
    for name in ("oracle float32", "oracle bfloat16", "fast bfloat16", "fast bfloat16, layers recomputed"):
        for step, batches, work in ((embed_step, (1, 4, 16), 1), (train_step, (1, 2, 4), 3)):
            for batch in batches:
                torch.cuda.empty_cache()
                torch.cuda.reset_peak_memory_stats()
                try:
                    torch.manual_seed(0)
                    with torch.device("cuda"):
                        built = DualEncoder(architecture(name, 42), N_GENES, graph).cuda()
                    values = cells(batch).cuda()
                    wall, _ = interleaved({name: lambda s=step, m=built, v=values: s(m, v)}, repeats)[name]
                except torch.OutOfMemoryError:
                    print(f"| {name} | {step.__name__} | {batch} | out of memory | | | |", flush=True)
                    continue
                rate = batch / wall
                share = f"{100 * rate * work * flops / peak:.0f} %" if peak else ""
                held = torch.cuda.max_memory_allocated() / 1e9
                print(
                    f"| {name} | {step.__name__} | {batch} | {rate:.1f} | {rate * work * flops / 1e12:.0f} | {share} | {held:.1f} |",
                    flush=True,
                )
                del built


def main() -> None:
    """Run the parts that were asked for."""
    parts = ["attention", "lengths", "model", "memory", "exact", "gpu"]
    if sys.argv[1:2] == ["one"]:
        return one(*sys.argv[2:4])
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", default=parts, help=f"of {', '.join(parts)}")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    print(f"Command: `python benchmarks/model.py {' '.join(sys.argv[1:])}`, commit {commit}")
    print(
        f"\nMachine: {platform.processor() or platform.machine()}, {args.threads} threads, {device}, torch {torch.__version__}"
    )
    for part in args.parts:
        if part == "memory":
            memory()
        else:
            {"attention": attention, "lengths": lengths, "model": model, "exact": exact, "gpu": gpu}[part](args.repeats)


if __name__ == "__main__":
    main()
