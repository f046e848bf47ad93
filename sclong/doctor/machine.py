"""Checks of this machine: packages, GPUs and their driver, NCCL, disk, file system, clock."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path
from typing import Any

from sclong.doctor.findings import Case, Finding, Level, existing_folder

WRITE_BYTES = 64_000_000
SAVE_S = 600
"""Seconds before the time limit at which the SLURM profile asks a training to save and stop."""
LOCAL_FILE_SYSTEMS = {"tmpfs", "ext2/ext3", "ext4", "xfs", "btrfs", "overlayfs", "zfs"}
TORCH = """
import json, torch
there = torch.cuda.is_available()
count = torch.cuda.device_count() if there else 0
gpus = [[torch.cuda.get_device_name(i), torch.cuda.get_device_properties(i).total_memory] for i in range(count)]
nccl = torch.cuda.nccl.version() if there and torch.distributed.is_nccl_available() else None
print(json.dumps({"version": torch.__version__, "cuda": torch.version.cuda, "gpus": gpus, "nccl": nccl}))
"""


def torch_facts(case: Case) -> dict[str, Any] | None:
    """Return torch's version, the CUDA it was built for, the GPUs it sees and its NCCL; None when it does not start."""
    said = case.tools.run([sys.executable, "-c", TORCH])
    facts: dict[str, Any] | None = json.loads(said.out.splitlines()[-1]) if said.good else None
    return facts


def check_packages(case: Case) -> list[Finding]:
    """Compare installed versions with the pins."""
    path = case.root / "envs" / "constraints.txt"
    pins = dict(line.split("==") for line in path.read_text().split() if "==" in line)
    other = []
    for name in ("torch", "numpy", "pandas", "anndata", "snakemake", "snakemake-executor-plugin-slurm"):
        try:
            version = metadata.version(name)
        except metadata.PackageNotFoundError:
            version = "missing"
        if version.partition("+")[0] != pins[name]:
            other.append(f"{name} {version} (pinned {pins[name]})")
    if not other:
        return [Finding("packages", "ok", f"Python {sys.version.split()[0]}, main packages as pinned")]
    return [
        Finding(
            "packages",
            "warning",
            ", ".join(other),
            "the versions of envs/constraints.txt",
            "pip install -c envs/constraints.txt -e .",
        )
    ]


def check_gpus(case: Case) -> list[Finding]:
    """Compare driver, torch and visible GPUs with what the jobs ask for; then NCCL and memory."""
    if not case.wants_gpus:
        return [Finding("GPUs", "ok", "no job asks for one")]
    facts = torch_facts(case)
    if facts is None:
        return [
            Finding(
                "torch",
                "error",
                "torch does not start",
                "a torch that can be imported",
                "python -c 'import torch' says why; install it again",
            )
        ]
    listed = case.tools.run(["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"])
    if not listed.good:
        login = case.slurm and "SLURM_JOB_ID" not in case.environment
        where = "this is no GPU node" if login else "no working driver"
        return [
            _build(facts),
            Finding(
                "driver",
                "warning" if login else "error",
                f"nvidia-smi: {(listed.err or listed.out).strip()}; {where}",
                "GPUs, since jobs ask for them",
                "ask again on a GPU node: srun --partition=PARTITION --gres=gpu:1 sclong doctor"
                if login
                else "install NVIDIA's driver, or set pretrain.device and embed.device: cpu",
            ),
        ]
    return [_build(facts), _driver(case, facts, listed.out), *_visible(case, facts)]


def _build(facts: dict[str, Any]) -> Finding:
    if facts["cuda"] is None:
        return Finding(
            "torch",
            "error",
            f"torch {facts['version']} is built without CUDA",
            "a build for CUDA",
            "pip uninstall --yes torch, then pip install -c envs/constraints.txt -e . from an index with PyPI's torch",
        )
    return Finding("torch", "ok", f"torch {facts['version']}, built for CUDA {facts['cuda']}")


