"""The literal calls of the README, and what a user may do wrong, on the workflow itself (dry runs, seconds each)."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest


def snakemake(folder: Path, *args: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "snakemake", *args],
        cwd=folder,
        capture_output=True,
        text=True,
        env={**os.environ, **env},
        timeout=300,
    )


def output(done: subprocess.CompletedProcess[str]) -> str:
    return done.stdout + done.stderr


@pytest.mark.parametrize(
    ("call", "has", "has_not"),
    [
        (["-n", "all"], ["simulate", "pretrain", "score_norman", "report_page"], []),
        (["-n", "results/norman_metrics.tsv"], ["predict_norman", "pretrain"], ["score_l1000", "score_grn"]),
        (["-n", "-R", "score_norman"], ["score_norman"], []),
        (["--profile", "slurm", "-n", "all"], ["pretrain", "score_pancreas"], []),
        (
            ["-n", "--config", "preset=paper", "results_dir=results_paper"],
            ["census_part", "pretrain", "score_norman"],
            [],
        ),
    ],
    ids=lambda v: " ".join(v) if isinstance(v, list) else v,
)
def test_literal_calls(clone: Path, call: list[str], has: list[str], has_not: list[str]) -> None:
    done = snakemake(clone, *call)
    assert done.returncode == 0, output(done)
    counted = set(re.findall(r"^(\w+) +\d+$", done.stdout, flags=re.M))
    assert set(has) <= counted
    assert not set(has_not) & counted


@pytest.mark.parametrize("name", ["norman", "l1000", "deepcdr", "drug_combination", "grn", "pancreas"])
def test_every_benchmark_of_the_paper_has_a_target_and_a_rule(root: Path, name: str) -> None:
    from sclong.plan.plan import make_plan

    cwd = Path.cwd()
    os.chdir(root)
    try:
        plan = make_plan({})
    finally:
        os.chdir(cwd)
    assert plan.paths.result(f"{name}_metrics.tsv") in plan.metrics()


def test_the_lint_is_clean(clone: Path) -> None:
    done = snakemake(clone, "--lint")
    assert done.returncode == 0, output(done)


def test_what_a_dry_run_imports_is_free_of_torch(clone: Path) -> None:
    code = (
        "import sys; from sclong.plan.plan import make_plan; import sclong.world.files; make_plan({}); "
        "print([m for m in ('torch', 'scanpy', 'anndata', 'sklearn', 'rdkit', 'scipy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=clone, capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


def test_results_remember_their_preset(clone: Path) -> None:
    (clone / "results").mkdir()
    (clone / "results" / "preset.json").write_text(json.dumps({"preset": "demo"}))
    done = snakemake(clone, "-n", "--config", "preset=small")
    assert done.returncode != 0
    assert "holds results of preset 'demo'" in output(done)
    assert "results_dir=results_small" in output(done)
    assert "Traceback" not in output(done)


def test_a_mistyped_key_names_the_right_one(clone: Path) -> None:
    done = snakemake(clone, "-n", "--config", "benchmark=[norman]")
    assert done.returncode != 0
    assert "write 'benchmarks' instead" in output(done)
    assert "Traceback" not in output(done)


def test_offline_lists_everything_that_is_missing_in_one_message(clone: Path) -> None:
    done = snakemake(
        clone, "all", "--config", "preset=small", "offline=true", "results_dir=r", "benchmarks=[drug_combination]"
    )
    text = output(done)
    assert done.returncode != 0
    assert "offline, and" in text
    assert "new_labels_0_10.csv" in text and "https://raw.githubusercontent.com" in text
    assert re.search(r"\b[0-9a-f]{64}\b", text)
    assert "preset demo needs no file at all" in text
    assert not (clone / "r" / "vocabulary").exists()


def test_blocked_benchmarks_say_which_files_and_what_can_run(clone: Path) -> None:
    card = clone / "config/benchmarks/genetic_perturbation/norman.yaml"
    own = card.read_text().replace("source:gears_norman/", "file:data/norman/")
    assert "file:data/norman/perturb_processed.h5ad" in own
    card.write_text(own)
    done = snakemake(clone, "results_paper/norman_metrics.tsv", "--config", "preset=paper", "results_dir=results_paper")
    text = output(done)
    assert done.returncode != 0
    assert "perturb_processed.h5ad" in text
    assert "what to do" in text


def test_adding_a_data_set_is_one_card(clone: Path) -> None:
    card = (clone / "config/benchmarks/genetic_perturbation/norman.yaml").read_text()
    (clone / "config/benchmarks/genetic_perturbation/another.yaml").write_text(
        card.replace("name: norman", "name: another").replace("dataset: ", "dataset: other_")
    )
    done = snakemake(clone, "-n", "results/another_metrics.tsv")
    assert done.returncode == 0, output(done)
    assert "score_another" in done.stdout and "predict_another" in done.stdout


ADAPTER = '''
import numpy as np

from sclong.benchmark.model import Predictor


class Half(Predictor):
    """Half of the mean of the training targets."""

    def predict(self, problem, seed):
        mean = problem.targets[problem.rows("train")].mean(axis=0)
        return np.tile(mean / 2, (len(problem.test_samples), 1))
'''


def test_adding_a_comparator_is_one_card_and_one_adapter(clone: Path, root: Path) -> None:
    path = f"{clone}{os.pathsep}{root}"
    (clone / "half.py").write_text(ADAPTER)
    (clone / "config/models/half.yaml").write_text(
        "name: half\ntitle: Half\nsummary: Half of the mean.\nversion: 1\nrole: classical\nadapter: half:Half\n"
        "provides: [perturbation_prediction, response_prediction]\ndeterministic: true\n"
    )
    done = snakemake(clone, "-n", "all", PYTHONPATH=path)
    assert done.returncode == 0, output(done)
    assert "predictions/norman/half/seed0.npz" in done.stdout
    assert "predictions/deepcdr/half/seed0.npz" in done.stdout
    assert "predictions/grn/half" not in done.stdout
    code = (
        "from pathlib import Path; from sclong.config.cards import ModelCard, load_card; "
        "from sclong.benchmark.adapter import build; from sclong.benchmark.model import Predictor; "
        "print(type(build(load_card(Path('config/models/half.yaml'), ModelCard).recipe(), Predictor)).__name__)"
    )
    built = subprocess.run(
        [sys.executable, "-c", code],
        cwd=clone,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert built.stdout.strip() == "Half", built.stderr
