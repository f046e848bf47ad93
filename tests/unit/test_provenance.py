"""The hash of the code behind a step: meaning counts, and nothing else does."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest

from sclong.provenance import code_hash

Hash = Callable[..., str]
NUMBER = itertools.count()  # names of packages are not used twice: where a package lies is remembered
MAIN = '''"""Doc."""
import json

import numpy as np
from NAME.lower import helper
from NAME.lower import Thing

LIMIT = 3

# a comment
def step(x: int) -> int:
    """What it does."""
    LOGGER.info("at %d", x)
    if x > LIMIT:
        raise ValueError("too large")
    return helper(x) + Thing().value() + int(np.sum([1]))
'''
LOWER = '''def helper(x):
    return x + 1


def unused(x):
    return x - 1


class Thing:
    """A thing."""

    def value(self):
        return 2
'''


@pytest.fixture
def hashed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hash:
    """Write a package of a new name and return the hash of an entry point; NAME in the text stands for its name."""
    monkeypatch.syspath_prepend(tmp_path)

    def make(main: str = MAIN, lower: str = LOWER, entry: str = "main:step", **others: str) -> str:
        name = f"package{next(NUMBER)}"
        folder = tmp_path / name
        folder.mkdir()
        for module, text in {"__init__": "", "main": main, "lower": lower, **others}.items():
            file = folder / (module.replace("__dot__", ".") if "__dot__" in module else f"{module}.py")
            file.write_text(text.replace("NAME", name))
        return code_hash(f"{name}.{entry}")

    return make


def test_the_name_of_a_package_is_no_meaning(hashed: Hash) -> None:
    assert hashed() == hashed()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("# a comment", "# another one"),
        ('"""What it does."""', '"""Other words."""'),
        ('"""Doc."""', ""),
        ("helper(x) + Thing().value()", "(helper( x )\n        + Thing().value())"),
        ("from NAME.lower import helper\nfrom NAME.lower import Thing", "from NAME.lower import Thing, helper"),
        ("import numpy as np", "import numpy as xp"),
        ('LOGGER.info("at %d", x)', 'LOGGER.debug("%d cells done", x)'),
        ('ValueError("too large")', 'ValueError(f"{x}: too large, at most {LIMIT}")'),
        ("(x: int) -> int", "(x)"),
    ],
)
def test_what_changes_no_result_changes_no_hash(hashed: Hash, old: str, new: str) -> None:
    assert old in MAIN
    changed = MAIN.replace(old, new)
    if "xp" in new:
        changed = changed.replace("np.sum", "xp.sum")
    assert hashed(changed) == hashed()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("LIMIT = 3", "LIMIT = 4"),
        ("if x > LIMIT", "if x >= LIMIT"),
        ("ValueError", "TypeError"),
        ("np.sum", "np.max"),
        ("LIMIT = 3", "LIMIT = 3\nnp.seterr(all='raise')"),
        ("import numpy as np", "import numpy.ma as np"),
    ],
)
def test_what_changes_a_result_changes_the_hash(hashed: Hash, old: str, new: str) -> None:
    assert hashed(MAIN.replace(old, new)) != hashed()


def test_only_what_is_reached_counts(hashed: Hash) -> None:
    assert hashed(lower=LOWER.replace("x - 1", "x - 2")) == hashed()
    assert hashed(lower=LOWER.replace("x + 1", "x + 2")) != hashed()
    assert hashed(lower=LOWER.replace("return 2", "return 3")) != hashed()


def test_a_module_that_is_renamed_changes_nothing(hashed: Hash) -> None:
    assert hashed(MAIN.replace("NAME.lower", "NAME.moved"), lower="", moved=LOWER) == hashed()


def test_a_definition_that_moves_behind_another_import_changes_nothing(hashed: Hash) -> None:
    through = "from NAME.moved import Thing, helper\n"
    assert hashed(lower=through, moved=LOWER) == hashed()


def test_an_alias_of_a_module_and_an_import_inside_a_function_are_followed(hashed: Hash) -> None:
    inside = MAIN.replace("from NAME.lower import helper\n", "").replace(
        "    if x > LIMIT", "    from NAME import lower as low\n\n    if x > LIMIT"
    )
    inside = inside.replace("helper(x)", "low.helper(x)")
    assert hashed(inside) == hashed()
    assert hashed(inside, LOWER.replace("x + 1", "x + 2")) != hashed(inside)


def test_two_definitions_of_one_name_are_told_apart(hashed: Hash) -> None:
    main = "from NAME.a import f as g\nfrom NAME.b import f\n\ndef step(x):\n    return f(g(x))\n"
    a, b = "def f(x):\n    return x + 1\n", "def f(x):\n    return 2 * x\n"
    swapped = main.replace("NAME.a", "NAME.c").replace("NAME.b", "NAME.a").replace("NAME.c", "NAME.b")
    assert hashed(main, a=a, b=b) != hashed(swapped, a=a, b=b)


def test_what_only_type_checkers_import_is_not_followed(hashed: Hash) -> None:
    main = "from typing import TYPE_CHECKING\n\nif TYPE_CHECKING:\n    from NAME.lower import Thing\n\n"
    main += "def step(x: Thing):\n    return x\n"
    assert hashed(main) == hashed(main, LOWER.replace("return 2", "return 3"))


def test_a_file_beside_the_module_counts_by_what_it_says(hashed: Hash) -> None:
    main = "from pathlib import Path\n\ndef step():\n    return Path(__file__).with_name('page.html.j2').read_text()\n"
    one, other = (hashed(main, page__dot__html__dot__j2=text) for text in ("a", "b"))
    assert one != other


def test_a_script_is_an_entry_point(hashed: Hash, tmp_path: Path) -> None:
    hashes = []
    for number, line in enumerate(["f(1)", "f(1)  # a comment", "f(2)"]):
        script = tmp_path / f"script{number}.py"
        script.write_text(f'"""Doc {number}."""\n\nwith open("x"):\n    from json import loads as f\n\n    {line}\n')
        hashes.append(code_hash(script))
    assert hashes[0] == hashes[1] != hashes[2]


def test_classes_bring_their_bases_and_a_constant_brings_what_it_is_made_of(hashed: Hash) -> None:
    main = "from NAME.lower import Base\n\nclass step(Base):\n    def g(self):\n        return self.f()\n"
    lower = "def deep():\n    return 1\n\nTABLE = [deep]\n\nclass Base:\n    def f(self):\n        return TABLE[0]()\n"
    assert hashed(main, lower) != hashed(main, lower.replace("return 1", "return 2"))


def test_an_entry_point_that_does_not_exist_is_an_error(hashed: Hash) -> None:
    with pytest.raises(AttributeError, match="no 'nothing'"):
        hashed(entry="main:nothing")
    with pytest.raises(ModuleNotFoundError, match="nowhere"):
        code_hash("nowhere.at_all:x")


def test_configuration_errors_and_log_are_neutral_and_seeds_are_not() -> None:
    from sclong import provenance

    def reached(entry: str) -> set[str]:
        todo, seen = provenance._entry(entry), set()
        while todo:
            found = todo.pop()
            if found not in seen:
                seen.add(found)
                todo += provenance._meaning(found, frozenset({"sclong"})).refers_to
        return {str(d.module.relative_to(Path(provenance.__file__).parent)) for d in seen}

    files = reached("sclong.train.job:train")
    assert {"train/optim.py", "nn/dual_encoder.py", "seeding.py", "corpus/shards.py"} <= files
    assert not {f for f in files if f.startswith(("config/", "errors", "runlog", "provenance", "tasks/", "benchmark/"))}
