"""The step score: all predictions of a benchmark become one tidy table of metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from sclong.benchmark.predictions import read_predictions
from sclong.benchmark.problem import UNIT_COLUMNS
from sclong.benchmark.registry import load_task
from sclong.benchmark.split import read_split
from sclong.errors import CardError, listing
from sclong.io.files import sha256_file, sha256_tree
from sclong.io.tables import write_tsv

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
    "unpinned_inputs",
)


@dataclass(frozen=True)
class Scored:
    """What is scored: names and the version of the benchmark card, as the table says them.

    `unpinned` are the inputs of the data set for which no hash is published, with blanks between them.
    """

    benchmark: str
    task: str
    dataset: str
    version: int
    unpinned: str = ""


def score(
    scored: Scored,
    dataset: Path,
    split: Path,
    predictions: Sequence[Path],
    code_hash: str,
    out: Path,
    *,
    protocols: Mapping[str, str] | None = None,
    units: Path | None = None,
) -> None:
    """Score all predictions of a benchmark; write its tidy table of metrics.

    Parameters
    ----------
    scored
        Names and version of the benchmark.
    dataset, split
        Folder of the prepared data set, and its split file.
    predictions
        Files ``.../<model>/seed<k>.npz``.
    code_hash
        Hash of the meaning of the code that scores.
    out
        The table.
    protocols
        Model -> "strict" or "paper"; strict where a model is not named.
    units
        Where to write the scores unit by unit (condition, fold); None: nowhere.

    Raises
    ------
    CardError
        The task returns a metric that it does not declare.
    """
    task = load_task(scored.task)
    table = read_split(split)
    data_hash = sha256_tree(dataset)[:8] + sha256_file(split)[:8]
    parts, by_unit = [], []
    for path in predictions:
        predicted = read_predictions(path)
        scores = task.score(dataset, table, predicted)
        unknown = set(scores["metric"]) - set(task.metrics)
        if unknown:
            raise CardError(
                f"task {scored.task!r} returned the metrics {listing(sorted(unknown))}",
                f"metrics that it declares: {', '.join(task.metrics)}",
                "add them to TASK.metrics in the task's module `task`",
            )
        model, seed = path.parent.name, int(path.stem.removeprefix("seed"))
        protocol = (protocols or {}).get(model, "strict")
        run = {"benchmark": scored.benchmark, "model": model, "protocol": protocol, "seed": seed}
        parts.append(
            scores.rename(columns={"unit": "unit_of_uncertainty"}).assign(
                **run,
                task=scored.task,
                dataset=scored.dataset,
                direction=scores["metric"].map(dict(task.metrics)),
                card_version=scored.version,
                code_hash=code_hash,
                data_hash=data_hash,
                unpinned_inputs=scored.unpinned,
            )
        )
        if units is not None:
            by_unit.append(task.unit_scores(dataset, table, predicted).assign(**run)[[*run, *UNIT_COLUMNS]])
    if units is not None:
        write_tsv(pd.concat(by_unit, ignore_index=True), units)
    write_tsv(pd.concat(parts, ignore_index=True)[list(METRIC_COLUMNS)], out)
