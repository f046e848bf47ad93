"""The layout of DeepSEM's published sets: cells in rows, edges in label.csv."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from sclong.config.cards import BenchmarkCard
from sclong.config.load import all_cards
from sclong.tasks.grn_inference.prepare import prepare


def test_a_set_of_deepsem_is_read_as_its_card_says(root: Path, tmp_path: Path) -> None:
    """Twelve cells in rows, four genes in columns; three edges of two regulators."""
    card = all_cards(root / "config" / "benchmarks", BenchmarkCard)["grn_deepsem_500_string"]
    values = np.arange(48, dtype=float).reshape(12, 4) % 7
    table = pd.DataFrame(values, index=[f"cell{i}" for i in range(12)], columns=["SOX2", "NANOG", "LEFTY1", "DPPA4"])
    table.to_csv(tmp_path / "data.csv")
    edges = "Gene1,Gene2\nSOX2,LEFTY1\nSOX2,DPPA4\nNANOG,LEFTY1\n"
    (tmp_path / "label.csv").write_text(edges)
    out = tmp_path / "out"
    out.mkdir()
    inputs = {"expression": tmp_path / "data.csv", "network": tmp_path / "label.csv"}
    facts = prepare(inputs, card.alternatives("paper")[0].options, out)
    assert (facts["cells"], facts["genes_judged"], facts["regulators"], facts["edges"]) == (12, 4, 2, 3)
    assert facts["candidate_pairs"] == 6
    assert facts["positive_rate"] == 0.5
