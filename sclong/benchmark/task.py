"""What a task declares: names, capabilities, metrics, and where the code of its steps lies. Nothing heavy is imported.

A **task** turns raw files into a data set, splits it before any feature selection, hands models what they may see, and
scores what they predict. A model meets it in one of two ways: it predicts itself (it provides the task's `native`
capability), or it provides an embedding from which the task's own head predicts (the step ``solve``).

A task is a package. Its module ``task`` holds ``TASK``, an instance of :class:`Task`; each step is a function in a
module of its own, both named as the step. The signatures are those of the methods of :class:`Task` of the same names.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from sclong.errors import CardError

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from sclong.benchmark.problem import Features, Predictions, Problem

STEPS = ("prepare", "split", "problems", "solve", "score", "figure")
Step = Literal["prepare", "split", "problems", "solve", "score", "figure"]


@dataclass(frozen=True)
class Task:
    """A kind of problem, and the code that solves and scores it.

    Attributes
    ----------
    name
        Name of the task, which is also the name of its package.
    package
        Package that holds the modules of the steps: ``__package__`` of the module that makes this object.
    title
        What a reader sees ("Genetic perturbation").
    native
        Capability of a model that predicts by itself ("perturbation_prediction").
    needs
        Capabilities of embedding models that the step ``solve`` can predict from; empty where there is no such head.
    metrics
        Metric name -> direction ("max" or "min"); every metric that the step ``score`` may return.
    head_draws
        Whether the step ``solve`` draws random numbers, so that each seed is a prediction of its own.
    figure
        What the task's own figure in the report is drawn from: nothing (None: the report's standard figure alone),
        "scores" (it replaces the standard figure) or "predictions" (it is drawn below the standard figure, from the
        data set and the predictions of the first seed). The step ``figure`` draws it.
    """

    name: str
    package: str
    title: str
    native: str
    needs: tuple[str, ...]
    metrics: Mapping[str, str]
    head_draws: bool
    figure: Literal["scores", "predictions"] | None = None

    @property
    def capabilities(self) -> tuple[str, ...]:
        """The capability that answers the task, then those that its head can use."""
        return (self.native, *self.needs)

    def module(self, step: Step) -> str:
        """Return the name of the module of a step: the entry point whose code a rule hashes."""
        return f"{self.package}.{step}"

    def function(self, step: Step, name: str | None = None) -> Any:
        """Import and return the function of a step.

        Raises
        ------
        CardError
            The task's package has no such module, or the module no such function.
        """
        module = self.module(step)
        try:
            return getattr(importlib.import_module(module), name or step)
        except ModuleNotFoundError as error:
            if error.name != module:
                raise
            raise self._lacks(step) from None
        except AttributeError:
            raise self._lacks(step) from None

    def _lacks(self, step: str) -> CardError:
        return CardError(
            f"task {self.name!r}: no function {step!r} in a module {self.package}.{step}",
            f"a package with one module for each step: {', '.join(STEPS)}",
            "add the module; CONTRIBUTING.md has the contract",
        )

    # ------------------------------------------------------------------- steps

    def prepare(self, inputs: Mapping[str, Any], options: Mapping[str, Any], out: Path) -> dict[str, Any]:
        """Read raw files, check them, and write the folder of the data set.

        Writes at least ``out/expression.h5ad``: the cells (or cell lines) whose embeddings the task will ask for,
        ``uns["value_kind"]`` in {"counts", "log1p_cp10k", "nonnegative"}. Everything else in the folder belongs to
        the task, which describes it in its module ``problems``.

        Parameters
        ----------
        inputs
            Role of each file in the card -> its path, or the list of its paths.
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
        facts: dict[str, Any] = self.function("prepare")(inputs, options, out)
        return facts

    def split(self, dataset: Path, policy: str, options: Mapping[str, Any], seed: int) -> pd.DataFrame:
        """Split a prepared data set; columns fold, sample, part, scenario (empty unless part is test), all str."""
        table: pd.DataFrame = self.function("split")(dataset, policy, options, seed)
        return table

    def problems(self, dataset: Path, split: pd.DataFrame, *, sees_truth: bool = False) -> Iterator[Problem]:
        """Yield one problem per fold. Test targets are NaN unless `sees_truth`."""
        found: Iterator[Problem] = self.function("problems")(dataset, split, sees_truth=sees_truth)
        return found

    def solve(self, problem: Problem, features: Features, seed: int) -> np.ndarray:
        """Predict from a model's embedding; (test samples, outputs) float32."""
        values: np.ndarray = self.function("solve")(problem, features, seed)
        return values

    def score(self, dataset: Path, split: pd.DataFrame, predictions: Predictions) -> pd.DataFrame:
        """Score predictions; columns scenario, metric, value, n (units averaged) and unit (what n counts)."""
        table: pd.DataFrame = self.function("score")(dataset, split, predictions)
        return table

    def unit_scores(self, dataset: Path, split: pd.DataFrame, predictions: Predictions) -> pd.DataFrame:
        """Score unit by unit; columns scenario, unit, metric, value.

        By the function ``unit_scores`` of the module ``score``; a unit is a fold where a task has no such function.
        """
        import pandas as pd

        from sclong.benchmark.problem import UNIT_COLUMNS

        own = getattr(importlib.import_module(self.module("score")), "unit_scores", None)
        if own is not None:
            table: pd.DataFrame = own(dataset, split, predictions)
            return table
        parts = []
        for fold in split["fold"].unique():
            scores = self.score(dataset, split[split["fold"] == fold], predictions)
            parts.append(scores.assign(unit=f"fold {fold}")[list(UNIT_COLUMNS)])
        return pd.concat(parts, ignore_index=True)
