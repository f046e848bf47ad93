"""Where a result comes from: a hash of the meaning of the code behind it, and the versions it was made with.

The hash of a step covers what runs when the step runs, definition by definition: starting from the entry points of the
step (a workflow script, a function, a class), every definition that they refer to, in any module of the same packages,
and so on. It holds meaning only. Comments, docstrings, layout, annotations, log messages and the texts of errors are
left out, and so are the names of modules and files and the order of imports: a module that is renamed changes no hash.

What the hash cannot see is what no name refers to: a module that is imported by a computed name. Such parts are entry
points of their own, which the rule names (the adapter of a model card, a task's part of a step).
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import platform
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache, cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGE = "sclong"
NEUTRAL = ("sclong.errors", "sclong.runlog", "sclong.provenance", "sclong.config")
"""Modules, and packages with all their modules, that decide no result. What a configuration or a card says reaches a
step through the parameters of its rule, which Snakemake compares by itself."""
LOGGERS = {"LOGGER", "log", "logger"}
ROUNDS = 3
RECORDED = (
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
)


@dataclass(frozen=True)
class Definition:
    """A name that a module defines at its top level, or (name "") what the module does when it is imported."""

    module: Path
    name: str


@dataclass
class Meaning:
    """What one definition says: its own text in canonical form, and the definitions it refers to, in order."""

    text: str
    refers_to: list[Definition] = field(default_factory=list)


def code_hash(*entries: str | Path) -> str:
    """Return a hash of the meaning of the code that runs from some entry points.

    Parameters
    ----------
    entries
        Each is ``module:name`` (a function or class, or an attribute of one), ``module`` (all of it), or the path of a
        script. A definition is followed into the packages of the entry points and into this package.

    Returns
    -------
    str
        16 hexadecimal digits.

    Raises
    ------
    ModuleNotFoundError, AttributeError
        An entry point does not exist.
    """
    return _code_hash(frozenset(str(e) for e in entries))


@cache
def _code_hash(entries: frozenset[str]) -> str:
    packages = frozenset({PACKAGE, *(e.partition(":")[0].split(".")[0] for e in entries if not e.endswith(".py"))})
    todo = [d for entry in sorted(entries) for d in _entry(entry)]
    meanings: dict[Definition, Meaning] = {}
    while todo:
        definition = todo.pop()
        if definition not in meanings:
            meanings[definition] = _meaning(definition, packages)
            todo += meanings[definition].refers_to
    digests = {d: _digest(m.text) for d, m in meanings.items()}
    for _ in range(ROUNDS):  # tells apart definitions of one name that refer to different things
        digests = {d: _digest(m.text, *(digests[r] for r in m.refers_to)) for d, m in meanings.items()}
    return _digest(*sorted(digests.values()))[:16]


def _digest(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _entry(entry: str) -> list[Definition]:
    """Return the definitions that an entry point names."""
    if entry.endswith(".py"):
        return _Module.read(Path(entry).resolve()).everything()
    name, _, attribute = entry.partition(":")
    path = _path_of(name)
    if path is None:
        raise ModuleNotFoundError(f"no module {name!r}", name=name)
    module = _Module.read(path)
    if not attribute:
        return module.everything()
    found = module.find(attribute.split(".")[0], frozenset({PACKAGE, name.split(".")[0]}))
    if not isinstance(found, Definition):
        raise AttributeError(f"module {name!r} has no {attribute!r}", name=attribute, obj=name)
    return [found]


# ---------------------------------------------------------------------- modules


@cache
def _roots(package: str) -> tuple[Path, ...]:
    """Return where a top-level package or module lies, without importing it."""
    if package == PACKAGE:
        return (Path(__file__).parent,)
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):
        return ()
    if spec is None:
        return ()
    if spec.submodule_search_locations:
        return tuple(Path(p) for p in spec.submodule_search_locations)
    return (Path(spec.origin),) if spec.origin else ()


@cache
def _path_of(name: str) -> Path | None:
    """Return the file of a module, or None where it is no module written in Python."""
    top, *rest = name.split(".")
    for root in _roots(top):
        if root.is_file():
            return root if not rest and root.suffix == ".py" else None
        base = root.joinpath(*rest)
        for candidate in (base / "__init__.py", base.with_suffix(".py") if rest else base / "__init__.py"):
            if candidate.is_file():
                return candidate.resolve()
    return None


@cache
def _is_neutral(name: str) -> bool:
    return name == PACKAGE or any(name == n or name.startswith(f"{n}.") for n in NEUTRAL)


class _Module:
    """The top level of one Python file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.tree = ast.parse(path.read_text(encoding="utf-8"), filename=str(path))

    @staticmethod
    @cache
    def read(path: Path) -> _Module:
        """Parse a file, once."""
        return _Module(path)

    @cached_property
    def definitions(self) -> dict[str, list[ast.stmt]]:
        """Name -> the statements that define it; under "" those that define nothing."""
        out: dict[str, list[ast.stmt]] = {}
        for statement in self.tree.body:
            if _is_import(statement) or _is_text(statement) or _is_for_type_checkers(statement):
                continue
            for name in _defined(statement) or {""}:
                out.setdefault(name, []).append(statement)
        return out

    @cached_property
    def imports(self) -> dict[str, tuple[str, str | None]]:
        """Local name -> (module, name in it or None for the module itself), of the imports at the top level."""
        return {
            name: target
            for statement in self.tree.body
            if not _is_for_type_checkers(statement)
            for node in ast.walk(statement)
            if _is_import(node) and not isinstance(statement, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef)
            for name, target in self.imported(node)
        }

    def imported(self, node: ast.AST) -> Iterator[tuple[str, tuple[str, str | None]]]:
        """Yield what one import statement binds."""
        if isinstance(node, ast.Import):
            for alias in node.names:
                whole = alias.name if alias.asname else alias.name.split(".")[0]
                yield alias.asname or whole, (whole, None)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            for alias in node.names:
                yield alias.asname or alias.name, (node.module, alias.name)

    def everything(self) -> list[Definition]:
        """Return all definitions of the module."""
        return [Definition(self.path, name) for name in sorted({*self.definitions, ""})]

    def find(self, name: str, packages: frozenset[str]) -> Definition | str | None:
        """Return the definition that a name of this module stands for; else the dotted name of what it imports."""
        if name in self.definitions:
            return Definition(self.path, name)
        if name in self.imports:
            return _target(*self.imports[name], packages)
        return None


