"""Controls of drug response: means of training pairs that share a drug or a line."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pandas as pd
from scipy import sparse
from scipy.sparse.linalg import lsqr

from sclong.benchmark.model import Predictor
from sclong.benchmark.problem import Problem
from sclong.errors import CardError
from sclong.tasks.drug_response.dataset import ResponseContext

GROUPS = {"drug": "smiles", "line": "cell_line", "tissue": "tissue"}


class GroupMean(Predictor[ResponseContext]):
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

    def predict(self, problem: Problem[ResponseContext], seed: int) -> np.ndarray:
        """Look up the means; `seed` changes nothing."""
        train, test = problem.rows("train"), problem.rows("test")
        groups, y = problem.samples[self.column], problem.targets[train, 0].astype(float)
        means = groups.iloc[train].to_frame().assign(y=y).groupby(self.column)["y"].mean()
        return groups.iloc[test].map(means).fillna(y.mean()).to_numpy(np.float32)[:, None]


class AdditiveMean(Predictor[ResponseContext]):
    """Overall mean plus an effect of the drug plus one of the line: the control to beat.

    Both effects are fitted together, by least squares on the training pairs. Where every drug was measured on every
    line they are the drug's and the line's mean less the overall mean; elsewhere a drug that was measured on sensitive
    lines only is not taken for a potent one. Effects have the mean zero over training pairs: a drug or line that
    training does not have counts with the overall mean.
    """

    def predict(self, problem: Problem[ResponseContext], seed: int) -> np.ndarray:
        """Fit and add up; `seed` changes nothing."""
        train, test = problem.rows("train"), problem.rows("test")
        y = problem.targets[train, 0].astype(float)
        drug, line = (pd.factorize(problem.samples[c].astype(str))[0] for c in ("smiles", "cell_line"))
        places = (drug, drug.max() + 1 + line)
        columns = np.stack(places, axis=1)[train]
        shape = (len(train), places[1].max() + 1)
        design = sparse.csr_matrix((np.ones(columns.size), columns.ravel(), 2 * np.arange(len(train) + 1)), shape)
        effects = lsqr(design, y - y.mean(), atol=1e-12, btol=1e-12, conlim=0)[0]
        answer = np.full(len(test), y.mean())
        for place in places:
            known = np.isin(place[test], place[train])
            answer += np.where(known, effects[place[test]] - effects[place[train]].mean(), 0.0)
        return answer[:, None].astype(np.float32)
