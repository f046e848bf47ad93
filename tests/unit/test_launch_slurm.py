"""A training as a SLURM job: who asked it to stop, and whether another job trains in its folder."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import pytest

from sclong.runlog import LOGGER
from sclong.train import launch


@pytest.fixture
def in_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Job 8, on a cluster where job 7 runs and no other."""
    program = tmp_path / "squeue"
    program.write_text('#!/bin/sh\ncase "$*" in *--jobs=7) echo 7;; esac\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setenv("SLURM_JOB_ID", "8")
    return tmp_path / "work"


@pytest.mark.parametrize(("there", "refused"), [(None, False), ("8", False), ("6", False), ("7", True)])
def test_a_second_job_is_refused_while_the_first_runs(in_job: Path, there: str | None, refused: bool) -> None:
    path = in_job / "slurm_job.txt"
    in_job.mkdir()
    if there:
        path.write_text(f"{there}\n")
    if refused:
        with pytest.raises(launch.TrainingFailedError, match="SLURM job 7 trains in"):
            launch.refuse_second_job(in_job)
        assert path.read_text() == "7\n"
    else:
        launch.refuse_second_job(in_job)
        assert path.read_text() == "8\n"


def test_in_a_container_without_squeue_the_training_goes_on(
    in_job: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("PATH", str(in_job))
    monkeypatch.setattr(LOGGER, "propagate", True)
    in_job.mkdir()
    (in_job / "slurm_job.txt").write_text("7\n")
    launch.refuse_second_job(in_job)
    assert (in_job / "slurm_job.txt").read_text() == "8\n"
    assert "no squeue here" in caplog.text and "job 7" in caplog.text


def test_outside_of_slurm_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    launch.refuse_second_job(tmp_path)
    assert not list(tmp_path.iterdir())


SAID = "W 1 torch/elastic/agent/server/api.py:753] Received 15 death signal, shutting down workers"


@pytest.mark.parametrize(
    "lines", [[SAID, "Traceback (most recent call last):", "  secret"], ["Traceback (most", "  secret"]]
)
def test_a_signal_that_only_the_processes_got_is_known(lines: list[str], caplog, monkeypatch) -> None:
    """SLURM warns the steps of a job, not its batch shell, where this process is."""
    monkeypatch.setattr(LOGGER, "propagate", True)
    caplog.set_level(logging.INFO, "sclong")
    code, asked = launch.run([sys.executable, "-c", f"print({chr(10).join(lines)!r}); raise SystemExit(3)"], 1)
    assert (code, asked) == (3, len(lines) == 3)
    assert ("secret" in caplog.text) is not asked