def _target(module: str, name: str | None, packages: frozenset[str]) -> Definition | str | None:
    """Return what ``from module import name`` stands for: a definition, or the dotted name of a module."""
    dotted = module if name is None else f"{module}.{name}"
    if module.split(".")[0] not in packages:
        return f"extern {dotted}"
    is_module = name is None or _path_of(dotted) is not None
    if _is_neutral(dotted if is_module else module) and dotted != PACKAGE:
        return f"extern {dotted.split('.')[-1]}"
    if name is None or is_module:
        return dotted
    path = _path_of(module)
    return None if path is None else _Module.read(path).find(name, packages)


def _is_import(node: ast.AST) -> bool:
    return isinstance(node, ast.Import | ast.ImportFrom)


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _is_for_type_checkers(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)


def _defined(statement: ast.stmt) -> set[str]:
    """Return the names that a top-level statement binds, imports within it left out."""
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return {statement.name}
    names = set()
    for node in ast.walk(statement):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
    return names


# --------------------------------------------------------------------- meaning


@cache
def _meaning(definition: Definition, packages: frozenset[str]) -> Meaning:
    """Read one definition."""
    module = _Module.read(definition.module)
    reader = _Reader(module, packages)
    text = "\n".join(reader.read(s) for s in module.definitions.get(definition.name, []))
    refers_to = list(dict.fromkeys(reader.found))
    if definition.name and "" in module.definitions:
        refers_to.append(Definition(definition.module, ""))
    return Meaning(text, refers_to)


