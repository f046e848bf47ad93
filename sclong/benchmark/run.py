"""The steps of a benchmark, the same for every task: prepare, split, predict, score. Files in, files out."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from sclong.benchmark.features import read_features, write_features
from sclong.benchmark.model import Embedder, Predictor, PredictorFromFeatures
from sclong.benchmark.predictions import read_predictions, write_predictions
from sclong.benchmark.task import PARTS, SPLIT_COLUMNS, UNIT_COLUMNS, Predictions, Task
from sclong.config.cards import BenchmarkCard, DataSpec, ModelCard, meets
from sclong.errors import CardError, InputDataError, listing
from sclong.io.files import atomic_dir, sha256_file, sha256_tree, write_json
from sclong.io.tables import read_tsv, write_tsv
from sclong.runlog import LOGGER

METRIC_COLUMNS = (
    "benchmark",
    "task",
    "dataset",
    "model",
    "protocol",
    "scenario",
    "metric",
    "direction",
    "seed",
    "value",
    "unit_of_uncertainty",
    "n",
    "card_version",
    "code_hash",
    "data_hash",
)


def load_task(name: str) -> Task:
    """Return the task whose module is ``sclong/tasks/<name>.py``.

    Raises
    ------
    CardError
        When there is no such module, or it has no ``TASK``.
    """
    try:
        task = importlib.import_module(f"sclong.tasks.{name}").TASK
    except (ModuleNotFoundError, AttributeError) as error:
        raise CardError(
            f"task {name!r}: {error}", f"a module sclong/tasks/{name}.py with an object TASK", "correct the card's task"
        ) from error
    assert isinstance(task, Task)
    return task


def load_adapter(card: ModelCard) -> Predictor | PredictorFromFeatures | Embedder:
    """Build the adapter that a model card names, with the card's options.

    Raises
    ------
    CardError
        When the module, the class or an option does not exist.
    """
    module, _, name = card.adapter.partition(":")
    try:
        return getattr(importlib.import_module(module), name)(**card.options)
    except (ModuleNotFoundError, AttributeError, TypeError) as error:
        raise CardError(
            f"model {card.name!r}, adapter {card.adapter!r}: {error}",
            "module:Class of a Predictor or an Embedder that takes the card's options",
            f"correct config/models/{card.name}.yaml",
        ) from error


def prepare_dataset(card: BenchmarkCard, spec: DataSpec, inputs: Mapping[str, Any], out: Path) -> None:
    """Make a data set's folder with its task and write ``dataset.json`` (facts, inputs and their hashes)."""
    task = load_task(card.task)
    with atomic_dir(out) as folder:
        facts = task.prepare(inputs, spec.options, folder)
        if not (folder / "expression.h5ad").is_file():
            raise CardError(
                f"task {card.task!r} wrote no expression.h5ad",
                "the cells to embed in expression.h5ad",
                "correct prepare",
            )
        files = [p for v in inputs.values() for p in (v if isinstance(v, (list, tuple)) else [v])]
        write_json(
            folder / "dataset.json",
            {
                "dataset": spec.dataset,
                "task": card.task,
                "facts": facts,
                "options": spec.options,
                "inputs": {"/".join(Path(p).parts[-2:]): sha256_tree(p) for p in files},
            },
        )
        LOGGER.info("%s: %s", spec.dataset, facts)


def check_split(split: pd.DataFrame, needs_validation: bool) -> None:
    """Check what the strict protocol asks of a split.

    Raises
    ------
    InputDataError
        When columns or parts are wrong, a sample stands twice in a fold, a fold has no test sample, or training samples
        exist without a validation part.
    """

    def fail(found: str, expected: str) -> None:
        raise InputDataError(f"split: {found}", expected, "correct the task's split, or the split options of the card")

    if tuple(split.columns) != SPLIT_COLUMNS:
        fail(f"columns {list(split.columns)}", f"columns {list(SPLIT_COLUMNS)}")
    unknown = set(split["part"]) - set(PARTS)
    if unknown:
        fail(f"parts {listing(sorted(unknown))}", f"parts {', '.join(PARTS)}")
    twice = split.duplicated(["fold", "sample"])
    if twice.any():
        row = split[twice].iloc[0]
        fail(f"sample {row['sample']!r} stands twice in fold {row['fold']!r}", "each sample once per fold")
    for fold, rows in split.groupby("fold"):
        parts = set(rows["part"])
        if "test" not in parts:
            fail(f"fold {fold!r} has no test sample", "at least one test sample per fold")
        if needs_validation and "train" in parts and "validation" not in parts:
            fail(f"fold {fold!r} has no validation sample", "a validation part apart from the test part")


def make_split(card: BenchmarkCard, spec: DataSpec, dataset: Path, out: Path) -> None:
    """Cut a data set as the card says, before any feature selection, and write the split file."""
    split = load_task(card.task).split(dataset, spec.split, spec.split_options, card.split_seed)
    split = split.astype(str)
    check_split(split, needs_validation=True)
    write_tsv(split, out)
    LOGGER.info("%s: %s", card.name, split.groupby(["fold", "part"]).size().to_dict())


