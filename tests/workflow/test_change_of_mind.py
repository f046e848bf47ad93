"""A run that cannot go on in a folder is refused before its first job: nothing finished is lost or used."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sclong.plan.plan import make_plan
from sclong.train.identity import planned_identity, remember_plan

TARGET = "results/checkpoints/sclong"
MADE = [f"results/{name}" for name in ("world", "vocabulary", "go", "corpus", "checkpoints", "training")]


def snakemake(folder: Path, *args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "snakemake", "--cores", "1", *args],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )


@pytest.fixture(scope="module")
def trained_folder(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that is finished as far as Snakemake knows, with a training whose identity is the planned one."""
    clone = tmp_path_factory.mktemp("clone")
    shutil.copy(root / "Snakefile", clone)
    for part in ("config", "workflow", "profiles", "envs", "resources"):
        shutil.copytree(root / part, clone / part)
    jobs = subprocess.run(
        [sys.executable, "-m", "sclong.plan.jobs", "-n", TARGET],
        cwd=clone,
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    for job in json.loads(jobs.stdout.splitlines()[-1])["jobs"]:
        for output in job["outputs"]:
            path = clone / output
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("finished") if Path(output).suffix else path.mkdir(exist_ok=True)
    (clone / TARGET / "model.safetensors").write_text("finished")
    done = snakemake(clone, "--touch", "--forceall", TARGET)
    assert done.returncode == 0, done.stderr
    plan = make_plan({}, clone)
    work_dir = clone / "results/training/sclong"
    work_dir.mkdir(parents=True, exist_ok=True)
    identity = planned_identity(plan.architecture, plan.trainings["sclong"])
    (work_dir / "identity.json").write_text(json.dumps({**identity, "vocabulary": "v", "shards": "s"}))
    remember_plan(work_dir, plan.data_of_training)
    (clone / "results/preset.json").write_text('{"preset": "demo"}')
    return clone


def contents(folder: Path) -> dict[str, str]:
    """Path -> hash of every file of results that a job could remove."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for part in MADE
        for path in sorted((folder / part).rglob("*"))
        if path.is_file()
    }


@pytest.mark.slow
@pytest.mark.parametrize(
    ("setting", "named"),
    [
        ("pretrain={learning_rate: 0.0005}", "pretrain.learning_rate: 0.016 there, 0.0005 now"),
        ("pretrain={seed: 7}", "pretrain.seed: 0 there, 7 now"),
        ("architecture=base", "architecture."),
        ("vocabulary={size: 100}", "vocabulary.size: None there, 100 now"),
        ("go={threshold: 0.5}", "go.threshold: 0.1 there, 0.5 now"),
        ("gene2vec={vectors: null}", "gene2vec.vectors"),
        ("corpus={minimum_genes: 7}", "corpus.minimum_genes: 100 there, 7 now"),
        ("preset=small", "holds results of preset 'demo'"),
    ],
)
def test_another_configuration_is_refused_and_nothing_is_lost(trained_folder: Path, setting: str, named: str) -> None:
    before = contents(trained_folder)
    done = snakemake(trained_folder, TARGET, "--config", setting)
    assert done.returncode == 1
    assert named in done.stderr and "results_dir=" in done.stderr and "Traceback" not in done.stderr
    assert contents(trained_folder) == before
    assert "Nothing to be done" in snakemake(trained_folder, TARGET).stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("setting", "named"),
    [
        ('corpus={sources: [{name: mine, input: "file:/data/mistyped.h5ad", tissue: brain}]}', "mistyped.h5ad"),
        ("vocabulary={annotation: 'world:gene.csv'}", "write world:genes.csv"),
        ("go={obo: 'file:no.obo'}", "go.obo: 'file:no.obo': there is no no.obo"),
        ("gene2vec={vectors: 'resource:no.txt'}", "gene2vec.vectors"),
        ("go={annotation: 'source:go_2019/no.gz'}", "no such row"),
        ("corpus={sources: [{name: a, input: 'world:a.h5ad'}, {name: a, input: 'world:b.h5ad'}]}", "are named a"),
    ],
)
def test_a_file_that_does_not_exist_is_refused_beside_old_results(
    trained_folder: Path, setting: str, named: str
) -> None:
    before = contents(trained_folder)
    for dry in ([], ["-n"]):
        done = snakemake(trained_folder, TARGET, *dry, "--config", setting)
        assert done.returncode == 1 and named in done.stdout + done.stderr
        assert "what to do" in done.stdout + done.stderr
    assert contents(trained_folder) == before


@pytest.mark.slow
def test_an_old_export_is_kept_when_a_training_starts_again(trained_folder: Path) -> None:
    """What a change of code, or of data that is not in the settings, makes a job replace."""
    from sclong.train.identity import keep_export

    kept = trained_folder / "results/training/sclong/exported/model.safetensors"
    keep_export(trained_folder / TARGET, trained_folder / "results/training/sclong")
    assert kept.read_text() == "finished"
    keep_export(trained_folder / "results/checkpoints/none", trained_folder / "results/training/sclong")
    assert kept.read_text() == "finished"
