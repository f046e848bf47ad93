"""The house is as DESIGN says: imports point down, modules are small, scripts are short."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

LAYERS = [
    {"errors", "seeding", "runlog", "provenance", "cards", "config", "config_sections"},
    {"io"},
    {"data", "knowledge"},
    {"nn", "checkpoint"},
    {"heads", "train", "embedding", "metrics"},
    {"tasks", "models", "report"},
    {"plan_corpus", "plan_rows"},
    {"plan", "plan_costs", "plan_jobs", "doctor", "cli"},
]
LEVEL = {room: level for level, rooms in enumerate(LAYERS) for room in rooms}
CONTRACTS = {"sclong.benchmark.task", "sclong.benchmark.model"}  # what every room may speak of


def modules(root: Path) -> dict[str, Path]:
    return {
        ".".join(p.relative_to(root).with_suffix("").parts).removesuffix(".__init__"): p
        for p in sorted((root / "sclong").rglob("*.py"))
    }


def run_time_imports(tree: ast.Module) -> set[str]:
    """Modules imported anywhere but under TYPE_CHECKING."""
    found: set[str] = set()

    def visit(node: ast.AST) -> None:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            return
        if isinstance(node, ast.Import):
            found.update(a.name for a in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found.update(f"{node.module}.{a.name}" for a in node.names)
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(tree)
    return found


def room_of(name: str) -> str | None:
    parts = name.split(".")
    return parts[1] if len(parts) > 1 and parts[0] == "sclong" else None


def test_imports_point_down(root: Path) -> None:
    wrong = []
    known = modules(root)
    for name, path in known.items():
        room = room_of(name)
        if room is None:
            continue
        for target in run_time_imports(ast.parse(path.read_text())):
            other = room_of(target)
            if target not in known or target in CONTRACTS or other is None:
                continue
            if LEVEL[other] > LEVEL[room]:
                wrong.append(f"{name} -> {target}")
    assert not wrong


def test_modules_are_small(root: Path) -> None:
    long = {n: k for n, p in modules(root).items() if (k := len(p.read_text().splitlines())) > 400}
    assert not long


def test_each_rule_has_its_script_and_scripts_are_short(root: Path) -> None:
    rules = "".join(p.read_text() for p in (root / "workflow/rules").glob("*.smk"))
    for script in (root / "workflow/scripts").glob("*.py"):
        assert f'"../scripts/{script.name}"' in rules, f"no rule uses {script.name}"
        code = [x for x in script.read_text().splitlines() if x.strip() and not x.startswith('"""')]
        assert len(code) <= 25, script.name


@pytest.mark.parametrize("word", ["/work/", "/root/", "session's", "issue #"])
def test_no_words_of_a_workplace(root: Path, word: str) -> None:
    here = Path(__file__)
    hits = [
        str(p)
        for folder in ("sclong", "workflow", "config", "docs", "tests", "profiles", "envs")
        for p in (root / folder).rglob("*")
        if p.is_file()
        and p != here
        and p.suffix in {".py", ".smk", ".yaml", ".md", ".rst", ".toml"}
        and word in p.read_text(errors="ignore")
    ]
    assert not hits
