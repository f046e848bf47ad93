"""The step predict: one model, with one seed, predicts every fold of a benchmark."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from sclong.benchmark.adapter import build
from sclong.benchmark.features import read_features
from sclong.benchmark.model import Predictor, PredictorFromFeatures
from sclong.benchmark.names import output_names
from sclong.benchmark.predictions import write_predictions
from sclong.benchmark.problem import Features, Predictions, Problem
from sclong.benchmark.registry import load_task
from sclong.benchmark.resume import Unfinished
from sclong.benchmark.split import read_split
from sclong.benchmark.task import Task
from sclong.config.cards import Recipe
from sclong.errors import CardError, InputDataError
from sclong.io.files import sha256_file
from sclong.runlog import LOGGER


def predict(
    task: str,
    recipe: Recipe,
    dataset: Path,
    split: Path,
    features: Path | None,
    seed: int,
    out: Path,
    *,
    native: bool,
    code: str = "",
) -> None:
    """Predict every fold of a benchmark with one model and one seed; write the predictions.

    Folds that took long are kept in a hidden folder beside `out` until all are done: after a kill a job goes on there.

    Parameters
    ----------
    task
        Name of the task.
    recipe
        The model.
    dataset, split
        Folder of the prepared data set, and its split file.
    features
        Folder of the embedding that is predicted from: the model's own, or that of ``features_of``.
    seed
        Training seed.
    out
        File to write.
    native
        Whether the model's adapter predicts by itself; else the task's head predicts from the model's embedding.
    code
        Hash of the meaning of the code: folds that other code predicted are not used.

    Raises
    ------
    CardError
        The adapter is of the wrong kind, or a prediction has not one finite row for each test sample.
    """
    described = load_task(task)
    answer = _answer(described, recipe, None if features is None else read_features(features), seed, native)
    folds: list[str] = []
    samples: list[str] = []
    values: list[np.ndarray] = []
    outputs: list[str] = []
    shown = recipe.sees_truth or recipe.selects_on_test
    identity = {
        "model": vars(recipe),
        "seed": seed,
        "native": native,
        "code": code,
        "split": sha256_file(split),
        "files": [_stat(folder) for folder in (dataset, features) if folder is not None],
    }
    unfinished = Unfinished(out.with_name(f".unfinished-{out.stem}"), identity)
    for problem in described.problems(dataset, read_split(split), sees_truth=shown):
        predicted = unfinished.fold(problem.fold, lambda p=problem: _checked(answer(p), p, recipe))  # type: ignore[misc]
        ids = problem.test_samples
        folds += [problem.fold] * len(ids)
        samples += ids
        values.append(predicted)
        if outputs and output_names(problem.outputs, predicted.shape[1]) != outputs:
            raise CardError(
                f"model {recipe.name!r}, fold {problem.fold}: a prediction of {predicted.shape[1]} columns, in another "
                "fold of other ones",
                f"the same {len(outputs)} columns in each fold",
                f"correct {recipe.adapter}",
            )
        outputs = output_names(problem.outputs, predicted.shape[1])
        LOGGER.info("fold %s: %d test samples predicted", problem.fold, len(ids))
    write_predictions(
        out, Predictions(np.array(folds), np.array(samples), np.concatenate(values), np.array(outputs, dtype=str))
    )
    unfinished.remove()


def _stat(folder: Path) -> list[tuple[str, int, int]]:
    """Return name, size and time of change of every file of a folder."""
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return [(str(p.relative_to(folder)), p.stat().st_size, p.stat().st_mtime_ns) for p in files]


def _answer(
    task: Task, recipe: Recipe, features: Features | None, seed: int, native: bool
) -> Callable[[Problem], np.ndarray]:
    """Return the function that turns a problem into a prediction."""
    if native and recipe.features_of is None:
        predictor = build(recipe, Predictor)
        return lambda problem: predictor.predict(problem, seed)
    if features is None:
        raise InputDataError(
            f"model {recipe.name!r}: no embedding was given", "the folder of an embedding", "run the rule embed first"
        )
    if native:
        reader = build(recipe, PredictorFromFeatures)
        return lambda problem: reader.predict_from(problem, features, seed)
    return lambda problem: task.solve(problem, features, seed)


def _checked(values: np.ndarray, problem: Problem, recipe: Recipe) -> np.ndarray:
    values = np.asarray(values, dtype=np.float32)
    n = len(problem.test_samples)
    if values.ndim != 2 or len(values) != n or not np.isfinite(values).all():
        raise CardError(
            f"model {recipe.name!r} on task {problem.task!r}, fold {problem.fold}: a prediction of shape "
            f"{values.shape}, {int((~np.isfinite(values)).sum())} values not finite",
            f"a finite array with one row for each of {n} test samples",
            f"correct {recipe.adapter}",
        )
    return values
