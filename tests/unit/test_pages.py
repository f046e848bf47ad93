"""Pages of results: what a row is, where it comes from, what was not run, and rows that an earlier tree made."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from sclong.benchmark.score import METRIC_COLUMNS
from sclong.cli import main
from sclong.config.load import load_config
from sclong.errors import InputDataError
from sclong.io.tables import write_tsv
from sclong.report.pages import KEPT_COLUMNS, render_pages


@pytest.fixture
def results(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A results folder with one table: two models, one of them with two seeds."""
    monkeypatch.chdir(root)
    folder = tmp_path / "results_toy"
    (folder / "logs" / "predict" / "grn" / "grn_trees").mkdir(parents=True)
    config = load_config({"results_dir": str(folder), "models": ["constant", "truth", "grn_trees"]})
    (folder / "config.json").write_text(json.dumps(config.model_dump()))
    rows = [("constant", 0, 1.0), ("grn_trees", 0, 3.0), ("grn_trees", 1, 5.0)]
    table = pd.DataFrame(
        [
            dict.fromkeys(METRIC_COLUMNS, "")
            | {
                "benchmark": "grn",
                "task": "grn_inference",
                "dataset": "world_grn",
                "protocol": "strict",
                "scenario": "all_genes",
                "metric": "aupr_ratio",
                "direction": "max",
                "n": 9,
                "unit_of_uncertainty": "pairs",
                "code_hash": "c0de",
                "data_hash": "da7a",
                "model": model,
                "seed": seed,
                "value": value,
            }
            for model, seed, value in rows
        ]
    )
    write_tsv(table[list(METRIC_COLUMNS)], folder / "grn_metrics.tsv")
    for seed in (0, 1):
        record = {"commit": "1a2b3c", "machine": "a machine, 2 cores", "seconds": 1.5 + seed}
        (folder / "logs/predict/grn/grn_trees" / f"seed{seed}.json").write_text(json.dumps(record))
    return folder


def test_a_page_says_what_was_run_where_and_what_was_not(results: Path, tmp_path: Path) -> None:
    out = tmp_path / "pages"
    (page,) = render_pages(results, out)
    text = page.read_text()
    assert page == out / "grn.md"
    assert "| grn_trees | classical | 2 | 4 ± 13 |" in text  # Student's t with one degree of freedom
    assert "| grn_trees | 0, 1 | 4.0 | 1a2b3c | a machine, 2 cores |" in text
    assert "| constant | 0 | not recorded |" in text
    assert "Code of the scores `c0de`, data and split `da7a`" in text
    assert "- `truth`: its predictions are not in this folder" in text
    assert "- `grn_pearson`: not among the selected `models`" in text
    assert "Kept rows" not in text


def test_kept_rows_stand_below_with_their_origin(results: Path, tmp_path: Path) -> None:
    row = (
        "grn_clr",
        "classical",
        "strict",
        1,
        "all_genes",
        "aupr_ratio",
        7.5,
        None,
        None,
        3.0,
        "commit abc, preset small",
    )
    (tmp_path / "kept").mkdir()
    write_tsv(pd.DataFrame([row], columns=list(KEPT_COLUMNS)), tmp_path / "kept" / "grn.tsv")
    (page,) = render_pages(results, tmp_path)
    text = page.read_text()
    assert (
        text.index("Kept rows")
        < text.index("commit abc, preset small")
        < text.index("| grn_clr | classical | 1 | 7.5 |")
    )


def test_every_kept_table_is_one(root: Path) -> None:
    kept = root / "docs" / "results" / "kept"
    tables = [p for p in kept.glob("*.tsv") if not p.stem.endswith(("_all", "_units", "_curves"))]
    assert len(tables) > 20
    for path in tables:
        assert tuple(pd.read_csv(path, sep="\t", nrows=1).columns) == KEPT_COLUMNS, path


def test_a_folder_without_a_run_is_refused(results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InputDataError, match=r"no config\.json"):
        render_pages(tmp_path / "nothing", tmp_path)
    (results / "grn_metrics.tsv").unlink()
    assert main(["pages", str(results), "--output", str(tmp_path)]) == 1
    assert "no table of metrics" in capsys.readouterr().err
