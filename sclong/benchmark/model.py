"""What every model is: something that predicts by itself, or something that embeds cells and genes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeVar

import numpy as np

from sclong.benchmark.problem import Context, Features, Problem
from sclong.embed.result import Embedding

if TYPE_CHECKING:
    import anndata

ContextT = TypeVar("ContextT", bound=Context)


class Predictor(ABC, Generic[ContextT]):
    """A model that predicts by itself, from problems with one kind of context: ``Predictor[PairContext]``.

    Built with the `options` of its card as keyword arguments.
    """

    @abstractmethod
    def predict(self, problem: Problem[ContextT], seed: int) -> np.ndarray:
        """Predict the test samples; (test samples, outputs) float32, rows in the order of ``problem.test_samples``."""


class PredictorFromFeatures(ABC, Generic[ContextT]):
    """A model that predicts by itself from the embedding of the model that ``features_of`` in its card names."""

    @abstractmethod
    def predict_from(self, problem: Problem[ContextT], features: Features, seed: int) -> np.ndarray:
        """Predict the test samples from `features`; returns what :meth:`Predictor.predict` returns."""


class Embedder(ABC):
    """A model that embeds cells, genes or both. Built with the `options` of its card as keyword arguments."""

    @abstractmethod
    def embed(
        self, adata: anndata.AnnData, *, checkpoint: Path | None, seed: int, batch_size: int, device: str = "cpu"
    ) -> Embedding:
        """Embed `adata`, whose ``uns["value_kind"]`` says counts, log1p_cp10k or nonnegative.

        Parameters
        ----------
        adata
            Cells by genes; var_names as the data set has them (Ensembl ids or symbols).
        checkpoint
            Checkpoint folder, for models whose card names one.
        seed
            For embedders that draw random numbers.
        batch_size
            Cells per forward pass.
        device
            "cpu" or "cuda"; a device that is not there is an error, never replaced by another.
        """