class _Reader:
    """Writes statements in canonical form and notes what they refer to."""

    def __init__(self, module: _Module, packages: frozenset[str]) -> None:
        self.module, self.packages = module, packages
        self.local: dict[str, tuple[str, str | None]] = {}
        self.found: list[Definition] = []

    def read(self, statement: ast.stmt) -> str:
        """Return the canonical text of a statement."""
        for node in ast.walk(statement):
            if _is_import(node):
                self.local.update(self.module.imported(node))
        return self._write(statement)

    def _write(self, node: object) -> str:
        if isinstance(node, list):
            return "[" + ",".join(self._write(n) for n in node if not _says_nothing(n)) + "]"
        if not isinstance(node, ast.AST):
            return self._constant(node)
        if isinstance(node, ast.Name | ast.Attribute) and (token := self._reference(node)) is not None:
            return token
        if isinstance(node, ast.Raise):
            return f"Raise({self._raised(node.exc)})"
        skip = {"type_comment", "returns", "kind", "type_ignores", "type_params"}
        if isinstance(node, ast.arg):
            self._write(node.annotation)
            skip |= {"annotation"}
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            self._write(node.returns)
        fields = (f"{k}={self._write(v)}" for k, v in ast.iter_fields(node) if k not in skip and v is not None)
        return f"{type(node).__name__}({','.join(fields)})"

    def _constant(self, value: object) -> str:
        """Write a constant; the name of a file beside the module stands for what the file says."""
        if isinstance(value, str) and 0 < len(value) < 80 and "." in value and "/" not in value and "\n" not in value:
            beside = self.module.path.with_name(value) if value.strip(".") else self.module.path
            if beside.suffix not in {".py", ""} and beside.is_file():
                return f"file {hashlib.sha256(beside.read_bytes()).hexdigest()}"
        return repr(value)

    def _raised(self, node: ast.expr | None) -> str:
        """Return what is raised, without what it says."""
        return self._write(node.func if isinstance(node, ast.Call) else node)

    def _reference(self, node: ast.Name | ast.Attribute) -> str | None:
        """Return what a (dotted) name stands for, if it is a definition of a package that is followed."""
        chain: list[str] = []
        base: ast.expr = node
        while isinstance(base, ast.Attribute):
            chain.insert(0, base.attr)
            base = base.value
        if not isinstance(base, ast.Name):
            return None
        target: Definition | str | None
        if base.id in self.local:
            target = _target(*self.local[base.id], self.packages)
        else:
            target = self.module.find(base.id, self.packages)
        while isinstance(target, str) and not target.startswith("extern ") and chain:
            target = _target(target, chain.pop(0), self.packages)
        if target is None:
            return None
        tail = "".join(f".{c}" for c in chain)
        if isinstance(target, Definition):
            self.found.append(target)
            return f"<{target.name}{tail}>"
        if target.startswith("extern "):
            return f"<{target}{tail}>"
        path = _path_of(target)
        if path is not None:  # a module handed on as it is
            self.found += _Module.read(path).everything()
        return "<module>"


def _says_nothing(node: object) -> bool:
    """Whether a statement changes no result: a text, an import, a line of the log."""
    if not isinstance(node, ast.stmt):
        return False
    if _is_text(node) or _is_import(node) or isinstance(node, ast.Pass):
        return True
    call = node.value if isinstance(node, ast.Expr) else None
    if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Attribute):
        return False
    return isinstance(call.func.value, ast.Name) and call.func.value.id in LOGGERS


def environment() -> dict[str, str]:
    """Return the versions that a result depends on."""
    facts = {"python": platform.python_version(), "platform": platform.platform(), "argv": " ".join(sys.argv[:1])}
    for package in RECORDED:
        try:
            facts[package] = version(package)
        except PackageNotFoundError:
            facts[package] = "not installed"
    return facts
