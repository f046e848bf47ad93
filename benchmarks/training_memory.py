"""Memory of training processes: the formula of ``sclong.train.memory`` against what processes really hold.

    python benchmarks/training_memory.py                 # all cases, some minutes
    python benchmarks/training_memory.py wide            # cases of one architecture

Every case is fresh processes on one thread each, tied by gloo, that do two whole optimiser steps of training (masking,
passes, clipping, Adam) on random cells. Measured is the most resident memory of a process during the steps
(VmHWM of /proc/self/status, which is reset before the model is made) above what it held before there was a model. The
allocator is told to give freed arrays back at once (MALLOC_MMAP_THRESHOLD_), so that what is measured is what is held.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
WIDE = {
    "name": "wide",
    "top_genes": 512,
    "base_dim": 64,
    "mini_depth": 1,
    "mini_heads": 2,
    "mini_dim_head": 32,
    "large_dim": 512,
    "large_depth": 8,
    "large_heads": 8,
    "large_dim_head": 64,
    "decoder_depth": 1,
    "decoder_heads": 2,
    "decoder_dim_head": 32,
}
GENES = {"wide": 3000, "base": 27_874}
RECOMPUTED, HALF = {"recompute_layers": True}, {"precision": "bfloat16"}
# architecture, changes of it, how processes share it, processes, cells of a pass, passes of a step
CASES = [
    ("wide", {}, "none", 1, 1, 1),
    ("wide", {}, "none", 1, 4, 1),
    ("wide", {}, "ddp", 2, 1, 1),
    ("wide", {}, "ddp", 2, 4, 1),
    ("wide", {}, "ddp", 2, 2, 2),
    ("wide", {}, "fsdp", 2, 1, 1),
    ("wide", {}, "fsdp", 2, 4, 1),
    ("wide", {}, "fsdp", 2, 2, 2),
    ("wide", HALF, "ddp", 2, 4, 1),
    ("wide", HALF, "fsdp", 2, 4, 1),
    ("wide", RECOMPUTED, "ddp", 2, 4, 1),
    ("wide", RECOMPUTED, "fsdp", 2, 4, 1),
    ("base", {}, "ddp", 2, 1, 1),
    ("base", {}, "fsdp", 2, 1, 1),
    ("base", RECOMPUTED, "ddp", 2, 2, 1),
]


def architecture(name: str, change: dict):
    """Return an architecture of config/architectures, or the one above."""
    from sclong.config.load import load_architecture
    from sclong.config.sections import Architecture

    arch = Architecture(**WIDE) if name == "wide" else load_architecture(name, ROOT / "config")
    return arch.model_copy(update=change)


def status(key: str) -> int:
    """Bytes, of /proc/self/status (Linux; ru_maxrss would count the parent too)."""
    return 1024 * int(Path("/proc/self/status").read_text().split(f"{key}:")[1].split()[0])


def member(case: list) -> None:
    """Be one process of a case; the first prints the peaks of all."""
    import numpy as np
    import torch

    torch.set_num_threads(1)
    sys.path.insert(0, str(ROOT / "tests" / "unit"))
    from toy_training import ARCH, toy_graph, toy_vocabulary

    from sclong.config.sections import PretrainConfig
    from sclong.nn.dual_encoder import DualEncoder
    from sclong.train.optim import make_optimizer, set_learning_rate
    from sclong.train.parallel import Replica, joined
    from sclong.train.step import Batch, training_step

    name, change, parallel, processes, cells, passes = case
    config = PretrainConfig(
        steps=2,
        batch_size=cells * passes * processes,
        micro_batch_size=cells,
        learning_rate=1e-4,
        validate_every=9,
        validation_cells=1,
        checkpoint_every=9,
        parallel=parallel,
        processes=processes,
        threads=1,
    )

    def train(arch, n_genes: int, world, steps: int) -> None:
        torch.manual_seed(1)
        replica = Replica(DualEncoder(arch, n_genes, toy_graph(toy_vocabulary(n_genes))), world, parallel)
        optimizer = make_optimizer(replica.model)
        set_learning_rate(optimizer, 1e-4)
        n = cells * passes
        for step in range(1, steps + 1):
            values = torch.relu(torch.randn(n, n_genes + 1))
            training_step(replica, optimizer, Batch(np.arange(n), np.arange(n), values), config, step)

    with joined(config) as world:
        arch = architecture(name, change)
        train(ARCH.model_copy(update=change), 40, world, 2)  # libraries are loaded, threads started
        world.collect(0)
        Path("/proc/self/clear_refs").write_text("5")  # forget the peak
        before = status("VmRSS")
        train(arch, GENES[name], world, 2)
        peaks = world.collect(status("VmHWM") - before)
    if world.first:
        print(json.dumps(peaks))


def measure(case: tuple) -> int:
    """Start the processes of a case; return the largest of their peaks in bytes."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    processes = []
    for rank in range(case[3]):
        environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "OMP_NUM_THREADS": "1",
            "MALLOC_MMAP_THRESHOLD_": "65536",
            "MALLOC_TRIM_THRESHOLD_": "65536",
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
            "WORLD_SIZE": str(case[3]),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
        }
        command = [sys.executable, __file__, "_member", json.dumps(case)]
        processes.append(subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True))
    outputs = [process.communicate()[0] for process in processes]
    if any(process.returncode for process in processes):
        raise SystemExit(f"a process of {case} failed")
    return max(json.loads(outputs[0]))


def main(names: list[str]) -> None:
    """Print a table: formula and measurement of every case."""
    from sclong.train.memory import count_parameters, training_memory

    columns = ("architecture", "processes", "cells x passes", "weights", "Adam", "gradients", "exchange", "kept")
    print(f"| {' | '.join(columns)} | peak, formula | peak, measured | formula / measured |")
    print("|" + "---|" * 11)
    for case in CASES:
        name, change, parallel, processes, cells, passes = case
        if names and name not in names:
            continue
        arch = architecture(name, change)
        f = training_memory(arch, GENES[name], cells, parallel, processes, passes, device="cpu")
        peak = measure(case)
        how = ", ".join([name, *(str(v) if k == "precision" else "recomputed" for k, v in change.items())])
        parts = [f.weights, f.optimizer, f.gradients, f.exchange, f.activations, f.peak, peak]
        figures = " | ".join(f"{value / 1e6:,.0f}" for value in parts)
        print(f"| {how} | {parallel} {processes} | {cells} x {passes} | {figures} | {f.peak / peak:.2f} |", flush=True)
    for name in names or GENES:
        count = count_parameters(architecture(name, {}), GENES[name])
        print(f"\n{name}: {count.total:,} parameters, {GENES[name]:,} genes; megabytes (10^6 bytes) per process")


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["_member", text]:
            member(json.loads(text))
        case names:
            sys.path.insert(0, str(ROOT))
            main(names)
