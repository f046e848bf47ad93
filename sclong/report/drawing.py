"""What a task's own figure is drawn from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from sclong.config.cards import BenchmarkCard, ModelCard


@dataclass(frozen=True)
class Drawing:
    """What the report hands to the step ``figure`` of a task.

    Attributes
    ----------
    card
        The benchmark.
    models
        Name -> card, of all models.
    summary, scores
        The summary table, and the tidy scores behind it; all benchmarks.
    dataset
        Folder of the prepared data set.
    predictions
        Model -> its predictions with the first seed; empty where the task's figure is not drawn from predictions.
    """

    card: BenchmarkCard
    models: Mapping[str, ModelCard]
    summary: pd.DataFrame
    scores: pd.DataFrame
    dataset: Path
    predictions: Mapping[str, Path]
