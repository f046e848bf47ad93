"""What the training of a plan needs of its GPUs: hours, memory, and the time from a request to stop to a checkpoint.

Arithmetic from rates that docs/scale.md lists; nothing here was measured on a GPU.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence

from sclong.plan.plan import Plan

GPU_FLOPS = {"bfloat16": 790e12, "tf32": 395e12, "float32": 67e12}
"""docs/scale.md: operations per second of a GPU (an H200), by the precision of matrix products."""
GPU_COUNTS = (8, 64, 256)
"""For which the time of a training on GPUs is printed, besides the number that is configured."""
MFU = (0.2, 0.4, 0.6)
"""What share of them a training may use."""
GPU_GB = {"A100 40 GB": 40, "A100 or H100 80 GB": 80, "H200": 141}
"""Memory by NVIDIA's data sheets, 10^9 bytes."""
WRITTEN_PER_S, HASHED_PER_S = 200e6, 400e6
"""Bytes of a checkpoint that one process writes to a shared file system and hashes in a second: assumed."""


def is_training(rule: str) -> bool:
    """Return whether a rule, or a kind of rule, is a pretraining."""
    return rule in ("pretrain", "pretrain_seed1")


def products(plan: Plan) -> str:
    """Return the precision of matrix products on a GPU."""
    from sclong.train import monitor

    return monitor.products(plan.config.pretrain, plan.architecture)


def peak_flops(plan: Plan) -> float:
    """Return the operations per second of a GPU in the precision that is set: pretrain.peak_tflops, or `GPU_FLOPS`."""
    told = plan.config.pretrain.peak_tflops
    return GPU_FLOPS[products(plan)] if told is None else told * 1e12


def shares(plan: Plan) -> tuple[int, int, int]:
    """Return processes of the training, cells of a pass of each, passes of a step."""
    config = plan.config.pretrain
    processes = config.processes * config.nodes
    share = config.batch_size // processes
    cells = min(config.micro_batch_size or share, share)
    return processes, cells, math.ceil(share / cells)


def cell_seconds(plan: Plan, utilisation: float) -> float | None:
    """Return the seconds of a GPU for training on a cell, or None without GPUs or genes."""
    size = plan.config.vocabulary.size
    if plan.config.pretrain.device != "cuda" or size is None:
        return None
    from sclong.train.monitor import training_flops

    flops = training_flops(plan.architecture, size + 1) * (4 / 3 if plan.architecture.recompute_layers else 1)
    return flops / (utilisation * peak_flops(plan))


def gpu_hours(plan: Plan, utilisation: float) -> float | None:
    """Return the GPU-hours of a training at a share of what the GPU can do, or None without GPUs or genes."""
    seconds, config = cell_seconds(plan, utilisation), plan.config.pretrain
    return None if seconds is None else config.steps * config.batch_size * seconds / 3600


def stop_seconds(plan: Plan) -> tuple[float, float] | None:
    """Return the seconds of the slowest pass and of a save: what lies between a request to stop and the end.

    The pass is one at the lowest share of `MFU`; the save is by one process, whatever their number.
    """
    size, seconds = plan.config.vocabulary.size, cell_seconds(plan, MFU[0])
    if size is None or seconds is None:
        return None
    from sclong.train.memory import count_parameters

    saved = 12 * count_parameters(plan.architecture, size).total
    return shares(plan)[1] * seconds, saved / WRITTEN_PER_S + saved / HASHED_PER_S