def _driver(case: Case, facts: dict[str, Any], listed: str) -> Finding:
    lines = [line.strip() for line in listed.splitlines() if line.strip()]
    version = lines[0].split(", ")[1] if lines and lines[0].count(", ") >= 2 else "of unknown version"
    shown = re.search(r"CUDA Version:\s*(\d+)\.(\d+)", case.tools.run(["nvidia-smi"]).out)
    found = f"driver {version}, {len(lines)} GPU(s)"
    if shown and facts["cuda"] and int(shown[1]) < int(facts["cuda"].split(".")[0]):
        return Finding(
            "driver",
            "error",
            f"{found}, for CUDA {shown[1]}.{shown[2]} at most",
            f"CUDA {facts['cuda']}, which torch {facts['version']} is built for",
            "a newer driver, or a torch built for an older CUDA (https://pytorch.org/get-started/previous-versions)",
        )
    if facts["cuda"] and not facts["gpus"]:
        return Finding(
            "driver",
            "error",
            f"{found}; torch sees none",
            "GPUs that torch can use",
            f"look at CUDA_VISIBLE_DEVICES ({case.environment.get('CUDA_VISIBLE_DEVICES', 'not set')}), and whether "
            "another job holds the GPUs (compute mode)",
        )
    return Finding("driver", "ok", found + (f", for CUDA up to {shown[1]}.{shown[2]}" if shown else ""))


def _visible(case: Case, facts: dict[str, Any]) -> list[Finding]:
    config, gpus = case.plan.config.pretrain, facts["gpus"]
    trains = config.device == "cuda" and any(job.rule == "pretrain" for job in case.jobs)
    wanted = config.processes if trains else 1
    names = ", ".join(sorted({name for name, _ in gpus})) or "none"
    found = f"{len(gpus)} visible ({names}); {wanted} asked for per node"
    out = [
        Finding("GPUs", "ok", found)
        if len(gpus) >= wanted
        else Finding(
            "GPUs",
            "error",
            found,
            f"{wanted} on this node",
            "lower pretrain.processes, ask for more (srun --gres=gpu:N), or look at CUDA_VISIBLE_DEVICES",
        )
    ]
    if trains and config.processes * config.nodes > 1:
        version = facts["nccl"]
        out.append(
            Finding("NCCL", "ok", f"version {'.'.join(map(str, version))}; no message was sent through it")
            if version
            else Finding(
                "NCCL",
                "error",
                "torch has no NCCL",
                "NCCL, by which GPUs talk to each other",
                "install PyPI's torch for Linux, which brings it",
            )
        )
    need = {figure.name: figure.value for figure in case.costs.figures}.get("memory of a training process")
    if trains and gpus and need is not None:
        have = min(size for _, size in gpus)
        level: Level = "ok" if need < 0.9 * have else "warning" if need < have else "error"
        out.append(
            Finding(
                "GPU memory",
                level,
                f"{have / 1e9:.0f} GB; the training needs {need / 1e9:.1f} by formula",
                *(
                    ()
                    if level == "ok"
                    else (
                        "a tenth to spare",
                        "lower pretrain.micro_batch_size; or precision: bfloat16, recompute_layers: true in the "
                        "architecture; or pretrain.parallel: fsdp",
                    )
                ),
            )
        )
    return out


