"""Which classes a card may name, and whether one is there and takes its options: read, not imported. Torch-free.

A card is data: it may not name any function of Python. An adapter is a class of sclong, of an installed package that
declares an entry point of a group ``sclong...``, or of a module that lies in the folder of the run.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Mapping
from functools import cache
from importlib.machinery import ModuleSpec, PathFinder
from importlib.metadata import distributions
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from sclong.errors import CardError, nearest

PACKAGE = "sclong"


@cache
def registered_packages() -> frozenset[str]:
    """Return sclong, and the packages of installed distributions that declare entry points of a group ``sclong...``."""
    found = {PACKAGE}
    for distribution in distributions():
        points = [p for p in distribution.entry_points if p.group.split(".")[0] == PACKAGE]
        found |= {point.value.partition(":")[0].split(".")[0] for point in points}
        files = (distribution.files or []) if points else []
        found |= {file.parts[0] for file in files if len(file.parts) > 1 and file.suffix == ".py"}
    return frozenset(found)


def check_adapter(model: str, adapter: str, options: Mapping[str, Any], folder: Path = Path(".")) -> None:
    """Refuse a card whose adapter may not be named, is not there, or does not take its options.

    Parameters
    ----------
    model, adapter, options
        Name, ``module:Class`` and keyword arguments of the card.
    folder
        Folder of the run, where own modules lie.

    Raises
    ------
    CardError
        Names the nearest class or option.
    """
    module, _, name = adapter.partition(":")
    where = f"model {model!r}, adapter {adapter!r}"
    path = _file_of(module, folder, where)
    tree = _parsed(path)
    classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    if name not in classes:
        if name in _imported(tree):
            return  # it is of another module: seen when it is built
        like = nearest(name, classes)
        raise CardError(
            f"{where}: {path} has no class {name!r}",
            "module:Class of a Predictor, a PredictorFromFeatures or an Embedder",
            f"write adapter: {module}:{like[0]}" if like else f"correct the card of model {model}",
        )
    found = _parameters(name, tree, folder)
    if found is None:
        return
    known, required = found
    unknown, missing = sorted(set(options) - known), sorted(required - set(options))
    if unknown or missing:
        like = nearest(unknown[0], known) if unknown else []
        what = f"has no option {unknown[0]!r}" if unknown else f"needs the option {missing[0]!r}"
        raise CardError(
            f"{where}: the class {what}",
            f"options: {', '.join(sorted(known)) or 'none'}",
            f"write {like[0]!r} in the options of the card" if like else f"correct the options of the card of {model}",
        )


def _file_of(module: str, folder: Path, where: str) -> Path:
    """Return the source of a module that a card may name."""
    parts = module.split(".")
    expected = "a module of sclong, of an installed package with entry points of sclong, or a file in this folder"
    spec = None
    if all(part.isidentifier() for part in parts) and parts[0] not in sys.stdlib_module_names:
        spec = _spec(parts)
    if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
        raise CardError(f"{where}: there is no module {module!r}", expected, "correct the adapter, see docs/cards.md")
    path = Path(spec.origin)
    if parts[0] not in registered_packages() and not path.resolve().is_relative_to(folder.resolve()):
        raise CardError(
            f"{where}: {path} may not be named by a card",
            expected,
            f"put the module in {folder.resolve()}, or install it as a package with an entry point (docs/cards.md)",
        )
    return path


def _spec(parts: list[str]) -> ModuleSpec | None:
    """Find a module without importing anything, not even the packages that it is in."""
    spec = find_spec(parts[0])  # of a first name: nothing is imported for it
    for place in range(1, len(parts)):
        if spec is None:
            return None
        spec = PathFinder.find_spec(".".join(parts[: place + 1]), spec.submodule_search_locations or [])
    return spec


@cache
def _parsed(path: Path) -> ast.Module:
    try:
        return ast.parse(path.read_text(encoding="utf-8"))
    except (SyntaxError, UnicodeDecodeError, OSError) as error:
        raise CardError(f"{path}: {error}", "a Python module", "correct the file") from None


def _imported(tree: ast.Module) -> dict[str, str]:
    """Return name -> module, of what a module imports by ``from ... import``."""
    return {
        alias.asname or alias.name: node.module
        for node in tree.body
        if isinstance(node, ast.ImportFrom) and node.module
        for alias in node.names
    }


def _parameters(name: str, tree: ast.Module, folder: Path) -> tuple[set[str], set[str]] | None:
    """Return the keyword arguments that a class knows and those it needs; None where they cannot be seen."""
    found = next((node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == name), None)
    if found is None:
        module = _imported(tree).get(name, "")
        spec = _spec(module.split(".")) if module.split(".")[0] in registered_packages() else None
        return _parameters(name, _parsed(Path(spec.origin)), folder) if spec and spec.origin else None
    if found.decorator_list:
        return None
    for node in found.body:
        if isinstance(node, ast.FunctionDef) and node.name == "__init__":
            arguments = node.args
            if arguments.kwarg or arguments.vararg:
                return None
            positional = [a.arg for a in (*arguments.posonlyargs, *arguments.args)][1:]
            needed = positional[: len(positional) - len(arguments.defaults)]
            keyword = zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
            needed += [a.arg for a, default in keyword if default is None]
            return {*positional, *(a.arg for a in arguments.kwonlyargs)}, set(needed)
    for base in found.bases:
        if isinstance(base, ast.Name) and (inherited := _parameters(base.id, tree, folder)) is not None:
            return inherited
    return None
