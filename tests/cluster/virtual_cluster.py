"""Calls of SLURM and of Snakemake on the virtual cluster."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

SLURM = Path(__file__).with_name("slurm")
FAULTS = Path(__file__).with_name("faults.smk")
PATIENCE_S = 900


def call(*command: str, check: bool = True) -> str:
    """Run a command of SLURM; return what it says."""
    return subprocess.run(command, capture_output=True, text=True, check=check).stdout.strip()


def wait_for(what: Callable[[], object], said: str) -> object:
    """Return the first true answer."""
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        if answer := what():
            return answer
        time.sleep(0.3)
    pytest.fail(f"waited {PATIENCE_S} s for: {said}")


@dataclass
class Run:
    """A call of Snakemake, in a folder of its own."""

    folder: Path
    process: subprocess.Popen[str]
    log: Path
    began: float = field(default_factory=time.time)

    def wait(self, patience: float = PATIENCE_S) -> str:
        """Wait for its end and expect success; return what it said."""
        return self.fails(0, patience)

    def fails(self, expected: int = 1, patience: float = PATIENCE_S) -> str:
        """Wait for its end and expect an exit code; return what it said."""
        try:
            code = self.process.wait(patience)
        except subprocess.TimeoutExpired:
            code = None
        text = self.log.read_text()
        logs = sorted((self.folder / ".snakemake/slurm_logs").rglob("*.log"))
        more = "".join(f"\n--- {path.name}\n{path.read_text()[-3000:]}" for path in logs)
        assert code == expected, text + (more if code else "")
        return text

    @property
    def took(self) -> float:
        """Seconds from its start to the last line that it said."""
        return self.log.stat().st_mtime - self.began

    def read(self, name: str) -> list[str]:
        """Return the lines of a file; none where it is not there."""
        path = self.folder / name
        return path.read_text().splitlines() if path.exists() else []

    def jobs(self, states: str = "RUNNING") -> list[str]:
        """Return ids of its SLURM jobs in these states."""
        lines = call("squeue", "-h", f"--states={states}", "-o", "%i %Z").splitlines()
        return [line.split()[0] for line in lines if line.split()[1] == str(self.folder)]


Start = Callable[..., Run]
