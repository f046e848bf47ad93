"""What tasks on drugs and cell lines tell every model."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pandas as pd

from sclong.benchmark.problem import Context
from sclong.errors import InputDataError


@dataclass(frozen=True, kw_only=True)
class DrugContext(Context, ABC):
    """Context of a task whose samples are drugs on a cell line; a base of the task's own context.

    Attributes
    ----------
    expression : (lines, genes) DataFrame of float32
        Expression of the cell lines, indexed by their names.
    line_column
        Column of the samples that names the cell line.
    classifies
        Whether targets are labels 0 and 1; else they are numbers.

    Raises
    ------
    InputDataError
        A cell line appears twice.
    """

    line_column: ClassVar[str]
    classifies: ClassVar[bool]

    expression: pd.DataFrame

    def __post_init__(self) -> None:
        if not self.expression.index.is_unique:
            raise InputDataError(
                "expression with a cell line that appears twice", "one row per cell line", "prepare the data set again"
            )

    @abstractmethod
    def drug_features(self, samples: pd.DataFrame) -> np.ndarray:
        """Describe the drug, or the drugs without order, of each sample; (samples, features) float."""
