"""The house: imports point down, no circle, no task knows another, modules are small, scripts are short."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ORDER = (
    "__main__",
    "cli",
    "debug",
    "tasks",
    "drugs",
    "report",
    "doctor",
    "plan",
    "benchmark",
    "train",
    "embed",
    "checkpoint",
    "nn",
    "corpus",
    "genes",
    "world",
    "cells",
    "io",
    "config",
    "provenance",
    "runlog",
    "seeding",
    "errors",
)
"""Rooms from the top down: each may import those after it, whatever the import is for. There are no exceptions."""


def modules(root: Path) -> dict[str, Path]:
    return {
        ".".join(p.relative_to(root).with_suffix("").parts).removesuffix(".__init__"): p
        for p in sorted((root / "sclong").rglob("*.py"))
    }


def imported(tree: ast.Module, known: set[str]) -> set[str]:
    """Modules of the package that a tree imports anywhere, also inside functions and for type checkers only."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found.update(a.name for a in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = {f"{node.module}.{a.name}" for a in node.names}
            found |= {n if n in known else node.module for n in names}
    return found & known


def room_of(name: str) -> str:
    """The room of a module; each task is a room of its own."""
    parts = name.split(".")[1:]
    return "/".join(parts[:2]) if parts[0] == "tasks" and len(parts) > 1 else parts[0]


def rooms(root: Path) -> dict[str, dict[str, list[str]]]:
    """Room -> room that it imports -> the imports."""
    known = modules(root)
    out: dict[str, dict[str, list[str]]] = {}
    for name, path in known.items():
        if name == "sclong":  # the front door hands out what is deep inside, when it is asked for
            continue
        for target in imported(ast.parse(path.read_text()), set(known)) - {"sclong"}:
            if room_of(name) != room_of(target):
                out.setdefault(room_of(name), {}).setdefault(room_of(target), []).append(f"{name} -> {target}")
    return out


def test_every_room_is_in_the_order(root: Path) -> None:
    assert {room_of(n).partition("/")[0] for n in modules(root) if n != "sclong"} == set(ORDER)


def test_imports_point_down(root: Path) -> None:
    level = {room: place for place, room in enumerate(ORDER)}
    wrong = [
        line
        for room, targets in rooms(root).items()
        for target, lines in targets.items()
        for line in lines
        if level[room.partition("/")[0]] > level[target.partition("/")[0]]
    ]
    assert not wrong


def test_no_task_imports_another(root: Path) -> None:
    wrong = [
        line
        for room, targets in rooms(root).items()
        for target, lines in targets.items()
        for line in lines
        if room.startswith("tasks/") and target.startswith("tasks/")
    ]
    assert not wrong


def test_no_circle_of_modules(root: Path) -> None:
    """By run-time imports at the top level of modules: a circle within a room is one, too."""
    known = modules(root)
    edges = {}
    for name, path in known.items():
        tree = ast.parse(path.read_text())
        tree.body = [n for n in tree.body if isinstance(n, ast.Import | ast.ImportFrom)]
        edges[name] = imported(tree, set(known)) - {name, "sclong"}
    done: set[str] = set()

    def walk(name: str, way: tuple[str, ...]) -> None:
        assert name not in way, " -> ".join([*way[way.index(name) :], name])
        if name not in done:
            for target in sorted(edges[name]):
                walk(target, (*way, name))
            done.add(name)

    for name in sorted(edges):
        walk(name, ())


@pytest.mark.parametrize("folder", ["sclong", "workflow", "Snakefile"])
def test_nothing_outside_the_tasks_names_one(root: Path, folder: str) -> None:
    names = {p.name for p in (root / "sclong" / "tasks").iterdir() if (p / "task.py").is_file()}
    assert len(names) >= 7
    path = root / folder
    files = [path] if path.is_file() else [*path.rglob("*.py"), *path.rglob("*.smk")]
    tasks, world = root / "sclong" / "tasks", root / "sclong" / "world"
    wrong = [
        f"{file.relative_to(root)}: {name}"
        for file in files
        if tasks not in file.parents and world not in file.parents  # the simulated world makes files for each of them
        for name in names
        if f'"{name}"' in file.read_text() or f"'{name}'" in file.read_text()
    ]
    assert not wrong


def test_modules_are_small(root: Path) -> None:
    long = {n: k for n, p in modules(root).items() if (k := len(p.read_text().splitlines())) > 400}
    assert not long


def test_the_formatter_is_never_overridden(root: Path) -> None:
    override = "fmt" + ": "
    files = [
        p for folder in ("sclong", "tests", "workflow", "benchmarks", "docs") for p in (root / folder).rglob("*.py")
    ]
    assert not [str(p) for p in files if override + "skip" in p.read_text() or override + "off" in p.read_text()]


def test_no_assert_checks_what_others_bring(root: Path) -> None:
    wrong = [
        f"{name}:{node.lineno}"
        for name, path in modules(root).items()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Assert)
    ]
    assert not wrong


def test_each_rule_has_its_script_and_scripts_are_short(root: Path) -> None:
    rules = "".join(p.read_text() for p in (root / "workflow/rules").glob("*.smk"))
    for script in (root / "workflow/scripts").glob("*.py"):
        assert f'"../scripts/{script.name}"' in rules, f"no rule uses {script.name}"
        code = [x for x in script.read_text().splitlines() if x.strip() and not x.startswith('"""')]
        assert len(code) <= 25, script.name


@pytest.mark.parametrize("word", ["/work/", "/root/", "session's", "issue #"])
def test_no_words_of_a_workplace(root: Path, word: str) -> None:
    here = Path(__file__)
    kinds = {".py", ".smk", ".yaml", ".md", ".rst", ".toml"}
    folders = ("sclong", "workflow", "config", "docs", "tests", "profiles", "envs")
    files = [p for folder in folders for p in (root / folder).rglob("*")]
    hits = [
        str(p)
        for p in files
        if p.is_file() and p != here and p.suffix in kinds and word in p.read_text(errors="ignore")
    ]
    assert not hits
