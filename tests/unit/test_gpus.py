"""Jobs of one machine that ask for GPUs: each has cards of its own, and a card is free when its job ends, however."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from sclong.runlog import claim_gpus

HOLD = """
import os, sys, time
from pathlib import Path
from sclong.runlog import claim_gpus
held = claim_gpus(int(sys.argv[2]), Path(sys.argv[1]), every_s=0.05)
print(os.environ.get("CUDA_VISIBLE_DEVICES", ""), flush=True)
time.sleep(60)
"""


def job(folder: Path, count: int) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", HOLD, str(folder), str(count)], stdout=subprocess.PIPE, text=True)


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_two_jobs_never_share_a_card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,GPU-ab,6")
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    jobs = [job(tmp_path, 1)]
    try:
        assert said(jobs[0]) == "4"
        jobs.append(job(tmp_path, 2))
        assert said(jobs[1]) == "GPU-ab,6"
        jobs.append(job(tmp_path, 1))  # waits
        jobs[0].send_signal(signal.SIGKILL)
        assert said(jobs[2]) == "4"
    finally:
        for process in jobs:
            process.kill()
            process.wait()


def test_where_nothing_is_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert claim_gpus(1, tmp_path) == []
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    assert claim_gpus(0, tmp_path) == []
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    assert claim_gpus(1, tmp_path) == []
    assert not list(tmp_path.iterdir())
