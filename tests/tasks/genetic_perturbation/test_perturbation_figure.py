"""Figure of the genetic perturbation benchmark: rows, lines of simple answers, published values."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest

from sclong.config.cards import BenchmarkCard, load_cards
from sclong.report.tables import summarize
from sclong.tasks.genetic_perturbation.figure import paper_values, perturbation_figure

VALUES = {
    "no_change": 0.5,
    "train_mean": 0.4,
    "additive": 0.3,
    "gears": 0.2,
    "gears_sclong_published": 0.25,
    "truth": 0.0,
}
ROLES = {
    "no_change": "floor",
    "train_mean": "floor",
    "additive": "classical",
    "gears": "model",
    "gears_sclong_published": "ablation",
    "truth": "ceiling",
}
PUBLISHED = {"gears_sclong_published": "scLong"}
SCENARIOS = ["seen_0_of_1", "seen_0_of_2"]


@pytest.fixture
def card(root: Path) -> BenchmarkCard:
    return load_cards(root / "config" / "benchmarks", BenchmarkCard)["norman"]


def drawn(card: BenchmarkCard, models: list[str], preset: str) -> str:
    rows = [
        dict(
            benchmark="norman",
            task="genetic_perturbation",
            dataset="d",
            model=m,
            scenario=s,
            seed=k,
            n=9,
            metric=card.primary_metric,
            direction="min",
            value=VALUES[m] + 0.01 * k,
            unit_of_uncertainty="conditions",
            protocol="paper" if m.endswith("published") else "strict",
        )
        for m in models
        for s in SCENARIOS
        for k in range(2)
    ]
    metrics = pd.DataFrame(rows)
    data = {"norman": card.alternatives(preset)[0]}
    summary = summarize(metrics, {"norman": card}, data, ROLES, PUBLISHED)
    return perturbation_figure(summary, metrics, "norman", card, PUBLISHED)


def test_panels_lines_and_rows(card: BenchmarkCard) -> None:
    text = drawn(card, list(VALUES), "small")
    root = ElementTree.fromstring(text)
    gids = [e.get("id") for e in root.iter() if (e.get("id") or "").startswith("line ")]
    assert sorted(gids) == sorted(2 * [f"line {name}" for name in ("additive", "ceiling", "floor", "train_mean")])
    others = ["gears_sclong_published (paper's protocol)", "paper, other data", "training mean", "paper: Geneformer"]
    for words in (*SCENARIOS, *VALUES, *others, card.primary_metric):
        assert f"<!-- {words}" in text, words
    assert "<!-- paper: scLong" not in text and "<!-- paper: GEARS" not in text  # these have a row
    assert "GEARS_1_epoch" not in text  # an anchor of the tutorial is not the paper's


def test_lines_are_drawn_only_for_what_was_run(card: BenchmarkCard) -> None:
    text = drawn(card, ["gears", "no_change"], "paper")
    assert "line additive" not in text and "line ceiling" not in text and "line floor" in text
    assert "<!-- paper -->" in text and "other data" not in text
    assert "<!-- paper: scLong" in text  # no row of ours stands for it


def test_text_goes_before_figures(card: BenchmarkCard) -> None:
    found = paper_values(card, SCENARIOS)
    assert found["sclong", "seen_0_of_2"].value == 0.17 and found["gears", "seen_0_of_1"].mark == "preprint"
    assert np.isfinite([p.value for p in found.values()]).all() and ("gears_1_epoch", "seen_0_of_1") not in found
