"""Gene pairs, step score."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from sclong.benchmark.names import REMAKE_SPLIT, align
from sclong.benchmark.predictions import answers_to
from sclong.benchmark.problem import Predictions
from sclong.benchmark.ranking import auroc, average_precision
from sclong.tasks.gene_pairs.dataset import OUTPUTS, read_pairs


def score(dataset: Path, split: pd.DataFrame, predictions: Predictions) -> pd.DataFrame:
    """Return auroc and average_precision, and the auroc of the cosine where there is one, per scenario."""
    labels = read_pairs(dataset)["label"]
    parts = []
    for fold in split["fold"].unique():
        rows, values = answers_to(split, predictions, fold, OUTPUTS, side_by_side=True)
        truth = labels.to_numpy()[align(labels.index, rows["sample"], "the gene pairs", REMAKE_SPLIT)]
        for scenario in sorted(set(rows["scenario"])):
            of = (rows["scenario"] == scenario).to_numpy()
            found = {
                "auroc": auroc(truth[of], values[of, 0]),
                "average_precision": average_precision(truth[of], values[of, 0]),
            }
            if values.shape[1] > 1:
                found["auroc_cosine"] = auroc(truth[of], values[of, 1])
            parts += [(scenario, metric, value, int(of.sum()), "gene pairs") for metric, value in found.items()]
    return pd.DataFrame(parts, columns=["scenario", "metric", "value", "n", "unit"])
