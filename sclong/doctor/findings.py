"""What a check finds, and the outside world that checks ask: programs, web servers, the clock. All can be replaced."""

from __future__ import annotations

import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from functools import cached_property
from pathlib import Path
from typing import Literal

from sclong.plan.costs import Attempts, Costs
from sclong.plan.jobs import Job
from sclong.plan.plan import Plan

Level = Literal["ok", "warning", "error"]
TIME_OUT_S = 30.0
WEB_TIME_OUT_S = 10.0


@dataclass(frozen=True)
class Finding:
    """What one check found.

    Attributes
    ----------
    check
        Its name.
    level
        ``ok``, ``warning`` (the run may work) or ``error`` (it will not).
    found, expected, action
        What is, what should be, what to do about it (empty where nothing is).
    """

    check: str
    level: Level
    found: str
    expected: str = ""
    action: str = ""


@dataclass(frozen=True)
class Answer:
    """What a program said; ``code`` is None when there is no such program or it took too long (``err`` says which)."""

    code: int | None
    out: str = ""
    err: str = ""

    @property
    def good(self) -> bool:
        """Whether it ended without error."""
        return self.code == 0


@dataclass(frozen=True)
class Head:
    """What a web server said: HTTP status, its clock in seconds since 1970, if it told, and the first bytes it sent."""

    status: int
    clock: float | None = None
    start: bytes = b"..."


def run_program(command: Sequence[str]) -> Answer:
    """Run a program for at most 30 s."""
    try:
        done = subprocess.run(list(command), capture_output=True, text=True, errors="replace", timeout=TIME_OUT_S)
    except FileNotFoundError:
        return Answer(None, err=f"no program {command[0]}")
    except subprocess.TimeoutExpired:
        return Answer(None, err=f"{command[0]} took more than {TIME_OUT_S:.0f} s")
    except OSError as error:
        return Answer(None, err=str(error))
    return Answer(done.returncode, done.stdout, done.stderr)


def ask_head(url: str) -> Head:
    """Ask a web server for the first bytes of an address, for at most 10 s: a status alone does not tell a wall.

    Raises
    ------
    OSError
        It cannot be reached.
    """
    request = urllib.request.Request(url, headers={"User-Agent": "sclong doctor", "Range": "bytes=0-255"})
    try:
        with urllib.request.urlopen(request, timeout=WEB_TIME_OUT_S) as answer:
            status, date, start = answer.status, answer.headers.get("Date"), answer.read(256)
    except urllib.error.HTTPError as error:
        status, date, start = error.code, error.headers.get("Date"), b""
    try:
        return Head(status, parsedate_to_datetime(date).timestamp() if date else None, start)
    except ValueError:
        return Head(status, None, start)


@dataclass(frozen=True)
class Tools:
    """The outside world: programs, web servers, the clock."""

    run: Callable[[Sequence[str]], Answer] = run_program
    head: Callable[[str], Head] = ask_head
    now: Callable[[], float] = time.time


@dataclass(frozen=True)
class Case:
    """What checks are given.

    Attributes
    ----------
    plan, jobs, costs
        The configuration, what would be submitted, what it costs.
    tools
        The outside world.
    environment
        Environment variables.
    partitions
        Partitions that the profile names, and what it says of their limits.
    root
        Folder of the repository.
    attempts
        How the profile starts failed jobs again.
    """

    plan: Plan
    jobs: Sequence[Job]
    costs: Costs
    tools: Tools
    environment: dict[str, str]
    partitions: dict[str, dict[str, object]] = field(default_factory=dict)
    root: Path = Path(".")
    attempts: Attempts = field(default_factory=Attempts)

    @cached_property
    def slurm(self) -> bool:
        """Whether there is a SLURM here."""
        return self.tools.run(["sinfo", "--version"]).good

    @property
    def wants_gpus(self) -> bool:
        """Whether any job asks for a GPU."""
        return any(job.gpus for job in self.jobs)


Check = Callable[[Case], list[Finding]]


def existing_folder(path: str | Path) -> Path:
    """Return the folder itself, or the nearest above it that exists."""
    folder = Path(path).resolve()
    while not folder.is_dir():
        folder = folder.parent
    return folder
