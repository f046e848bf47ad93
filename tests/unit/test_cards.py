"""Cards like other cards: what is inherited, what is changed, what is dropped, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from sclong.config.cards import BenchmarkCard, ModelCard, laid_over, load_card, load_cards
from sclong.errors import CardError

BASE = """
name: base
title: Base
summary: the base
version: 2
role: classical
adapter: a:B
provides: [x]
published_as: Base
options: {depth: 3, width: 4, decay: null}
preset_options:
  demo: {width: 2}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "models"
    (folder / "deep" / "optional").mkdir(parents=True)
    (folder / "base.yaml").write_text(BASE)
    return folder


def card(folder: Path, text: str, name: str = "deep/own") -> ModelCard:
    path = folder / f"{name}.yaml"
    path.write_text(f"name: {path.stem}\n{text}")
    return load_card(path, ModelCard)


def test_a_card_like_another_has_its_lines_and_changes_some(folder: Path) -> None:
    own = card(folder, "like: base\ntitle: Own\noptions: {width: 5, decay: 0.1}\nprovides: [y]\n")
    assert (own.title, own.summary, own.version, own.provides) == ("Own", "the base", 2, ["y"])
    assert own.options == {"depth": 3, "width": 5, "decay": 0.1}
    assert load_cards(folder, ModelCard)["base"].options == {"depth": 3, "width": 4, "decay": None}


def test_null_is_a_value_and_drop_takes_keys_away(folder: Path) -> None:
    own = card(folder, "like: base\ndrop: [published_as, options.depth]\noptions: {width: null}\n")
    assert own.published_as is None and own.options == {"width": None, "decay": None}


def test_a_card_may_be_like_one_that_is_like_another(folder: Path) -> None:
    card(folder, "like: base\noptions: {width: 5}\n", "middle")
    assert card(folder, "like: middle\noptions: {depth: 1}\n").options == {"depth": 1, "width": 5, "decay": None}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("like: bass\n", "write like: base"),
        ("like: own\n", "is like itself"),
        ("like: base\ndrop: [options.hight]\n", "depth, decay, width|decay, depth, width"),
        ("like: base\noption: {}\n", "write 'options' instead"),
    ],
)
def test_what_leads_nowhere_is_refused(folder: Path, text: str, says: str) -> None:
    with pytest.raises(CardError, match=says):
        card(folder, text)


def test_two_cards_of_one_name_are_refused_and_optional_ones_are_left_out(folder: Path) -> None:
    card(folder, "like: base\n", "deep/optional/more")
    assert list(load_cards(folder, ModelCard)) == ["base"]
    (folder / "deep" / "base.yaml").write_text(BASE)
    with pytest.raises(CardError, match="two cards named 'base'"):
        load_cards(folder, ModelCard)


def test_laying_over_changes_neither(folder: Path) -> None:
    base, over = {"a": {"b": 1}, "c": [1]}, {"a": {"d": 2}, "c": [2]}
    assert laid_over(base, over) == {"a": {"b": 1, "d": 2}, "c": [2]}
    assert base == {"a": {"b": 1}, "c": [1]} and over == {"a": {"d": 2}, "c": [2]}


def test_cards_that_ship_lie_in_the_folder_of_their_task(root: Path) -> None:
    for path in (root / "config" / "benchmarks").glob("*/*.yaml"):
        if path.parent.name != "optional":
            assert load_card(path, BenchmarkCard).task == path.parent.name, path
