"""A task with a capability and a figure of its own, added from outside: as a folder, and as an installed package."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import textwrap
import zipfile
from pathlib import Path

import pytest

CARDS = {
    "benchmarks/doubling/doubles.yaml": """
        name: doubles
        title: Doubles
        summary: Twice a number.
        task: doubling
        version: 1
        needs: [doubled_numbers]
        primary_metric: absolute_error
        data:
          demo:
            dataset: numbers
            inputs: {numbers: "file:numbers.txt"}
            split: thirds
        """,
    "models/doubling/twice.yaml": """
        name: twice
        title: Twice
        summary: The number, doubled.
        version: 1
        role: classical
        adapter: PACKAGE.models:Twice
        provides: [doubled_numbers]
        deterministic: true
        """,
    "models/doubling/zero_double.yaml": """
        like: constant
        name: zero_double
        provides: [doubled_numbers]
        """,
    "models/doubling/true_double.yaml": """
        name: true_double
        title: True double
        summary: The target.
        version: 1
        role: ceiling
        adapter: sclong.benchmark.controls:Truth
        provides: [doubled_numbers]
        deterministic: true
        sees_truth: true
        """,
}
DRAW = """
from sclong.plan.plan import make_plan
from sclong.report.page import figures
from sclong.report.tables import read_metrics, summarize
plan = make_plan({})
scores = read_metrics(["results/doubles_metrics.tsv"])
roles = {name: card.role for name, card in plan.models.items()}
summary = summarize(scores, plan.benchmarks, plan.data, roles)
print("".join(figures(plan, summary, scores, "doubles")))
"""


def run(folder: Path, python_path: Path | str, *call: str) -> str:
    done = subprocess.run(
        [sys.executable, *call],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "PYTHONPATH": str(python_path)},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def write_cards(folder: Path, package: str) -> None:
    for name, text in CARDS.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text).lstrip().replace("PACKAGE", package))


def check(clone: Path, python_path: Path | str) -> None:
    """The task is in the dry run, its table is made, its figure is drawn, and the docs list it."""
    (clone / "numbers.txt").write_text("1\n2\n4\n8\n16\n32\n")
    target = "results/doubles_metrics.tsv"
    planned = run(clone, python_path, "-m", "snakemake", "-n", "all")
    assert "score_doubles" in planned and "predictions/doubles/twice/seed0.npz" in planned
    assert "predictions/doubles/true_double" in planned and "predictions/norman/twice" not in planned
    run(clone, python_path, "-m", "snakemake", "--cores", "1", target)
    rows = [line.split("\t") for line in (clone / target).read_text().splitlines()]
    values = {row[rows[0].index("model")]: float(row[rows[0].index("value")]) for row in rows[1:]}
    assert values == {"twice": 0.0, "true_double": 0.0, "zero_double": (8 + 64) / 2}
    assert "<svg class='doubling'><text>3 rows of Doubles" in run(clone, python_path, "-c", DRAW)
    listed = run(clone, python_path, "docs/generate.py", "--tasks")
    assert "| Doubling | `doubling` | `doubled_numbers` |" in listed


@pytest.fixture
def workplace(clone: Path, root: Path) -> Path:
    shutil.copytree(root / "docs", clone / "docs")
    shutil.copy(root / "README.md", clone)
    return clone


@pytest.mark.slow
def test_a_task_is_a_folder_and_cards(workplace: Path, root: Path) -> None:
    shutil.copytree(root / "sclong", workplace / "sclong", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(Path(__file__).parent / "doubling", workplace / "sclong" / "tasks" / "doubling")
    write_cards(workplace / "config", "sclong.tasks.doubling")
    check(workplace, workplace)


@pytest.mark.slow
def test_a_task_and_a_model_come_from_an_installed_package(workplace: Path, root: Path, tmp_path: Path) -> None:
    """A wheel with entry points, installed by pip beside sclong; the clone itself is not edited."""
    source, site = tmp_path / "source", tmp_path / "site"
    shutil.copytree(
        Path(__file__).parent / "doubling", source / "doubling", ignore=shutil.ignore_patterns("__pycache__")
    )
    write_cards(source / "doubling_cards", "doubling")
    for folder in ("", "benchmarks", "models"):
        (source / "doubling_cards" / folder / "__init__.py").write_text("")
    wheel = tmp_path / "doubling-1.0-py3-none-any.whl"
    points = (
        "[sclong.tasks]\ndoubling = doubling.task:TASK\n[sclong.benchmarks]\ndoubling = doubling_cards.benchmarks\n"
        "[sclong.models]\ndoubling = doubling_cards.models\n"
    )
    about = {
        "METADATA": "Metadata-Version: 2.1\nName: doubling\nVersion: 1.0\n",
        "WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        "entry_points.txt": points,
    }
    files = {str(p.relative_to(source)): p.read_text() for p in sorted(source.rglob("*")) if p.is_file()}
    files |= {f"doubling-1.0.dist-info/{name}": text for name, text in about.items()}
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
        archive.writestr("doubling-1.0.dist-info/RECORD", "".join(f"{name},,\n" for name in files))
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(site)]
    subprocess.run([*pip, str(wheel)], check=True)
    check(workplace, os.pathsep.join([str(site), str(root)]))
    tree = json.loads(run(workplace, os.pathsep.join([str(site), str(root)]), "-c", LIST))
    assert "doubling" in tree["tasks"] and {"twice", "zero_double"} <= set(tree["models"])


LIST = """
import json
from sclong.benchmark.registry import load_tasks
from sclong.plan.plan import make_plan
print(json.dumps({"tasks": sorted(load_tasks()), "models": sorted(make_plan({}).models)}))
"""
