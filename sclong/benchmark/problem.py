"""What a model may see of one fold, what it returns, and which embeddings it may use."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
import pandas as pd

from sclong.errors import InputDataError, listing

PARTS = ("train", "validation", "test")
SPLIT_COLUMNS = ("fold", "sample", "part", "scenario")
UNIT_COLUMNS = ("scenario", "unit", "metric", "value")


@dataclass(frozen=True, kw_only=True)
class Context:
    """What a task tells every model beside samples and targets; each task has its own subclass.

    A subclass documents each field with its shape and checks it in ``__post_init__``.
    """

    @property
    def unchanged(self) -> np.ndarray | None:
        """The prediction "nothing changes", (outputs,) float32, where the task has one."""
        return None


ContextT = TypeVar("ContextT", bound=Context, covariant=True)


@dataclass(frozen=True)
class Problem(Generic[ContextT]):
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
        Side information that every model may use: an instance of the task's own subclass of :class:`Context`.

    Raises
    ------
    InputDataError
        Samples, targets and outputs do not belong together, a sample appears twice, or a part has another name.
    """

    task: str
    fold: str
    samples: pd.DataFrame
    targets: np.ndarray
    outputs: list[str]
    context: ContextT

    def __post_init__(self) -> None:
        found = None
        if "part" not in self.samples or not set(self.samples["part"]) <= set(PARTS):
            found = "samples without a column 'part', or with other parts"
        elif self.targets.ndim != 2 or self.targets.shape != (len(self.samples), len(self.outputs)):
            found = f"targets of shape {self.targets.shape}"
        elif not self.samples.index.is_unique:
            found = f"duplicated samples {listing(sorted(set(self.samples.index[self.samples.index.duplicated()])))}"
        if found:
            raise InputDataError(
                f"task {self.task!r}, fold {self.fold!r}: {found}",
                f"{len(self.samples)} distinct samples with a part among {', '.join(PARTS)}, and targets of shape "
                f"({len(self.samples)}, {len(self.outputs)})",
                "correct the task's step problems",
            )

    def rows(self, part: str) -> np.ndarray:
        """Return the positions of the samples of one part, (n,) int64."""
        return np.flatnonzero((self.samples["part"] == part).to_numpy())

    @property
    def test_samples(self) -> list[str]:
        """Ids of the test samples, in order: the rows of a prediction."""
        return [str(s) for s in self.samples.index[self.rows("test")]]


@dataclass(frozen=True)
class Predictions:
    """Predictions of one model with one seed, all folds.

    Attributes
    ----------
    fold, sample : (n,) str
        The fold and the test sample of each row.
    values : (n, outputs) float32
        The prediction. For batch integration the columns are embedding dimensions.
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

    def gene_vectors(self) -> np.ndarray:
        """Return the gene embedding, (genes, d) float32.

        Raises
        ------
        InputDataError
            The model has none.
        """
        return self._required(self.gene_embedding, "gene embedding")

    def cell_vectors(self) -> np.ndarray:
        """Return the cell embedding, (cells, d) float32.

        Raises
        ------
        InputDataError
            The model has none.
        """
        return self._required(self.cell_embedding, "cell embedding")

    def _required(self, array: np.ndarray | None, what: str) -> np.ndarray:
        if array is None:
            raise InputDataError(
                f"model {self.model!r} wrote no {what}",
                f"an embedding with a {what}",
                "correct what the model's card provides, or delete the embedding and run its rule again",
            )
        return array
