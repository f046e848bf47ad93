"""The Gene Ontology annotations of a data set, for the models that read them."""

from __future__ import annotations

import numpy as np

from sclong.benchmark.task import Problem
from sclong.errors import InputDataError


def go_terms(problem: Problem) -> np.ndarray:
    """Return the (genes, terms) CSR of a problem's annotations.

    Raises
    ------
    InputDataError
        When the data set has none.
    """
    if "go_terms" not in problem.context:
        raise InputDataError(
            "the data set has no GO annotations",
            "inputs obo and annotation in the benchmark's card",
            "add them, or leave this model out",
        )
    return problem.context["go_terms"]
