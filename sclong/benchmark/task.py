"""What every task is: the same six steps, so that every model and every benchmark meet in one place.

A **task** turns raw files into a data set, cuts it (before any feature selection), hands models what they may see,
and scores what they answer. A model meets it in one of two ways: it answers the task itself (it provides the task's
`native` capability), or it provides an embedding and the task's own head answers with it (:meth:`Task.solve`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd

PARTS = ("train", "validation", "test")
SPLIT_COLUMNS = ("fold", "sample", "part", "scenario")
UNIT_COLUMNS = ("scenario", "unit", "metric", "value")


@dataclass(frozen=True)
class Problem:
    """What a model may see of one fold.

    Attributes
    ----------
    task
        Name of the task.
    fold
        Name of the fold ("0", "1", ...).
    samples
        One row per sample, indexed by sample id (str); the column ``part`` says train, validation or test, the other
        columns describe the sample (documented by each task).
    targets : (samples, outputs) float32
        What is to be predicted. Rows of test samples are NaN, except for a ceiling control, whose card says
        ``sees_truth``, and for a row of the paper's protocol whose card says ``selects_on_test``.
    outputs
        Name of each column of `targets`.
    context
        Side information that every model may use (documented by each task).
    """

    task: str
    fold: str
    samples: pd.DataFrame
    targets: np.ndarray
    outputs: list[str]
    context: Mapping[str, Any] = field(default_factory=dict)

    def rows(self, part: str) -> np.ndarray:
        """Return the positions of the samples of one part, (n,) int64."""
        return np.flatnonzero((self.samples["part"] == part).to_numpy())

    @property
    def test_samples(self) -> list[str]:
        """Ids of the test samples, in order: the rows of a prediction."""
        return [str(s) for s in self.samples.index[self.rows("test")]]


@dataclass(frozen=True)
class Predictions:
    """Answers of one model with one seed, all folds.

    Attributes
    ----------
    fold, sample : (n,) str
        Which test sample of which fold each row answers.
    values : (n, outputs) float32
        The answer. For batch integration the columns are embedding dimensions.
    outputs : (outputs,) str
    """

    fold: np.ndarray
    sample: np.ndarray
    values: np.ndarray
    outputs: np.ndarray

    def of_fold(self, fold: str) -> tuple[np.ndarray, np.ndarray]:
        """Return ``(samples, values)`` of one fold."""
        rows = self.fold == fold
        return self.sample[rows], self.values[rows]


@dataclass(frozen=True)
class Features:
    """Embeddings of one model for one data set, as the embed rule wrote them.

    Attributes
    ----------
    model
        Name of the model.
    cells : (cells,) str
        Row names of ``expression.h5ad``.
    cell_embedding : (cells, d) float32 or None
    genes : (genes,) str
        Column names (``var_names``) of ``expression.h5ad``.
    gene_embedding : (genes, d) float32 or None
        Contextual gene vectors averaged over the cells of the data set, or static ones.
    gene_mapped : (genes,) bool
        False where the model does not know the gene; its row is the mean of the mapped rows.
    contextual_embedding : (cells, genes, d) float16, memory-mapped, or None
        Gene vectors of each cell, where data set and model have them.
    """

    model: str
    cells: np.ndarray
    cell_embedding: np.ndarray | None
    genes: np.ndarray
    gene_embedding: np.ndarray | None
    gene_mapped: np.ndarray
    contextual_embedding: np.ndarray | None = None


class Task(ABC):
    """A kind of problem, and the code that solves and scores it.

    Class attributes
    ----------------
    name
        Name of the module that holds it ("genetic_perturbation").
    native
        Capability of a model that answers the task itself ("perturbation_prediction").
    needs
        Capability of an embedding model that :meth:`solve` turns into an answer ("gene_embedding").
    metrics
        Metric name -> direction ("max" or "min"). Every metric that :meth:`score` may return.
    """

    name: ClassVar[str]
    native: ClassVar[str]
    needs: ClassVar[str]
    metrics: ClassVar[Mapping[str, str]]

    @abstractmethod
    def prepare(self, inputs: Mapping[str, Path], options: Mapping[str, Any], out: Path) -> dict[str, Any]:
        """Read raw files, check them, write the data set's folder.

        Writes at least ``out/expression.h5ad``: the cells (or cell lines) whose embeddings the task will ask for,
        ``uns["value_kind"]`` in {"counts", "log1p_cp10k", "nonnegative"}. Everything else in the folder belongs to
        the task.

        Parameters
        ----------
        inputs
            Role of each file in the card -> its path.
        options
            The card's ``options`` for this data.
        out
            Existing empty folder.

        Returns
        -------
        dict
            Facts for ``dataset.json`` (counts, what was dropped and why).

        Raises
        ------
        InputDataError
            When a file is not what the card says it is.
        """

    @abstractmethod
    def split(self, dataset: Path, policy: str, options: Mapping[str, Any], seed: int) -> pd.DataFrame:
        """Cut a prepared data set; columns fold, sample, part, scenario (empty unless part is test), all str."""

    @abstractmethod
    def problems(self, dataset: Path, split: pd.DataFrame, *, sees_truth: bool = False) -> Iterator[Problem]:
        """Yield one problem per fold. Test targets are NaN unless `sees_truth`."""

    @abstractmethod
    def solve(self, problem: Problem, features: Features, seed: int) -> np.ndarray:
        """Answer a problem with a model's embedding; (test samples, outputs) float32."""

    @abstractmethod
    def score(self, dataset: Path, split: pd.DataFrame, predictions: Predictions) -> pd.DataFrame:
        """Score predictions; columns scenario, metric, value, n (units averaged) and unit (what n counts)."""

    def unit_scores(self, dataset: Path, split: pd.DataFrame, predictions: Predictions) -> pd.DataFrame:
        """Score unit by unit; columns scenario, unit, metric, value. A unit is a fold where a task has no finer one."""
        parts = []
        for fold in split["fold"].unique():
            scores = self.score(dataset, split[split["fold"] == fold], predictions)
            parts.append(scores.assign(unit=f"fold {fold}")[list(UNIT_COLUMNS)])
        return pd.concat(parts, ignore_index=True)
