"""Progress and logs: one line per interval, no carriage returns, uncaught errors end in the log."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from sclong.errors import SclongError

LOGGER = logging.getLogger("sclong")


def start(log_file: str | Path | None = None, label: str = "", level: int = logging.INFO) -> logging.Logger:
    """Send log lines to standard error and, if given, to a file.

    Parameters
    ----------
    log_file
        File that takes the log besides standard error; its folder is made.
    label
        Put in front of each line on standard error, where the lines of several jobs meet.
    level
        Lowest level that is written.
    """
    screen = logging.StreamHandler(sys.stderr)
    screen.setFormatter(logging.Formatter(f"%(asctime)s {label + ': ' if label else ''}%(message)s", "%H:%M:%S"))
    handlers: list[logging.Handler] = [screen]
    if log_file:
        Path(log_file).parent.mkdir(parents=True, exist_ok=True)
        file = logging.FileHandler(log_file, mode="w", encoding="utf-8")
        file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s", "%Y-%m-%d %H:%M:%S"))
        handlers.append(file)
    LOGGER.handlers[:] = handlers
    LOGGER.setLevel(level)
    LOGGER.propagate = False
    return LOGGER


@contextmanager
def logged(snakemake: Any) -> Iterator[logging.Logger]:
    """Run the body of a workflow script: threads set, log file opened, errors explained there and on the screen.

    An error of this project ends the job with its three parts; any other keeps its traceback. A job that ends well
    leaves a record beside its log (suffix ``.json``): rule, wildcards, commit, machine, threads, begin, seconds.

    Parameters
    ----------
    snakemake
        The object that Snakemake puts into a script.
    """
    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS"):
        os.environ[variable] = str(snakemake.threads)
    held = claim_gpus(int(snakemake.resources.get("gpu", 0) or 0))
    wildcards = ",".join(str(w) for w in snakemake.wildcards)
    log = start(snakemake.log[0], label=snakemake.rule + (f"[{wildcards}]" if wildcards else ""))
    begun, clock = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), time.monotonic()
    try:
        yield log
    except SclongError as error:
        log.error("%s", error)
        sys.exit(1)
    except Exception:
        log.exception("failed")
        raise
    finally:
        for lock in held:
            lock.close()
    record = {
        "rule": snakemake.rule,
        "wildcards": dict(snakemake.wildcards.items()),
        "commit": commit(),
        "machine": machine(),
        "threads": snakemake.threads,
        "begun": begun,
        "seconds": round(time.monotonic() - clock, 3),
    }
    Path(snakemake.log[0]).with_suffix(".json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def claim_gpus(count: int, folder: Path | None = None, every_s: float = 5.0) -> list[TextIO]:
    """Take GPUs for this process that no other job of this machine has, and show it no others.

    Under SLURM, and where no GPU is asked for, nothing is done. A lock goes with the process that holds it, however
    that ends.

    Parameters
    ----------
    count
        Number of GPUs; capped at those that are there.
    folder
        Of the locks; every user of the machine must be able to write there. None: the system's for temporary files.
    every_s
        Seconds between looks while none is free.

    Returns
    -------
    list of file
        The locks, to be closed when the job is done.
    """
    shown = os.environ.get("CUDA_VISIBLE_DEVICES")
    there = [p.name.removeprefix("nvidia") for p in sorted(Path("/dev").glob("nvidia[0-9]*"))]
    cards = there if shown is None else [card for card in shown.split(",") if card.strip()]
    count = min(count, len(cards))
    if not count or "SLURM_JOB_ID" in os.environ:
        return []
    waited = False
    while True:
        held: dict[str, TextIO] = {}
        for card in cards:
            path = (folder or Path(tempfile.gettempdir())) / f"sclong-gpu-{card.replace('/', '_')}.lock"
            file: TextIO = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o666), "r+", encoding="utf-8")
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.close()
                continue
            held[card] = file
            if len(held) == count:
                os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(held)
                return list(held.values())
        for file in held.values():
            file.close()
        if not waited:
            LOGGER.warning("waiting for %d of %d GPUs: other jobs of this machine have them", count, len(cards))
            waited = True
        time.sleep(every_s)


def commit() -> str:
    """Return the commit of the repository in the current folder ("1a2b3c4d5e6f", "... with changes"), or ""."""
    try:
        asked = ["git", "describe", "--always", "--abbrev=12", "--exclude=*", "--dirty= with changes"]
        return subprocess.run(asked, capture_output=True, text=True, check=True, timeout=30).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""


def machine() -> str:
    """Return processor and number of cores ("AMD EPYC 9654, 2 cores")."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        name = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "")
    except OSError:
        name = ""
    return f"{name or platform.processor() or platform.machine()}, {os.cpu_count()} cores"


def explain(error: BaseException) -> str:
    """Return the text a person should read for `error`: three parts for ours, the type's name for others."""
    return str(error) if isinstance(error, SclongError) else f"{type(error).__name__}: {error}"


class Progress:
    """Log one line per interval with rate and time left.

    Parameters
    ----------
    label
        What is being done ("embedding cells").
    total
        Number of units to do.
    unit
        Name of the unit in the rate ("cells").
    every_s
        Seconds between lines.
    """

    def __init__(
        self, label: str, total: int, unit: str, every_s: float = 10.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.label, self.total, self.unit, self.every_s, self.clock = label, total, unit, every_s, clock
        self.start = self.last = clock()
        self.done = 0

    def update(self, n: int = 1, note: str = "") -> None:
        """Count `n` more units; write a line when the interval has passed or all is done."""
        self.done += n
        now = self.clock()
        if now - self.last < self.every_s and self.done < self.total:
            return
        self.last = now
        rate = self.done / max(now - self.start, 1e-9)
        left_s = (self.total - self.done) / max(rate, 1e-9)
        LOGGER.info(
            "%s: %d/%d %s, %.3g %s/s, %.0f s left%s",
            self.label,
            self.done,
            self.total,
            self.unit,
            rate,
            self.unit,
            left_s,
            f", {note}" if note else "",
        )
