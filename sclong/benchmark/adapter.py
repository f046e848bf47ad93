"""The adapter of a model: the class that its card names, built with the card's options."""

from __future__ import annotations

import importlib
from typing import TypeVar

from sclong.benchmark.adapter_check import check_adapter
from sclong.benchmark.model import Embedder, Predictor, PredictorFromFeatures
from sclong.config.cards import Recipe
from sclong.errors import CardError

Kind = TypeVar("Kind", Predictor, PredictorFromFeatures, Embedder)


def build(recipe: Recipe, kind: type[Kind]) -> Kind:
    """Build a model's adapter.

    Parameters
    ----------
    recipe
        Of the model's card.
    kind
        The contract that the adapter must fulfil.

    Raises
    ------
    CardError
        The card may not name this module (:func:`~sclong.benchmark.adapter_check.check_adapter`), the module or the
        class does not exist, the class refuses the options, or it is of another kind.
    """
    module, _, name = recipe.adapter.partition(":")
    check_adapter(recipe.name, recipe.adapter, recipe.options)
    try:
        found = getattr(importlib.import_module(module), name)
        if not isinstance(found, type) or not issubclass(found, Predictor | PredictorFromFeatures | Embedder):
            raise TypeError("it is no Predictor, no PredictorFromFeatures and no Embedder")
        adapter = found(**recipe.options)
    except (ModuleNotFoundError, AttributeError, TypeError) as error:
        raise CardError(
            f"model {recipe.name!r}, adapter {recipe.adapter!r}: {error}",
            f"module:Class of {kind.__name__} that takes the card's options",
            f"correct the card of model {recipe.name}",
        ) from error
    if not isinstance(adapter, kind):
        raise CardError(
            f"model {recipe.name!r}: {recipe.adapter} is no {kind.__name__}",
            "a Predictor (with features_of: a PredictorFromFeatures) for the capability that answers a task, an "
            "Embedder for embeddings",
            "correct the card's adapter, what it provides, or features_of",
        )
    return adapter
