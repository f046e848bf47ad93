"""What a person watches: speed, memory, time left. One line per interval, on the first process alone."""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import torch

from sclong.config.sections import Architecture, PretrainConfig
from sclong.errors import ConfigError
from sclong.nn.favor import n_random_features
from sclong.runlog import LOGGER

PEAK_TFLOPS = {
    "H100 PCIe": {"bfloat16": 756.0, "tf32": 378.0, "float32": 51.0},
    "H100": {"bfloat16": 989.0, "tf32": 494.0, "float32": 67.0},
    "H200": {"bfloat16": 989.0, "tf32": 494.0, "float32": 67.0},
    "A100": {"bfloat16": 312.0, "tf32": 156.0, "float32": 19.5},
}
"""Dense products in 10^12 operations per second, by a part of the device's name and precision; NVIDIA's data sheets."""


def training_flops(arch: Architecture, n_positions: int) -> float:
    """Return the floating-point operations of training on one cell: three times those of a forward pass.

    Counted are the products of matrices (two operations for a multiplication and an addition) of the three Performers
    and of the layers between them; layers that are computed twice to save memory count once.
    """
    n_top = min(arch.top_genes, n_positions)
    encoders = [
        (n_top, arch.large_dim, arch.large_depth, arch.large_heads, arch.large_dim_head, arch.top_attention),
        (n_positions - n_top, arch.base_dim, arch.mini_depth, arch.mini_heads, arch.mini_dim_head, "favor"),
        (n_positions, arch.base_dim, arch.decoder_depth, arch.decoder_heads, arch.decoder_dim_head, "favor"),
    ]
    forward = 4.0 * n_top * arch.base_dim * arch.large_dim
    for positions, dim, depth, heads, dim_head, attention in encoders:
        inner = heads * dim_head
        others = 2 * n_random_features(dim_head) if attention == "favor" else positions
        per_position = 8 * dim * inner + 4 * arch.ff_mult * dim * dim + 4 * inner * others
        forward += positions * depth * per_position
    return 3.0 * forward


def products(config: PretrainConfig, arch: Architecture) -> Literal["bfloat16", "tf32", "float32"]:
    """Return the precision of products of matrices on a GPU."""
    return "bfloat16" if arch.precision == "bfloat16" else "tf32" if config.tf32 else "float32"


def peak_tflops(config: PretrainConfig, arch: Architecture, device: torch.device) -> float | None:
    """Return what a device can do at most: as configured, or what is known of a GPU in that precision, or None."""
    if config.peak_tflops is not None:
        return config.peak_tflops
    if device.type != "cuda":
        return None
    name, kind = torch.cuda.get_device_name(device), products(config, arch)
    return next((peak[kind] for part, peak in PEAK_TFLOPS.items() if all(word in name for word in part.split())), None)


def peak_memory_gb() -> float:
    """Return the most memory held so far: the GPU's where one is used, else the process's."""
    if torch.cuda.is_available() and torch.cuda.max_memory_allocated():
        return torch.cuda.max_memory_allocated() / 1e9
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


def tensorboard_writer(folder: Path) -> Any:
    """Return a writer of TensorBoard files.

    Raises
    ------
    ConfigError
        The package tensorboard is not installed.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ConfigError(
            f"pretrain.tensorboard is true; {error}",
            "the package tensorboard",
            "pip install tensorboard, or set pretrain.tensorboard: false",
        ) from error
    return SummaryWriter(str(folder))


class Monitor:
    """Write a line to the log and to ``monitor.jsonl`` every ``config.log_every`` steps and after the last.

    ``monitor.jsonl`` has what depends on the machine and the clock; a training that goes on adds to it.

    Parameters
    ----------
    work_dir
        Folder of the training.
    config, arch, n_positions
        The training and its model.
    device, processes
        Where it runs.
    first
        The first step of this run.
    clock
        Seconds.
    """

    def __init__(
        self,
        work_dir: Path,
        config: PretrainConfig,
        arch: Architecture,
        n_positions: int,
        device: torch.device,
        processes: int,
        first: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.config, self.n_positions, self.clock = config, n_positions, clock
        self.flops, self.processes = training_flops(arch, n_positions), processes
        self.peak = peak_tflops(config, arch, device)
        self.board = tensorboard_writer(work_dir / "tensorboard") if config.tensorboard else None
        self._file = open(work_dir / "monitor.jsonl", "a", encoding="utf-8")  # noqa: SIM115 (closed by close)
        self._last_step, self._last_time = first - 1, clock()

    def step(self, line: dict[str, Any]) -> None:
        """Take the line of a step that is done."""
        step = line["step"]
        if self.board is not None:
            for name, value in line.items():
                if name != "step" and value is not None:
                    self.board.add_scalar(name, value, step)
        if step % self.config.log_every and step != self.config.steps:
            return
        now = self.clock()
        step_s = max(now - self._last_time, 1e-9) / (step - self._last_step)
        self._last_step, self._last_time = step, now
        cells_per_s = self.config.batch_size / step_s
        seen = {
            "step": step,
            "loss": line["loss"],
            "gradient_norm": line["gradient_norm"],
            "lr": line["lr"],
            "cells_per_s": cells_per_s,
            "tokens_per_s": cells_per_s * self.n_positions,
            "mfu": self.flops * cells_per_s / (self.peak * 1e12 * self.processes) if self.peak else None,
            "memory_gb": peak_memory_gb(),
            "left_s": step_s * (self.config.steps - step),
            "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        }
        self._file.write(json.dumps(seen) + "\n")
        self._file.flush()
        if self.board is not None:
            for name in ("cells_per_s", "tokens_per_s", "mfu", "memory_gb"):
                if seen[name] is not None:
                    self.board.add_scalar(name, seen[name], step)
        LOGGER.info("%s", describe(seen, self.config.steps))

    def close(self) -> None:
        """Close the files."""
        self._file.close()
        if self.board is not None:
            self.board.close()


def describe(seen: dict[str, Any], steps: int) -> str:
    """Return a line of ``monitor.jsonl`` as a line for people."""
    minutes, seconds = divmod(round(seen["left_s"]), 60)
    mfu = "" if seen["mfu"] is None else f", MFU {100 * seen['mfu']:.1f} %"
    return (
        f"step {seen['step']}/{steps}: loss {seen['loss']:.4f}, gradient norm {seen['gradient_norm']:.3g}, "
        f"lr {seen['lr']:.2e}, {seen['cells_per_s']:.3g} cells/s, {seen['tokens_per_s']:.3g} tokens/s{mfu}, "
        f"memory {seen['memory_gb']:.2f} GB, {minutes // 60}:{minutes % 60:02d}:{seconds:02d} left"
    )
