"""Drug combination, step split: published test folds, or drawn ones."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pydantic import Field

from sclong.benchmark.options import check_policy, parse_options
from sclong.benchmark.problem import SPLIT_COLUMNS
from sclong.config.cards import Strict
from sclong.errors import InputDataError
from sclong.io.tables import read_tsv
from sclong.tasks.drug_combination.dataset import read_triples
from sclong.tasks.drug_combination.splits import POLICIES, drawn_folds, validation_rows


class SplitOptions(Strict):
    """Options of every split policy."""

    folds: int = Field(default=3, ge=2, description="number of drawn folds, where the data has no published ones")
    max_folds: int | None = Field(default=None, ge=1, description="use only the first folds")
    validation_fraction: float = Field(default=0.1, gt=0, lt=1, description="share of the training part's units")


def split(dataset: Path, policy: str, options: Mapping[str, Any], seed: int) -> pd.DataFrame:
    """Test folds as published where the data has them, else drawn; a validation part of the same kind in each."""
    check_policy(policy, POLICIES, "drug_combination")
    chosen = parse_options(SplitOptions, options, f"drug_combination, split {policy}")
    triples = read_triples(dataset)
    published = dataset / f"{policy}.tsv"
    if published.is_file():
        table = read_tsv(published, ["fold", "sample"], dtype=str)
        tests = [set(rows["sample"]) for _, rows in table.groupby("fold", sort=False)]
    elif policy == "independent":
        raise InputDataError(
            f"{dataset} has no independent set",
            "a data set whose card names the input `independent`",
            "add it to the inputs, or use another split policy",
        )
    else:
        tests = drawn_folds(triples, policy, chosen.folds, seed)
    out = []
    for fold, test in enumerate(tests[: chosen.max_folds]):
        part = np.where(triples["sample"].isin(test), "test", "train").astype(object)
        part[validation_rows(triples, part, policy, chosen.validation_fraction, seed, fold)] = "validation"
        scenario = np.where(part == "test", policy, "")
        out.append(pd.DataFrame({"fold": str(fold), "sample": triples["sample"], "part": part, "scenario": scenario}))
    return pd.concat(out, ignore_index=True)[list(SPLIT_COLUMNS)]
