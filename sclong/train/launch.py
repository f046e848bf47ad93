"""Start a training: in this process, or with torchrun on one node, or with srun and torchrun on several.

Nothing here needs torch, so that rules can ask what a training needs.
"""

from __future__ import annotations

import fcntl
import logging
import os
import platform
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from sclong.config.sections import PretrainConfig
from sclong.errors import SclongError
from sclong.io.files import write_json, write_text
from sclong.runlog import LOGGER
from sclong.train.stop import TrainingStoppedError

SHUTDOWN_S = 600
"""Seconds that torchrun waits for processes that were asked to stop."""


class TrainingFailedError(SclongError):
    """A process of the training failed; its log says why."""


def command(config: PretrainConfig, job: Path, python: str = sys.executable) -> list[str]:
    """Return the command that starts all processes of a training.

    Parameters
    ----------
    config
        ``processes`` per node and ``nodes``.
    job
        JSON file that ``python -m sclong.train --config`` reads; every node must see it.
    python
        The interpreter.

    Returns
    -------
    list of str
        One node: torchrun. Several: srun, which starts one torchrun per node of the SLURM job; they meet at the first
        host of the job, at a port that follows from the job's number.
    """
    torchrun = [python, "-m", "torch.distributed.run"]
    module = ["-m", "sclong.train", "--config", str(job)]
    if config.nodes == 1:
        return [*torchrun, "--standalone", f"--nproc-per-node={config.processes}", *module]
    nodes = str(config.nodes)
    per_node = (
        "trap '' USR1; "  # SLURM's warning is for the processes, not for torchrun
        'head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1); '
        'address=$(scontrol show node "$head" | sed -n "s/.*NodeAddr=\\([^ ]*\\).*/\\1/p" | head -n 1); '
        'host=$([ "$SLURM_PROCID" = 0 ] && echo 1 || echo 0); '
        # what the node of rank 0 tells the others as MASTER_ADDR (torchrun chooses that node): else its own full name,
        # which other nodes may not know
        'own=; if [ -n "${SLURMD_NODENAME:-}" ]; then '
        'own=$(scontrol show node "$SLURMD_NODENAME" | sed -n "s/.*NodeAddr=\\([^ ]*\\).*/\\1/p" | head -n 1); fi; '
        f"exec {shlex.join(torchrun)} --nnodes={nodes} --nproc-per-node={config.processes} "
        '--rdzv-backend=c10d --rdzv-id="$SLURM_JOB_ID" '
        '--rdzv-endpoint="${address:-$head}:$((20000 + SLURM_JOB_ID % 20000))" '
        '--rdzv-conf="is_host=$host" ${own:+--local-addr="$own"} '
        f"{shlex.join(module)}"
    )
    return [
        "srun",
        f"--nodes={nodes}",
        f"--ntasks={nodes}",
        "--ntasks-per-node=1",
        f"--cpus-per-task={config.threads * config.processes}",
        "--kill-on-bad-exit=1",
        "bash",
        "-c",
        per_node,
    ]


def resources(config: PretrainConfig) -> dict[str, Any]:
    """Return what a rule must ask for, besides memory and time: GPUs on one node, or nodes with GPUs for SLURM."""
    gpus = config.processes if config.device == "cuda" else 0
    if config.nodes == 1:
        return {"gpu": gpus} | ({"nodes": 1} if gpus > 1 else {})  # SLURM may spread --gpus over nodes
    several = {"mpi": "srun", "nodes": config.nodes, "tasks": config.nodes, "slurm_extra": "--ntasks-per-node=1"}
    return several | ({"gres": f"gpu:{gpus}", "tasks_per_gpu": 0} if gpus else {})  # gres: of each node