def read_split(path: Path) -> pd.DataFrame:
    """Read a split file; ids stay strings."""
    return read_tsv(path, SPLIT_COLUMNS, dtype=str, na_values=[])


def embed_dataset(
    card: ModelCard, dataset: Path, checkpoint: Path | None, out: Path, *, batch_size: int, device: str
) -> None:
    """Embed a data set's cells and genes with a model, once for every benchmark that uses them."""
    import anndata

    adapter = load_adapter(card)
    if not isinstance(adapter, Embedder):
        raise CardError(
            f"model {card.name!r} provides {', '.join(card.provides)} but {card.adapter} is no Embedder",
            "an Embedder for models that provide embeddings",
            "correct the card's adapter or what it provides",
        )
    adata = anndata.read_h5ad(dataset / "expression.h5ad")
    embedding = adapter.embed(adata, checkpoint=checkpoint, seed=0, batch_size=batch_size, device=device)
    write_features(out, card.name, embedding, adata)


def predict(
    benchmark: BenchmarkCard, model: ModelCard, dataset: Path, split: Path, features: Path | None, seed: int, out: Path
) -> None:
    """Answer every fold of a benchmark with one model and one seed; write the predictions."""
    task = load_task(benchmark.task)
    how = meets(benchmark, model)
    adapter = load_adapter(model) if how == "native" else None
    loaded = read_features(features) if features is not None else None
    folds, samples, values, outputs = [], [], [], []
    shown = model.sees_truth or model.selects_on_test
    for problem in task.problems(dataset, read_split(split), sees_truth=shown):
        if how != "native":
            assert loaded is not None
            answer = task.solve(problem, loaded, seed)
        elif model.features_of is not None:
            assert isinstance(adapter, PredictorFromFeatures) and loaded is not None
            answer = adapter.predict_from(problem, loaded, seed)
        else:
            assert isinstance(adapter, Predictor)
            answer = adapter.predict(problem, seed)
        answer = np.asarray(answer, dtype=np.float32)
        ids = problem.test_samples
        if answer.ndim != 2 or len(answer) != len(ids) or not np.isfinite(answer).all():
            raise CardError(
                f"model {model.name!r} on {benchmark.name!r}, fold {problem.fold}: answer of shape {answer.shape}, "
                f"{int((~np.isfinite(answer)).sum())} values not finite",
                f"a finite array with one row for each of {len(ids)} test samples",
                f"correct {model.adapter}",
            )
        folds += [problem.fold] * len(ids)
        samples += ids
        values.append(answer)
        outputs = (
            problem.outputs if answer.shape[1] == len(problem.outputs) else [str(i) for i in range(answer.shape[1])]
        )
        LOGGER.info("fold %s: %d test samples answered", problem.fold, len(ids))
    width = max(v.shape[1] for v in values)
    assert all(v.shape[1] == width for v in values)
    write_predictions(
        out, Predictions(np.array(folds), np.array(samples), np.concatenate(values), np.array(outputs, dtype=str))
    )


def score(
    card: BenchmarkCard,
    spec: DataSpec,
    dataset: Path,
    split: Path,
    predictions: Sequence[Path],
    code_hash: str,
    out: Path,
    *,
    protocols: Mapping[str, str] | None = None,
    units: Path | None = None,
) -> None:
    """Score all predictions of a benchmark; write its tidy metrics table.

    Parameters
    ----------
    predictions
        Files ``.../<model>/seed<k>.npz``.
    code_hash
        Hash of the meaning of the task's code.
    out
        The table.
    protocols
        Model -> "strict" or "paper"; strict where it is not named.
    units
        Where to write the scores unit by unit (condition, fold); None: nowhere.
    """
    task = load_task(card.task)
    table = read_split(split)
    data_hash = sha256_tree(dataset)[:8] + sha256_file(split)[:8]
    parts, by_unit = [], []
    for path in predictions:
        answers = read_predictions(path)
        scores = task.score(dataset, table, answers)
        unknown = set(scores["metric"]) - set(task.metrics)
        assert not unknown, f"{card.task} returned metrics it does not declare: {unknown}"
        model, seed = path.parent.name, int(path.stem.removeprefix("seed"))
        run = {"benchmark": card.name, "model": model, "protocol": (protocols or {}).get(model, "strict"), "seed": seed}
        parts.append(
            scores.rename(columns={"unit": "unit_of_uncertainty"}).assign(
                **run,
                task=card.task,
                dataset=spec.dataset,
                direction=scores["metric"].map(dict(task.metrics)),
                card_version=card.version,
                code_hash=code_hash,
                data_hash=data_hash,
            )
        )
        if units is not None:
            by_unit.append(task.unit_scores(dataset, table, answers).assign(**run)[[*run, *UNIT_COLUMNS]])
    if units is not None:
        write_tsv(pd.concat(by_unit, ignore_index=True), units)
    write_tsv(pd.concat(parts, ignore_index=True)[list(METRIC_COLUMNS)], out)
