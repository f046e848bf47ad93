"""``sclong debug TARGET``: the object that a rule's script sees, at a prompt, and its script run by hand."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def debug(folder: Path, target: str, typed: str, *settings: str) -> subprocess.CompletedProcess[str]:
    call = [sys.executable, "-m", "sclong", "debug", target, *settings]
    return subprocess.run(call, cwd=folder, input=typed, capture_output=True, text=True, timeout=120)


def test_the_prompt_has_the_job_of_a_target(clone: Path) -> None:
    typed = "print(snakemake.rule, snakemake.wildcards.seed, snakemake.params.native, snakemake.input.split)\n"
    done = debug(clone, "results/predictions/norman/additive/seed0.npz", typed)
    assert done.returncode == 0, done.stderr
    assert "predict_norman 0 True results/splits/norman.tsv" in done.stdout
    assert "scripts/predict.py" in done.stderr
    assert not (clone / "results").exists(), "nothing is run"


def test_the_script_runs_by_hand(clone: Path) -> None:
    done = debug(clone, "results/world/genes.csv", "_ = run()\n")
    assert done.returncode == 0, done.stderr
    assert (clone / "results" / "world" / "genes.csv").stat().st_size > 0


def test_a_target_that_nothing_makes_is_named_with_the_nearest(clone: Path) -> None:
    done = debug(clone, "results/norman_metric.tsv", "")
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "no rule makes 'results/norman_metric.tsv'" in done.stderr
    assert "sclong debug results/norman_metrics.tsv" in done.stderr
