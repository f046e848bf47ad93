"""Gene regulatory networks, step split: nothing is trained on edges."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from sclong.benchmark.options import check_policy, parse_options
from sclong.config.cards import Strict
from sclong.tasks.grn_inference.dataset import SCENARIO, read_edges


def split(dataset: Path, policy: str, options: Mapping[str, Any], seed: int) -> pd.DataFrame:
    """Return one fold in which every regulator is a test sample (policy "none"); `seed` changes nothing."""
    check_policy(policy, ["none"], "grn_inference")
    parse_options(Strict, options, "grn_inference, split none")
    regulators = read_edges(dataset).regulator_names
    return pd.DataFrame({"fold": "0", "sample": regulators, "part": "test", "scenario": SCENARIO})
