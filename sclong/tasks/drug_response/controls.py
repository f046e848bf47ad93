"""Controls of drug response: means of training pairs that share a drug or a line."""

from __future__ import annotations

from typing import Literal

import numpy as np

from sclong.errors import CardError
from sclong.models.base import Predictor
from sclong.tasks.base import Problem

GROUPS = {"drug": "smiles", "line": "cell_line", "tissue": "tissue"}


class GroupMean(Predictor):
    """The mean response of the training pairs of the same drug, line or tissue.

    What training does not have counts with the mean of all training pairs.

    Parameters
    ----------
    by
        "drug" (by structure), "line" or "tissue".

    Raises
    ------
    CardError
        For another group.
    """

    def __init__(self, by: Literal["drug", "line", "tissue"]) -> None:
        if by not in GROUPS:
            raise CardError(f"by {by!r}", f"one of {', '.join(GROUPS)}", "correct the options of the model's card")
        self.column = GROUPS[by]

    def predict(self, problem: Problem, seed: int) -> np.ndarray:
        """Look up the means; `seed` changes nothing."""
        train, test = problem.rows("train"), problem.rows("test")
        groups, y = problem.samples[self.column], problem.targets[train, 0].astype(float)
        means = groups.iloc[train].to_frame().assign(y=y).groupby(self.column)["y"].mean()
        return groups.iloc[test].map(means).fillna(y.mean()).to_numpy(np.float32)[:, None]
