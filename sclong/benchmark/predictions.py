"""Predictions on disk: one ``.npz`` per benchmark, model and seed, readable without pickle."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
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


def columns_of(found: Sequence[str] | np.ndarray, wanted: Sequence[str] | np.ndarray) -> np.ndarray:
    """Return the columns of predictions that belong to the outputs of a task, by name.

    Parameters
    ----------
    found
        Names of the columns of predictions, in any order.
    wanted
        Names of the outputs, in the order of the truth.

    Returns
    -------
    (len(wanted),) int

    Raises
    ------
    InputDataError
        The names are not exactly those of the outputs, each once.
    """
    names, outputs = pd.Index(np.asarray(found, dtype=str)), pd.Index(np.asarray(wanted, dtype=str))
    columns = names.get_indexer(outputs) if names.is_unique else np.full(len(outputs), -1)
    if len(names) != len(outputs) or (columns < 0).any():
        lacking, extra = outputs.difference(names), names.difference(outputs)
        twice = sorted(set(names[names.duplicated()]))
        raise InputDataError(
            f"predictions with {len(names)} outputs; missing: {listing(lacking) or 'none'}; unknown: "
            f"{listing(extra) or 'none'}" + (f"; several times: {listing(twice)}" if twice else ""),
            f"one column for each of the {len(outputs)} outputs, by name, in any order",
            "name the columns as the data set names its outputs, or predict anew: they may belong to another data set",
        )
    return columns


def answers_to(
    split: pd.DataFrame,
    predictions: Predictions,
    fold: str,
    outputs: Sequence[str] | np.ndarray | None = None,
) -> tuple[pd.DataFrame, np.ndarray]:
    """Put the predictions of one fold in the order of its test samples, and of the outputs.

    Parameters
    ----------
    split
        The whole split table.
    predictions
        Predictions; samples and outputs in any order.
    fold
        Which fold.
    outputs
        Names of the outputs in the order of the truth; None: the columns have no meaning of their own (an embedding).

    Returns
    -------
    (rows, values)
        The split's test rows of the fold (index 0..n-1), and (n, len(outputs)) float32 beside them.

    Raises
    ------
    InputDataError
        When the samples are not exactly the test samples of the fold, or the columns not exactly the outputs.
    """
    rows = split[(split["fold"] == fold) & (split["part"] == "test")].reset_index(drop=True)
    samples, values = predictions.of_fold(fold)
    place = pd.Index(samples).get_indexer(rows["sample"]) if pd.Index(samples).is_unique else np.full(len(rows), -1)
    if len(samples) != len(rows) or (place < 0).any():
        lacking = sorted(set(rows["sample"]) - set(samples))
        extra = sorted(set(samples) - set(rows["sample"]))
        raise InputDataError(
            f"fold {fold!r}: {len(samples)} predictions of {len(rows)} test samples; missing: {listing(lacking)}; "
            f"unknown: {listing(extra)}",
            "exactly one prediction of each test sample of the split",
            "make the predictions again: they belong to another split",
        )
    if outputs is None:
        return rows, values[place]
    return rows, values[place][:, columns_of(predictions.outputs, outputs)]
