"""What changing one thing costs: how many jobs of a finished demo run again after an edit, and which."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("reruns")]
PARTS = ("Snakefile", "config", "workflow", "profiles", "envs", "resources", "sclong")


def call(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=600,
        env={**os.environ, "PYTHONPATH": str(folder)},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def finished(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A demo that is finished as far as Snakemake knows: every file is there, empty, with the metadata of its job."""
    folder = tmp_path_factory.mktemp("finished")
    for part in PARTS:
        if (root / part).is_dir():
            shutil.copytree(root / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(root / part, folder / part)
    jobs = json.loads(call(folder, "sclong.plan.jobs", "-n", "all").splitlines()[-1])["jobs"]
    for job in jobs:
        for output in job["outputs"]:
            path = folder / output
            path.parent.mkdir(parents=True, exist_ok=True)
            if Path(output).suffix:
                path.touch()
            else:
                path.mkdir(exist_ok=True)
    call(folder, "snakemake", "--touch", "--forceall", "--cores", "1", "all")
    assert scheduled(folder) == {}
    return folder


def scheduled(folder: Path) -> Counter[str]:
    """Return rule -> number of jobs that would run."""
    text = call(folder, "snakemake", "-n", "all", "--quiet", "host")
    rules = dict(re.findall(r"^(\w+) +(\d+)$", text, flags=re.M))
    return Counter({rule: int(n) for rule, n in rules.items() if rule not in ("all", "total")})


@contextmanager
def edited(folder: Path, module: str, change: Callable[[str], str]) -> Iterator[None]:
    """Change a file of the copy, and put it back."""
    path = folder / module
    before, times = path.read_text(), path.stat()
    after = change(before)
    assert after != before, f"nothing changed in {module}"
    path.write_text(after)
    try:
        yield
    finally:
        path.write_text(before)
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def replaced(old: str, new: str) -> Callable[[str], str]:
    def change(text: str) -> str:
        assert text.count(old) == 1, f"{old!r} appears {text.count(old)} times"
        return text.replace(old, new)

    return change


def in_class(name: str, line: str) -> Callable[[str], str]:
    """Put a line at the begin of a class's body, after its docstring of one line."""
    return lambda text: re.sub(rf'(class {name}\(.*\n    """.*"""\n)', rf"\1\n    {line}\n", text)


def in_function(name: str, statement: str) -> Callable[[str], str]:
    """Put a statement at the begin of a function's body, after its docstring."""

    def change(text: str) -> str:
        start = re.search(rf"^( *)def {name}\(", text, flags=re.M)
        assert start, name
        docstring = re.compile(r'"""(?:.|\n)*?"""\n')
        found = docstring.search(text, start.end())
        assert found
        return text[: found.end()] + f"{start[1]}    {statement}\n" + text[found.end() :]

    return change


TASKS = "sclong/tasks"
TABLE = [
    # what changes: file, edit, number of jobs, whether pretraining is among them
    ("ASW", f"{TASKS}/batch_integration/metrics.py", in_function("batch_asw_scib", "embedding = embedding * 2"), 3),
    ("AUROC", "sclong/benchmark/ranking.py", in_function("auroc", "scores = scores * 2"), 23),
    ("AUPR of networks", f"{TASKS}/grn_inference/metrics.py", in_function("average_precision", "self = self"), 3),
    (
        "interaction score",
        f"{TASKS}/genetic_perturbation/score.py",
        replaced("OLS_GENES, OLS_CALLS, GEARS_CALLS = 50", "OLS_GENES, OLS_CALLS, GEARS_CALLS = 49"),
        3,
    ),
    ("split of norman", f"{TASKS}/genetic_perturbation/split.py", in_function("split", "seed = seed + 1"), 37),
    (
        "key of the model cards",
        "sclong/config/cards.py",
        replaced("    published_as: str | None", "    extra: int = 3\n    published_as: str | None"),
        2,
    ),
    ("key of embed", "sclong/config/sections.py", in_class("EmbedConfig", "extra: int = 3"), 0),
    ("a comment", "sclong/benchmark/predict.py", lambda text: text + "\n# a comment\n", 0),
    ("a docstring", "sclong/benchmark/score.py", replaced('"""The step score', '"""THE step score'), 0),
]


@pytest.mark.parametrize(("module", "change", "jobs"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE])
def test_an_edit_costs_what_it_must(finished: Path, module: str, change: Callable[[str], str], jobs: int) -> None:
    with edited(finished, module, change):
        found = scheduled(finished)
    assert abs(found.total() - jobs) <= 1, found
    assert "pretrain" not in found


def kinds(found: Counter[str]) -> dict[str, int]:
    """Return kind of rule (predict, score, embed, ...) -> number of jobs."""
    out: Counter[str] = Counter()
    for rule, n in found.items():
        out[rule.partition("_")[0] if rule.startswith(("predict", "score", "split", "prepare")) else rule] += n
    return dict(out)


def everything(folder: Path) -> dict[str, int]:
    """Return kind of rule -> number of its jobs in the whole demo."""
    text = call(folder, "snakemake", "-n", "all", "--forceall", "--quiet", "host")
    rules = dict(re.findall(r"^(\w+) +(\d+)$", text, flags=re.M))
    return kinds(Counter({rule: int(n) for rule, n in rules.items() if rule not in ("all", "total")}))


def test_the_predict_step_runs_all_predictions_again(finished: Path) -> None:
    change = replaced(": _checked(answer(p), p, recipe))", ": 0 * _checked(answer(p), p, recipe))")
    every = everything(finished)
    with edited(finished, "sclong/benchmark/predict.py", change):
        found = kinds(scheduled(finished))
    expected = {kind: every[kind] for kind in ("predict", "score", "summary", "report_page")}
    assert found == expected


def test_the_score_step_runs_all_scores_again(finished: Path) -> None:
    change = replaced('"seed": seed}', '"seed": seed + 0}')
    every = everything(finished)
    with edited(finished, "sclong/benchmark/score.py", change):
        found = kinds(scheduled(finished))
    assert found == {kind: every[kind] for kind in ("score", "summary", "report_page")}


def test_the_format_of_embeddings_runs_them_again_and_what_follows(finished: Path) -> None:
    change = replaced(
        "np.asarray(embedding.gene_mapped, dtype=int)", "np.asarray(embedding.gene_mapped, dtype=int) * 1"
    )
    every = everything(finished)
    with edited(finished, "sclong/benchmark/features.py", change):
        found = kinds(scheduled(finished))
    assert found["embed"] == every["embed"] and {"predict", "score", "summary", "report_page"} <= set(found)
    assert not {"pretrain", "prepare", "split", "initialise"} & set(found)


def test_the_learning_rate_trains_again(finished: Path) -> None:
    with edited(finished, "sclong/train/optim.py", in_function("learning_rate", "peak = 2 * peak")):
        found = kinds(scheduled(finished))
    assert found["pretrain"] == 1 and "embed" in found and not {"shards", "prepare", "initialise"} & set(found)


def test_a_renamed_module_runs_nothing(finished: Path, tmp_path: Path) -> None:
    """Every import of it follows; its folder and all that import it are as before otherwise."""
    before, after = "sclong.benchmark.ranking", "sclong.benchmark.orders"
    old, new = finished / "sclong/benchmark/ranking.py", finished / "sclong/benchmark/orders.py"
    touched = [p for p in (finished / "sclong").rglob("*.py") if before in p.read_text()]
    texts = {p: p.read_text() for p in touched}
    shutil.copy(old, tmp_path)
    try:
        for path in touched:
            path.write_text(texts[path].replace(before, after))
        old.rename(new)
        assert scheduled(finished) == {}
    finally:
        new.unlink(missing_ok=True)
        shutil.copy(tmp_path / "ranking.py", old)
        for path, text in texts.items():
            path.write_text(text)