def training_figures(plan: Plan) -> list[tuple[str, float | None, str, str]]:
    """Return name, value, unit of figures, and what each rests on."""
    size = plan.config.vocabulary.size
    if size is None:
        return []
    from sclong.train.memory import training_memory

    config = plan.config.pretrain
    processes, cells, passes = shares(plan)
    need = training_memory(plan.architecture, size, cells, config.parallel, processes, passes, config.device)
    shape = f"formula of docs/scale.md: {cells} cells per pass, {passes} passes, {config.parallel} on {processes}"
    out: list[tuple[str, float | None, str, str]] = [("memory of a training process", need.peak, "bytes", shape)]
    for share in MFU if config.device == "cuda" else ():
        hours = gpu_hours(plan, share)
        days = None if hours is None else hours / 24 / processes
        rests_on = f"arithmetic; {processes} GPU(s), {products(plan)}, {peak_flops(plan) / 1e12:.0f} TFLOP/s each"
        out.append((f"days of training at {share:.0%} of the GPUs", days, "days", rests_on))
    for count in GPU_COUNTS if config.device == "cuda" else ():
        hours = gpu_hours(plan, MFU[1])
        days = None if hours is None else hours / 24 / count
        out.append((f"days of training on {count} GPUs", days, "days", f"the same at {MFU[1]:.0%}"))
    if (stop := stop_seconds(plan)) is not None:
        rests_on = (
            f"a pass of {cells} cells at {MFU[0]:.0%}: {stop[0]:.0f} s; a save, assumed at "
            f"{WRITTEN_PER_S / 1e6:.0f} MB/s and its hash at {HASHED_PER_S / 1e6:.0f}: {stop[1]:.0f} s"
        )
        out.append(("from a request to stop to the checkpoint", sum(stop), "s", rests_on))
    return out


def training_notes(
    plan: Plan, values: Mapping[str, float | None], limits_min: Sequence[int | None], slurm_extra: str | None
) -> list[str]:
    """Return what cannot work in a training on GPUs.

    Parameters
    ----------
    plan
        The configuration.
    values
        Figures of :func:`training_figures` by name.
    limits_min
        Time limits of the attempts of its job, minutes.
    slurm_extra
        What the profile asks of SLURM besides: says when its warning comes.
    """
    if plan.config.pretrain.device != "cuda":
        return []
    out, days = [], values.get(f"days of training at {MFU[1]:.0%} of the GPUs")
    if days is not None and None not in limits_min:
        allowed = sum(limit or 0 for limit in limits_min) / 60 / 24
        if days > allowed:
            out.append(
                f"pretrain needs {days:.1f} days at {MFU[1]:.0%}; its jobs may take {allowed:.1f} in all "
                f"({len(limits_min) - 1} retries, each goes on from a checkpoint): more GPUs (pretrain: parallel, "
                "processes, nodes), fewer steps, or start the run again"
            )
    need = values.get("memory of a training process")
    if need is not None and need > 1e9 * max(GPU_GB.values()):
        out.append(
            f"a training process needs {need / 1e9:,.0f} GB; the largest GPU of docs/scale.md has "
            f"{max(GPU_GB.values())}: set pretrain.micro_batch_size; {_fitting(plan)}"
        )
    warned, stop = re.search(r"--signal=\w+@(\d+)", slurm_extra or ""), stop_seconds(plan)
    if slurm_extra is not None and stop is not None and sum(stop) > (int(warned[1]) if warned else 0):
        out.append(
            f"from a request to stop to the checkpoint the training needs {sum(stop):.0f} s; the profile has SLURM ask "
            f"{warned[1] if warned else 0} s before the time is up: raise --signal=TERM@SECONDS of pretrain, or what "
            "was trained since the last checkpoint is lost"
        )
    return out


def _fitting(plan: Plan) -> str:
    from sclong.train.memory import cells_that_fit

    config, size = plan.config.pretrain, plan.config.vocabulary.size
    if size is None:
        return "the number of genes is known when the vocabulary is made"
    processes, _, _ = shares(plan)
    fits = {
        name: cells_that_fit(plan.architecture, size, 0.9 * gb * 1e9, config.parallel, processes)
        for name, gb in GPU_GB.items()
    }
    return "cells that fit in 90 % of it: " + ", ".join(f"{name}: {cells}" for name, cells in fits.items())
