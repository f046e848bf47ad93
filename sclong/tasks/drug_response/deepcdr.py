"""DeepCDR on a line's expression or on its embedding: from a problem to :mod:`.deepcdr_training`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from pydantic import ValidationError

from sclong.benchmark.model import Predictor, PredictorFromFeatures
from sclong.benchmark.problem import Features, Problem
from sclong.config.cards import describe_validation
from sclong.drugs.lines import line_rows
from sclong.drugs.molecules import molecule_graphs
from sclong.errors import CardError, InputDataError
from sclong.tasks.drug_response.dataset import ResponseContext
from sclong.tasks.drug_response.deepcdr_network import EXPRESSION, OMICS
from sclong.tasks.drug_response.deepcdr_training import DeepCDROptions, ResponseData, fit_predict_deepcdr


class DeepCDR(Predictor[ResponseContext], PredictorFromFeatures[ResponseContext]):
    """A DeepCDR network; see :class:`.DeepCDRNetwork`.

    Answering from features it takes their cell embedding in the place of expression.

    Parameters
    ----------
    omics
        What is known of a line: of "expression", "methylation", "mutation". All of them must be in the data set.
    **training
        Fields of :class:`.DeepCDROptions`.

    Raises
    ------
    CardError
        An option, or a kind of omics, that does not exist.
    """

    def __init__(self, omics: Sequence[str] = (EXPRESSION,), **training: Any) -> None:
        unknown = sorted(set(omics) - set(OMICS))
        if unknown or not omics:
            raise CardError(f"omics {list(omics)}", f"some of {', '.join(OMICS)}", "correct the model's card")
        self.omics = tuple(omics)
        try:
            self.options = DeepCDROptions.model_validate(training)
        except ValidationError as error:
            found, action = describe_validation(error, DeepCDROptions)
            raise CardError(
                f"options of a DeepCDR model: {found}",
                "options of the network and its training",
                f"{action} in the model's card",
            ) from None

    def predict(self, problem: Problem[ResponseContext], seed: int) -> np.ndarray:
        """Train on the lines' expression and answer; every seed is a training of its own.

        Raises
        ------
        InputDataError
            Omics that the data set does not have, or a part without pairs.
        """
        return fit_predict_deepcdr(self._data(problem, None), self.options, seed)[:, None]

    def predict_from(self, problem: Problem[ResponseContext], features: Features, seed: int) -> np.ndarray:
        """Train on the lines' vectors in `features` and answer; every seed is a training of its own.

        Raises
        ------
        InputDataError
            As :meth:`predict`, or a line that has no vector.
        """
        return fit_predict_deepcdr(self._data(problem, features), self.options, seed)[:, None]

    def _data(self, problem: Problem[ResponseContext], features: Features | None) -> ResponseData:
        lines, line = np.unique(problem.samples["cell_line"].to_numpy(dtype=str), return_inverse=True)
        smiles, drug = np.unique(problem.samples["smiles"].to_numpy(dtype=str), return_inverse=True)
        omics: dict[str, np.ndarray] = {}
        for name in self.omics:
            if name == EXPRESSION and features is not None:
                omics[name] = line_rows(features.cells, lines, features.model, features.cell_vectors())
                continue
            table = getattr(problem.context, name)
            if table is None:
                raise InputDataError(
                    f"the data set has no {name}",
                    f"{', '.join(self.omics)} of every line",
                    f"name a file of {name} among the inputs of the benchmark's card, or leave {name} out of the "
                    "model's omics",
                )
            omics[name] = table.loc[lines].to_numpy(np.float32)
        graphs = problem.context.graphs
        return ResponseData(
            graphs.of(smiles.tolist()) if graphs is not None else molecule_graphs(smiles.tolist(), "deepcdr"),
            omics,
            drug,
            line,
            problem.targets[:, 0].astype(float),
            *(problem.rows(part) for part in ("train", "validation", "test")),
        )