def check_disk(case: Case) -> list[Finding]:
    """Compare free disk with what will be written."""
    figures = {figure.name: figure for figure in case.costs.figures}
    wanted = {
        case.plan.config.results_dir: ["disk of the corpus", "disk of checkpoints"],
        case.plan.config.data_dir: ["files to fetch over the network", "files to copy from the mirror"],
    }
    need: dict[Path, float] = {}
    unknown = []
    for folder, names in wanted.items():
        place = existing_folder(folder)
        mount = next(p for p in [place, *place.parents] if p.is_mount() or p == p.parent)
        for name in names:
            if name in figures and figures[name].value is None:
                unknown.append(name)
            need[mount] = need.get(mount, 0.0) + ((figures[name].value or 0.0) if name in figures else 0.0)
    out = []
    for mount, size in need.items():
        free = shutil.disk_usage(mount).free
        found = f"{mount}: {free / 1e9:,.1f} GB free, {size / 1e9:,.1f} GB will be written"
        found += f" and more that is not known ({', '.join(unknown)})" if unknown else ""
        out.append(
            Finding("disk", "ok", found)
            if free > size
            else Finding(
                "disk",
                "error",
                found,
                "room for all of it",
                "name other folders (results_dir, data_dir), or make room; sclong plan says what it is",
            )
        )
    return out


def check_file_system(case: Case) -> list[Finding]:
    """Write 64 MB where results go; compare the file system's clock with this machine's; say what kind it is."""
    folder = existing_folder(case.plan.config.results_dir)
    block = os.urandom(1_000_000)
    try:
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".sclong_doctor_") as file:
            start = time.perf_counter()
            for _ in range(WRITE_BYTES // len(block)):
                file.write(block)
            file.flush()
            os.fsync(file.fileno())
            seconds = max(time.perf_counter() - start, 1e-9)
            os.utime(file.name)  # the file system's own time
            ahead = os.stat(file.name).st_mtime - case.tools.now()
    except OSError as error:
        return [
            Finding(
                "write",
                "error",
                f"{folder}: {error}",
                "a folder that can be written to",
                "name another results_dir, or look at quota and rights",
            )
        ]
    return [_speed(case, folder, WRITE_BYTES / seconds), _clock(f"{folder}", ahead), *_kind(case, folder)]


def _speed(case: Case, folder: Path, bytes_per_s: float) -> Finding:
    found = f"{folder}: {bytes_per_s / 1e6:,.0f} MB/s ({WRITE_BYTES // 10**6} MB and fsync)"
    size = case.plan.config.vocabulary.size
    if size is None or not any(job.rule == "pretrain" for job in case.jobs):
        return Finding("write speed", "ok", found)
    from sclong.train.memory import count_parameters

    seconds = 12 * count_parameters(case.plan.architecture, size).total / bytes_per_s
    found += f": {seconds:,.0f} s for a training checkpoint by one process"
    if seconds < SAVE_S / 2:
        return Finding("write speed", "ok", found)
    return Finding(
        "write speed",
        "warning",
        found,
        f"less than half of the {SAVE_S} s that SLURM gives a training to save",
        "use a faster file system for results_dir, or warn earlier (--signal in profiles/slurm/config.yaml)",
    )


def _clock(what: str, ahead: float, limit_s: float = 2.0) -> Finding:
    """Judge by how many seconds a clock is ahead of this machine's."""
    found = f"{what}: {abs(ahead):.1f} s {'ahead of' if ahead > 0 else 'behind'} this machine"
    if abs(ahead) <= limit_s:
        return Finding("clock", "ok", found)
    return Finding(
        "clock",
        "warning",
        found,
        f"at most {limit_s:.0f} s",
        "set the clocks by NTP: Snakemake compares times of files, and secure connections compare dates",
    )


def _kind(case: Case, folder: Path) -> list[Finding]:
    if not case.slurm:
        return []
    said = case.tools.run(["stat", "--file-system", "--format=%T", str(folder)])
    kind = said.out.strip()
    if not said.good or kind not in LOCAL_FILE_SYSTEMS:
        return [Finding("shared folder", "ok", f"{folder} is on {kind or 'a file system of unknown kind'}")]
    return [
        Finding(
            "shared folder",
            "warning",
            f"{folder} is on {kind}, as a rule the disk of one machine",
            "a file system that all nodes see",
            "put the repository and results_dir on the cluster's shared file system",
        )
    ]
