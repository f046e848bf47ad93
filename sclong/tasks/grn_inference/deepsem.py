"""Networks by DeepSEM, and from the embedding of another model (capability edge_scores)."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from sclong.benchmark.model import Predictor, PredictorFromFeatures
from sclong.benchmark.problem import Features, Problem
from sclong.errors import CardError
from sclong.tasks.grn_inference.classical import expression, regulator_columns
from sclong.tasks.grn_inference.dataset import NetworkContext
from sclong.tasks.grn_inference.vectors import cosine_scores, gene_vectors

Variant = Literal["cosine", "inner_product"]


class DeepSemNetwork(Predictor[NetworkContext]):
    """Absolute weights of the network that DeepSEM learns.

    Where several epochs are kept, the prediction has the weights of each, one after the other, with a column for every
    gene: each is scored by itself, and the scores are averaged.

    Parameters
    ----------
    max_genes
        Genes of the network: the most variable regulators (at most half of them, where there are more) and the most
        variable others; pairs with other genes score 0. Memory grows with its square, time with its cube. None: all.
    options
        See :class:`.DeepSemOptions`; the defaults are the published ones.
    """

    def __init__(self, max_genes: int | None = None, **options: Any) -> None:
        from sclong.tasks.grn_inference.deepsem_network import DeepSemOptions

        self.max_genes, self.options = max_genes, DeepSemOptions(**options)

    def predict(self, problem: Problem[NetworkContext], seed: int) -> np.ndarray:
        """Train by `seed` from a uniform network and return its weights."""
        return self._weights(problem, seed, None)

    def _weights(self, problem: Problem[NetworkContext], seed: int, start: np.ndarray | None) -> np.ndarray:
        """Train on some of the genes, from `start` ((genes, genes): target, regulator) or a uniform network."""
        from sclong.tasks.grn_inference.deepsem_network import fit_networks

        values, regulators = expression(problem), regulator_columns(problem)
        genes = _chosen_genes(values, regulators, self.max_genes)
        if start is not None:
            start = start[np.ix_(genes, genes)]
        chosen = np.flatnonzero(np.isin(regulators, genes))
        columns = np.searchsorted(genes, regulators[chosen])
        parts = []
        for network in np.abs(fit_networks(values[:, genes], seed, self.options, start)):
            scores = np.zeros((len(regulators), values.shape[1]), dtype=np.float32)
            scores[np.ix_(chosen, genes)] = network[:, columns].T
            parts.append(scores)
        return np.concatenate(parts, axis=1)


class DeepSemFromSimilarity(DeepSemNetwork, PredictorFromFeatures[NetworkContext]):
    """DeepSEM that starts from the inner products of another model's gene vectors, as published for scLong.

    The published run takes the vectors of a gene in all cells as one long vector; here it is their mean over cells.
    """

    def predict_from(self, problem: Problem[NetworkContext], features: Features, seed: int) -> np.ndarray:
        """Train by `seed` and return the weights."""
        from sclong.tasks.grn_inference.deepsem_network import similarity_start

        return self._weights(problem, seed, similarity_start(_known_vectors(problem, features)))


class EmbeddingSimilarity(PredictorFromFeatures[NetworkContext]):
    """How alike the vectors of regulator and target are; nothing is trained.

    Parameters
    ----------
    variant
        "cosine": what the paper says (and what the task's own head predicts). "inner_product": what the authors' code
        computes as DeepSEM's first network (:func:`.similarity_start`).
    """

    def __init__(self, variant: Variant = "cosine") -> None:
        if variant not in ("cosine", "inner_product"):
            raise CardError(
                f"variant {variant!r}", "cosine or inner_product", "correct the options of the model's card"
            )
        self.variant = variant

    def predict_from(self, problem: Problem[NetworkContext], features: Features, seed: int) -> np.ndarray:
        """Return the similarity; `seed` changes nothing."""
        from sclong.tasks.grn_inference.deepsem_network import similarity_start

        if self.variant == "cosine":
            return cosine_scores(problem, *gene_vectors(problem, features))
        network = similarity_start(_known_vectors(problem, features))
        return network[:, regulator_columns(problem)].T.astype(np.float32)


def _known_vectors(problem: Problem[NetworkContext], features: Features) -> np.ndarray:
    """Return gene vectors; zeros for genes that the model does not know."""
    vectors, mapped = gene_vectors(problem, features)
    return np.where(mapped[:, None], vectors, 0.0)


def _chosen_genes(values: np.ndarray, regulators: np.ndarray, max_genes: int | None) -> np.ndarray:
    """Return columns, ascending: the most variable regulators and others, at most `max_genes` (see DeepSemNetwork)."""
    if max_genes is None or max_genes >= values.shape[1]:
        return np.arange(values.shape[1])
    order = np.argsort(-values.var(axis=0), kind="stable")
    is_regulator = np.isin(order, regulators)
    others = order[~is_regulator][: max_genes - min(len(regulators), max_genes // 2)]
    return np.sort(np.concatenate([order[is_regulator][: max_genes - len(others)], others]))
