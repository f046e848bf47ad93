"""Drug combination, step score."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from sclong.benchmark.names import REMAKE_SPLIT, align
from sclong.benchmark.predictions import answers_to
from sclong.benchmark.problem import Predictions
from sclong.benchmark.ranking import auroc, average_precision
from sclong.tasks.drug_combination.dataset import OUTPUTS, read_triples


def score(dataset: Path, split: pd.DataFrame, predictions: Predictions) -> pd.DataFrame:
    """Score each fold; the value is the mean over folds, n the test triples of all folds.

    Balanced accuracy and Cohen's kappa call "synergy" what is above 0.5. A fold with one class only has but AUPR
    (without positives, not even that) and is left out of the other means.
    """
    labels = read_triples(dataset).set_index("sample")["label"]
    scores, n, scenario = [], 0, ""
    for fold in split["fold"].unique():
        rows, values = answers_to(split, predictions, fold, OUTPUTS)
        truth = labels.to_numpy()[align(labels.index, rows["sample"], "the triples", REMAKE_SPLIT)]
        scores.append(scores_of(truth, values[:, 0]))
        n, scenario = n + len(rows), rows["scenario"].iloc[0]
    means = pd.DataFrame(scores).mean()
    return pd.DataFrame(
        [(scenario, metric, value, n, "triples") for metric, value in means.items()],
        columns=["scenario", "metric", "value", "n", "unit"],
    )


def scores_of(truth: np.ndarray, answer: np.ndarray) -> dict[str, float]:
    """Return every metric of one fold; see :func:`score`."""
    found = {"auroc": auroc(truth, answer), "aupr": average_precision(truth, answer)}
    if len(np.unique(truth)) < 2:
        return {**found, "balanced_accuracy": float("nan"), "kappa": float("nan")}
    from sklearn.metrics import balanced_accuracy_score, cohen_kappa_score

    called = (answer > 0.5).astype(int)
    return {
        **found,
        "balanced_accuracy": float(balanced_accuracy_score(truth, called)),
        "kappa": float(cohen_kappa_score(truth, called)),
    }
