"""Where a result comes from: a hash of the meaning of the code, of the data, and who made it with what."""

from __future__ import annotations

import ast
import hashlib
import platform
import sys
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

ROOT = Path(__file__).parent


class _Reader(ast.NodeTransformer):
    """Takes the docstrings out of a tree and notes what it imports, in one pass."""

    def __init__(self) -> None:
        self.imported: set[str] = set()

    def _strip(self, node: ast.AST) -> ast.AST:
        self.generic_visit(node)
        body = node.body  # type: ignore[attr-defined]
        first = body[0].value if body and isinstance(body[0], ast.Expr) else None
        if isinstance(first, ast.Constant) and isinstance(first.value, str):
            node.body = body[1:] or [ast.Pass()]  # type: ignore[attr-defined]
        return node

    visit_Module = visit_ClassDef = visit_FunctionDef = visit_AsyncFunctionDef = _strip

    def visit_Import(self, node: ast.Import) -> ast.AST:
        self.imported.update(alias.name for alias in node.names)
        return node

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.AST:
        if node.module and node.level == 0:
            self.imported.add(node.module)
            self.imported.update(f"{node.module}.{alias.name}" for alias in node.names)
        return node


@cache
def _read(path: Path) -> tuple[str, frozenset[str]]:
    """Return the hash of what a Python file means, and the names that it imports; every job reads the whole package."""
    reader = _Reader()
    tree = reader.visit(ast.parse(path.read_text(encoding="utf-8"), filename=str(path)))
    meaning = ast.dump(tree, include_attributes=False)
    return hashlib.sha256(meaning.encode()).hexdigest(), frozenset(reader.imported)


def _module_path(name: str) -> Path | None:
    """File of a module of this package, or None for modules of others."""
    parts = name.split(".")
    if parts[0] != "sclong":
        return None
    base = ROOT.joinpath(*parts[1:])
    for candidate in (base.with_suffix(".py"), base / "__init__.py"):
        if candidate.is_file():
            return candidate
    return None


@cache
def imports_of(name: str) -> frozenset[str]:
    """Names of the modules of this package that `name` imports anywhere, also inside functions."""
    path = _module_path(name)
    if path is None:
        return frozenset()
    return frozenset(m for m in _read(path)[1] if m != name and _module_path(m) is not None)


def semantic_hash(path: Path) -> str:
    """Return a hash of what a Python file means: comments, docstrings and formatting do not count."""
    return _read(path)[0]


@cache
def code_hash(*modules: str) -> str:
    """Return a hash of the meaning of `modules` and of everything of this package that they import.

    Errors, logging and this module do not count: they change no result.
    """
    neutral = {"sclong", "sclong.errors", "sclong.runlog", "sclong.provenance"}
    todo, seen = [m for m in modules], set()
    while todo:
        name = todo.pop()
        if name in seen or name in neutral:
            continue
        seen.add(name)
        todo.extend(imports_of(name))
    digest = hashlib.sha256()
    for name in sorted(seen):
        path = _module_path(name)
        if path is not None:
            digest.update(f"{path.relative_to(ROOT).as_posix()}\0{semantic_hash(path)}\n".encode())
    return digest.hexdigest()[:16]


def environment() -> dict[str, str]:
    """Return the versions that a result depends on."""
    facts = {"python": platform.python_version(), "platform": platform.platform(), "argv": " ".join(sys.argv[:1])}
    for package in (
        "sclong",
        "torch",
        "performer-pytorch",
        "torch-geometric",
        "numpy",
        "scipy",
        "scikit-learn",
        "pandas",
        "anndata",
        "scanpy",
        "goatools",
        "rdkit",
        "snakemake",
    ):
        try:
            facts[package] = version(package)
        except PackageNotFoundError:
            facts[package] = "not installed"
    return facts