def launch(job: Mapping[str, Any]) -> None:
    """Train, with as many processes as the job's configuration says, and wait for the end.

    SIGTERM and SIGUSR1 are handed on: the processes then save and stop.

    Parameters
    ----------
    job
        ``shards``, ``vocabulary``, ``go_graph``, ``gene2vec`` (None: random numbers), ``work_dir``, ``export_dir``:
        paths; ``architecture``, ``pretrain``: sections of the configuration.

    Raises
    ------
    TrainingStoppedError
        It was asked to stop, and has saved.
    TrainingFailedError
        A process failed, or another process or SLURM job trains in this folder.
    """
    config = PretrainConfig(**job["pretrain"])
    path = Path(job["work_dir"]) / "job.json"
    refuse_second_job(path.parent)
    with alone_in(path.parent):
        write_json(path, job)
        if config.processes * config.nodes == 1:
            from sclong.train.job import train

            train(path)
            return
        code, asked = run(command(config, path), config.threads)
    if asked and code:
        raise TrainingStoppedError("the training was asked to stop", "its end", "start it again: it goes on")
    if code:
        raise TrainingFailedError(
            f"the training ended with code {code}",
            "code 0 of all processes",
            "read the lines above; once the cause is gone, start it again: it goes on from its last checkpoint",
        )


@contextmanager
def alone_in(work_dir: Path) -> Iterator[None]:
    """Hold a folder for this process: a lock that the system lets go of however the process ends.

    A training outlives a Snakemake that is killed; without this a second one would train in the same folder at once.

    Raises
    ------
    TrainingFailedError
        Another process trains there now.
    """
    work_dir.mkdir(parents=True, exist_ok=True)
    with open(work_dir / "lock", "a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            who = file.read().strip() or "another process"
            raise TrainingFailedError(
                f"{who} trains in {work_dir} already",
                "one training at a time in a folder",
                "wait for its end, or end that process, and start again: it goes on from its last checkpoint",
            ) from None
        except OSError as error:  # a file system without locks
            LOGGER.warning("%s cannot be locked (%s): see that nothing else trains there", work_dir, error)
        file.truncate(0)
        file.write(f"process {os.getpid()} on {platform.node()}\n")
        file.flush()
        yield


def refuse_second_job(work_dir: Path) -> None:
    """Write down which SLURM job trains in a folder; outside of SLURM nothing is done.

    Raises
    ------
    TrainingFailedError
        Another job trains there now: Snakemake was killed, and started again while its job went on.
    """
    job = os.environ.get("SLURM_JOB_ID")
    if job is None:
        return
    path = work_dir / "slurm_job.txt"
    other = path.read_text().strip() if path.is_file() else job
    asked = ["squeue", "--noheader", "--states=RUNNING,SUSPENDED", "--format=%i", f"--jobs={other}"]
    if other != job and shutil.which("squeue") is None:  # in a container
        LOGGER.warning("no squeue here: cannot ask whether SLURM job %s still trains in %s", other, work_dir)
    elif other != job and subprocess.run(asked, capture_output=True, text=True).stdout.strip():
        raise TrainingFailedError(
            f"SLURM job {other} trains in {work_dir} already",
            "one job at a time",
            f"wait for its end (squeue --jobs={other}) or end it (scancel {other}), then start again",
        )
    write_text(path, f"{job}\n")


def run(arguments: list[str], threads: int) -> tuple[int, bool]:
    """Run a command, its lines into the log; return its exit code, and whether it was asked to stop."""
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": str(threads),
        "TORCH_ELASTIC_SHUTDOWN_TIMEOUT": str(SHUTDOWN_S),
        "PYTHONUNBUFFERED": "1",
    }
    ignored = signal.signal(signal.SIGUSR1, signal.SIG_IGN)  # inherited: torchrun would die of it
    process = subprocess.Popen(
        arguments, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    )
    asked = False

    def hand_on(number: int, _: FrameType | None) -> None:
        nonlocal asked
        asked = True
        process.send_signal(signal.SIGTERM)  # torchrun hands it on to its processes, srun to its tasks

    before = {number: signal.signal(number, hand_on) for number in (signal.SIGTERM, signal.SIGUSR1)}
    before[signal.SIGUSR1] = ignored
    try:
        level = logging.INFO
        for line in process.stdout or ():
            asked = asked or "death signal, shutting down workers" in line  # torchrun was asked by SLURM, on any node
            if asked and line.startswith("Traceback"):  # torchrun's way to say that it was asked to stop
                level = logging.DEBUG
            LOGGER.log(level, "%s", re.sub(r"^\d\d:\d\d:\d\d ", "", line.rstrip()))
        return process.wait(), asked
    finally:
        process.kill()
        for number, handler in before.items():
            signal.signal(number, handler)
