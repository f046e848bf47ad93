"""Chemical perturbation, step score."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from sclong.benchmark.names import REMAKE_SPLIT, align
from sclong.benchmark.predictions import answers_to
from sclong.benchmark.problem import UNIT_COLUMNS, Predictions
from sclong.benchmark.regression import mse, pearson, precision_at_k, spearman
from sclong.tasks.chemical_perturbation.dataset import Signatures


def score(dataset: Path, split: pd.DataFrame, predictions: Predictions) -> pd.DataFrame:
    """Score all test signatures: RMSE over all entries, the other metrics averaged over signatures.

    Returns
    -------
    DataFrame
        Columns scenario ("test"), metric, value, n, unit ("signatures").
    """
    scores = signature_scores(dataset, split, predictions).drop(columns="structure")
    means = {"rmse": float(np.sqrt(scores.pop("mse").mean())), **scores.mean().to_dict()}
    return pd.DataFrame(
        [("test", metric, value, len(scores), "signatures") for metric, value in means.items()],
        columns=["scenario", "metric", "value", "n", "unit"],
    )


def unit_scores(dataset: Path, split: pd.DataFrame, predictions: Predictions) -> pd.DataFrame:
    """Score compound by compound (by structure): the unit that was left out of training.

    Returns
    -------
    DataFrame
        Columns scenario ("test"), unit (the structure), metric, value.
    """
    scores = signature_scores(dataset, split, predictions).groupby("structure").mean()
    scores.insert(0, "rmse", np.sqrt(scores.pop("mse")))
    long = scores.rename_axis("unit").reset_index().melt("unit", var_name="metric")
    return long.assign(scenario="test")[list(UNIT_COLUMNS)]


def signature_scores(dataset: Path, split: pd.DataFrame, predictions: Predictions) -> pd.DataFrame:
    """Score each test signature.

    Returns
    -------
    DataFrame
        One row per test signature: structure, mse, and the metrics of the task but for the rmse.
    """
    signatures = Signatures.read(dataset)
    place = signatures.samples["sample"]
    k = precision_k(len(signatures.genes))
    out = []
    for fold in split["fold"].unique():
        rows, values = answers_to(split, predictions, fold, signatures.genes)
        at = align(place, rows["sample"], "the signatures: samples", REMAKE_SPLIT)
        truth = signatures.values[at]
        out.append(
            pd.DataFrame(
                {
                    "structure": signatures.samples["structure"].to_numpy()[at],
                    "mse": mse(truth, values),
                    "pearson": pearson(truth, values),
                    "spearman": spearman(truth, values),
                    f"pos_precision_at_{k}": precision_at_k(truth, values, k, relevant=k),
                    f"neg_precision_at_{k}": precision_at_k(truth, values, k, relevant=k, lowest=True),
                }
            )
        )
    return pd.concat(out, ignore_index=True)


def precision_k(n_genes: int) -> int:
    """Return k, also the number of true positives: 100 as published, 20 when there are fewer than 500 genes."""
    return 100 if n_genes >= 500 else 20
