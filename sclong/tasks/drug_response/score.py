"""Drug response, step score."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from sclong.benchmark.names import REMAKE_SPLIT, align
from sclong.benchmark.predictions import answers_to
from sclong.benchmark.problem import UNIT_COLUMNS, Predictions
from sclong.benchmark.ranking import grouped_pearson
from sclong.benchmark.regression import pearson, spearman
from sclong.tasks.drug_response.dataset import OUTPUTS, read_pairs

MIN_PER_DRUG = 5
"""Test pairs that a drug needs for a correlation within it."""


def score(dataset: Path, split: pd.DataFrame, predictions: Predictions) -> pd.DataFrame:
    """Score all test pairs together, and within drugs (mean over drugs with at least five test pairs)."""
    out = []
    for scenario, table in _answered(dataset, split, predictions):
        truth, answer = table["truth"].to_numpy(), table["answer"].to_numpy()
        scores = {
            "pearson": float(pearson(truth[None], answer[None])[0]),
            "spearman": float(spearman(truth[None], answer[None])[0]),
            "rmse": float(np.sqrt(np.mean((truth - answer) ** 2))),
            "pearson_per_drug": grouped_pearson(truth, answer, table["drug_id"].to_numpy(dtype=str), MIN_PER_DRUG),
        }
        out += [(scenario, m, v, len(table), "pairs") for m, v in scores.items()]
    return pd.DataFrame(out, columns=["scenario", "metric", "value", "n", "unit"])


def unit_scores(dataset: Path, split: pd.DataFrame, predictions: Predictions) -> pd.DataFrame:
    """Score by fold, and the correlation within drugs by drug."""
    folds = pd.concat(
        [
            score(dataset, split[split["fold"] == fold], predictions).assign(unit=f"fold {fold}")
            for fold in split["fold"].unique()
        ],
        ignore_index=True,
    )[list(UNIT_COLUMNS)]
    rows = [
        (scenario, f"drug {drug}", "pearson_per_drug", float(value))
        for scenario, table in _answered(dataset, split, predictions)
        for drug, pairs in table.groupby("drug_id")
        if len(pairs) >= MIN_PER_DRUG
        for value in pearson(pairs["truth"].to_numpy()[None], pairs["answer"].to_numpy()[None])
    ]
    drugs = pd.DataFrame(rows, columns=list(UNIT_COLUMNS))
    return pd.concat([folds[folds["metric"] != "pearson_per_drug"], drugs], ignore_index=True)


def _answered(dataset: Path, split: pd.DataFrame, predictions: Predictions) -> Iterator[tuple[str, pd.DataFrame]]:
    """Yield scenario and test pairs (drug_id, truth, answer) of each fold."""
    pairs = read_pairs(dataset).set_index("sample")
    for fold in split["fold"].unique():
        rows, values = answers_to(split, predictions, fold, OUTPUTS)
        at = align(pairs.index, rows["sample"], "the pairs", REMAKE_SPLIT)
        found = pairs.iloc[at][["drug_id", "ln_ic50"]].rename(columns={"ln_ic50": "truth"})
        yield rows["scenario"].iloc[0], found.assign(answer=values[:, 0].astype(float))
