"""Predictions on disk: one ``.npz`` per benchmark, model and seed, readable without pickle."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import pandas as pd

from sclong.benchmark.names import align, output_names
from sclong.benchmark.problem import Predictions
from sclong.errors import InputDataError
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


def answers_to(
    split: pd.DataFrame,
    predictions: Predictions,
    fold: str,
    outputs: Sequence[str] | np.ndarray,
    *,
    side_by_side: bool = False,
) -> tuple[pd.DataFrame, np.ndarray]:
    """Put the predictions of one fold in the order of its test samples and of the true outputs, both by name.

    Parameters
    ----------
    split
        The whole split table.
    predictions
        In any order.
    fold
        Which fold.
    outputs
        Names of the columns of the truth.
    side_by_side
        Whether a prediction may be several arrays side by side, named by :func:`.names.output_names`: an embedding,
        or the networks of one training.

    Returns
    -------
    (rows, values)
        The split's test rows of the fold (index 0..n-1), and (n, outputs) float32 beside them; (n, arrays x outputs)
        where arrays are side by side, one after the other.

    Raises
    ------
    InputDataError
        Samples or outputs of the predictions are not exactly those of the fold and of the truth.
    """
    rows = split[(split["fold"] == fold) & (split["part"] == "test")].reset_index(drop=True)
    samples, values = predictions.of_fold(fold)
    place = align(
        samples,
        rows["sample"],
        f"predictions of fold {fold!r}: samples",
        "make the predictions again: they belong to another split",
        exactly=True,
    )
    names = [str(name) for name in outputs]
    if side_by_side and (width := len(predictions.outputs)) > len(names) and width % len(names) == 0:
        numbers = [str(number) for number in range(width)]
        plain = len(names) == 1 and set(predictions.outputs) == set(numbers)  # numbers alone say as much
        names = numbers if plain else output_names(names, width)
    column = align(
        predictions.outputs,
        names,
        "predictions: outputs",
        "make the predictions again: they belong to another data set",
        exactly=True,
    )
    return rows, values[np.ix_(place, column)]
