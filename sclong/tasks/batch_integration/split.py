"""Batch integration, step split: there is none, every cell is tested."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from sclong.benchmark.options import check_policy, parse_options
from sclong.config.cards import Strict
from sclong.tasks.batch_integration.dataset import read_labels

SCENARIO = "all_cells"


def split(dataset: Path, policy: str, options: Mapping[str, Any], seed: int) -> pd.DataFrame:
    """Return one fold in which every cell is a test sample (policy "none")."""
    check_policy(policy, ["none"], "batch_integration")
    parse_options(Strict, options, "batch_integration, split none")
    samples = read_labels(dataset).index.to_numpy()
    return pd.DataFrame({"fold": "0", "sample": samples, "part": "test", "scenario": SCENARIO})
