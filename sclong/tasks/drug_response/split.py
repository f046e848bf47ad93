"""Drug response, step split: pairs are cut at random, by drug, by cell line or by tissue; or as published."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from sclong.benchmark.options import check_policy, parse_options
from sclong.benchmark.problem import SPLIT_COLUMNS
from sclong.tasks.drug_response.dataset import read_pairs, read_published
from sclong.tasks.drug_response.splits import POLICIES, SplitOptions, draw_parts, published_parts


def split(dataset: Path, policy: str, options: Mapping[str, Any], seed: int) -> pd.DataFrame:
    """Cut pairs at random within each tissue, by drug, by line or by tissue; as published where files say how.

    What one structure did to one line stays together, also when it was measured under two drug ids.
    """
    check_policy(policy, POLICIES, "drug_response")
    chosen = parse_options(SplitOptions, options, f"drug_response, split {policy}")
    pairs = read_pairs(dataset)
    published = read_published(dataset, policy)
    if published is None:
        part = draw_parts(pairs, policy, chosen, seed)
    else:
        part = published_parts(pairs, published, policy, chosen, seed)
    pairs, part = pairs[part.notna()], part.dropna()
    scenario = np.where(part == "test", policy, "")
    return pd.DataFrame(
        {"fold": "0", "sample": pairs["sample"], "part": part, "scenario": scenario}, columns=list(SPLIT_COLUMNS)
    )
