"""DeepCE and its network on the gene vectors of another model: from a problem to :mod:`.deepce_network`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from pydantic import ValidationError

from sclong.benchmark.model import Predictor, PredictorFromFeatures
from sclong.benchmark.names import REMAKE_EMBEDDING, align
from sclong.benchmark.problem import Features, Problem
from sclong.config.cards import describe_validation
from sclong.drugs.molecules import molecule_graphs
from sclong.errors import CardError, InputDataError
from sclong.tasks.chemical_perturbation.dataset import SignatureContext
from sclong.tasks.chemical_perturbation.deepce_network import DeepceData, DeepceOptions, fit_predict_deepce


class Deepce(Predictor[SignatureContext], PredictorFromFeatures[SignatureContext]):
    """A DeepCE network; see :class:`.DeepceNetwork`.

    Without features its gene vectors are those of the data set (``gene_vectors`` of the context: DeepCE's own), or,
    where it has none, a table of the network's own, random at first and trained. From features they are the model's
    vectors; a gene that the model does not know has zeros.

    Parameters
    ----------
    standardise
        Whether each dimension of the vectors is centred and scaled over the known genes. Published: false.
    **training
        Fields of :class:`.DeepceOptions`.

    Raises
    ------
    CardError
        An option that does not exist.
    """

    def __init__(self, standardise: bool = True, **training: Any) -> None:
        self.standardise = standardise
        try:
            self.options = DeepceOptions.model_validate(training)
        except ValidationError as error:
            found, action = describe_validation(error, DeepceOptions)
            raise CardError(
                f"options of a DeepCE model: {found}",
                "options of the network and its training",
                f"{action} in the model's card",
            ) from None

    def predict(self, problem: Problem[SignatureContext], seed: int) -> np.ndarray:
        """Train without a given embedding, and predict; every seed is a training of its own.

        Raises
        ------
        InputDataError
            A part without signatures, or a compound that the features of atoms cannot tell.
        """
        vectors = problem.context.gene_vectors
        if vectors is not None:
            vectors = prepared(vectors, np.ones(len(vectors), dtype=bool), self.standardise)
        return fit_predict_deepce(replace(deepce_data(problem), vectors=vectors), self.options, seed)

    def predict_from(self, problem: Problem[SignatureContext], features: Features, seed: int) -> np.ndarray:
        """Train on the vectors of `features` and predict; every seed is a training of its own.

        Raises
        ------
        InputDataError
            As :meth:`predict`, or features without a vector for any of the genes.
        """
        vectors = prepared(*vectors_of(problem.outputs, features), self.standardise)
        return fit_predict_deepce(replace(deepce_data(problem), vectors=vectors), self.options, seed)


def deepce_data(problem: Problem[SignatureContext]) -> DeepceData:
    """Collect what the network learns from and predicts.

    Line and dose are one-hot over those of the training part, as published; others are all zero.
    """
    samples = problem.samples
    train = problem.rows("train")
    smiles, compound = np.unique(samples["smiles"].to_numpy(dtype=str), return_inverse=True)
    lines = samples["cell_id"].to_numpy(dtype=str)
    doses = np.round(np.log10(samples["dose_um"].to_numpy(dtype=float)), 6)
    line, dose = (
        (values[:, None] == np.unique(values[train])[None, :]).astype(np.float32) for values in (lines, doses)
    )
    return DeepceData(
        molecule_graphs(smiles.tolist(), "deepce"),
        compound,
        line,
        dose,
        problem.targets,
        train,
        problem.rows("validation"),
        problem.rows("test"),
    )


def vectors_of(genes: list[str], features: Features) -> tuple[np.ndarray, np.ndarray]:
    """Return each gene's vector, (G, V) float32, and whether the model knows the gene, (G,) bool.

    Raises
    ------
    InputDataError
        When the features have no gene vectors, or the model knows none of the genes.
    """
    vectors = features.gene_vectors()
    rows = align(features.genes, genes, f"embedding of {features.model!r}: genes", REMAKE_EMBEDDING, missing=True)
    known = (rows >= 0) & features.gene_mapped[rows]
    if not known.any():
        raise InputDataError(
            f"model {features.model!r} has a vector for none of the {len(genes)} genes of the signatures",
            "gene vectors for the landmark genes",
            "check the gene names of the untreated expression and of the signatures",
        )
    return np.where(known[:, None], vectors[rows], 0).astype(np.float32), known


def prepared(vectors: np.ndarray, known: np.ndarray, standardise: bool) -> np.ndarray:
    """Return vectors as the network gets them: standardised over known genes, or as they are; zeros for the others."""
    out = np.zeros(vectors.shape, dtype=np.float32)
    out[known] = vectors[known]
    if standardise:
        values = vectors[known].astype(np.float64)
        sd = values.std(axis=0)
        out[known] = (values - values.mean(axis=0)) / np.where(sd > 1e-8, sd, 1.0)
    return out
