"""Doubling, step score."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from sclong.benchmark.predictions import answers_to
from sclong.benchmark.problem import Predictions


def score(dataset: Path, split: pd.DataFrame, predictions: Predictions) -> pd.DataFrame:
    """Return the mean absolute error."""
    rows, values = answers_to(split, predictions, "0", ["double"])
    error = float(np.abs(values[:, 0] - 2 * rows["sample"].astype(float)).mean())
    row = ("all", "absolute_error", error, len(rows), "numbers")
    return pd.DataFrame([row], columns=["scenario", "metric", "value", "n", "unit"])
