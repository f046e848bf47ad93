from __future__ import annotations

from pathlib import Path

from sclong import provenance
from sclong.provenance import code_hash, imports_of, semantic_hash

SOURCE = '"""Doc."""\n\n# comment\ndef f(x):\n    """What f does."""\n    return x + 1\n'


def _hash(tmp_path: Path, name: str, text: str) -> str:
    path = tmp_path / f"{name}.py"
    path.write_text(text)
    return semantic_hash(path)


def test_comments_docstrings_and_layout_do_not_count(tmp_path: Path) -> None:
    other = "def f( x ) :\n    return (x\n       + 1)  # the same\n"
    assert _hash(tmp_path, "a", SOURCE) == _hash(tmp_path, "b", other)


def test_a_changed_number_counts(tmp_path: Path) -> None:
    assert _hash(tmp_path, "a", SOURCE) != _hash(tmp_path, "b", SOURCE.replace("1", "2"))


def test_a_function_of_nothing_but_a_docstring_is_a_pass(tmp_path: Path) -> None:
    assert _hash(tmp_path, "a", 'def f():\n    """Doc."""\n') == _hash(tmp_path, "b", "def f():\n    pass\n")


def test_imports_are_followed(tmp_path: Path, monkeypatch) -> None:
    package = tmp_path / "sclong"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "a.py").write_text("from sclong.b import g\n")
    (package / "b.py").write_text("def g():\n    return 1\n")
    monkeypatch.setattr(provenance, "ROOT", package)
    for cached in (provenance._read, imports_of, code_hash):
        cached.cache_clear()
    first = code_hash("sclong.a")
    (package / "b.py").write_text("def g():\n    return 2\n")
    for cached in (provenance._read, imports_of, code_hash):
        cached.cache_clear()
    second = code_hash("sclong.a")
    for cached in (provenance._read, imports_of, code_hash):
        cached.cache_clear()
    assert first != second
