"""Predictions on disk: one ``.npz`` per benchmark, model and seed, readable without pickle."""

from __future__ import annotations

import zlib
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import pandas as pd

from sclong.benchmark.problem import Predictions
from sclong.errors import InputDataError, listing
from sclong.io.files import atomic_path

ARRAYS = ("fold", "sample", "values", "outputs")


def write_predictions(path: str | Path, predictions: Predictions) -> None:
    """Write `predictions` atomically: arrays fold, sample, outputs (unicode) and values (float32).

    Raises
    ------
    InputDataError
        When the arrays do not belong together.
    """
    fold, sample, outputs = (
        np.asarray(a, dtype=str) for a in (predictions.fold, predictions.sample, predictions.outputs)
    )
    values = np.asarray(predictions.values, dtype=np.float32)
    if values.shape != (len(sample), len(outputs)) or len(fold) != len(sample):
        raise InputDataError(
            f"predictions with {len(fold)} folds, {len(sample)} samples, {len(outputs)} outputs and values of shape "
            f"{values.shape}",
            "values of shape (samples, outputs) and one fold per sample",
            "correct the model's adapter",
        )
    with atomic_path(path) as tmp, tmp.open("wb") as handle:
        np.savez_compressed(handle, fold=fold, sample=sample, values=values, outputs=outputs)


def read_predictions(path: str | Path) -> Predictions:
    """Read what :func:`write_predictions` wrote.

    Raises
    ------
    InputDataError
        When the file is not such a file, or is incomplete.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            return Predictions(**{name: archive[name] for name in ARRAYS})
    except (ValueError, KeyError, EOFError, BadZipFile, zlib.error) as error:
        raise InputDataError(
            f"{path}: {error}",
            f"an .npz file with the arrays {', '.join(ARRAYS)}",
            "delete it and run the model again",
        ) from error


def answers_to(split: pd.DataFrame, predictions: Predictions, fold: str) -> tuple[pd.DataFrame, np.ndarray]:
    """Put the answers of one fold in the order of its test samples.

    Parameters
    ----------
    split
        The whole split table.
    predictions
        Answers; in any order.
    fold
        Which fold.

    Returns
    -------
    (rows, values)
        The split's test rows of the fold (index 0..n-1), and (n, outputs) float32 beside them.

    Raises
    ------
    InputDataError
        When the samples answered are not exactly the test samples of the fold.
    """
    rows = split[(split["fold"] == fold) & (split["part"] == "test")].reset_index(drop=True)
    samples, values = predictions.of_fold(fold)
    place = pd.Index(samples).get_indexer(rows["sample"]) if pd.Index(samples).is_unique else np.full(len(rows), -1)
    if len(samples) != len(rows) or (place < 0).any():
        lacking = sorted(set(rows["sample"]) - set(samples))
        extra = sorted(set(samples) - set(rows["sample"]))
        raise InputDataError(
            f"fold {fold!r}: {len(samples)} answers to {len(rows)} test samples; missing: {listing(lacking)}; "
            f"not asked for: {listing(extra)}",
            "exactly one answer to each test sample of the split",
            "make the predictions again: they belong to another split",
        )
    return rows, values[place]
