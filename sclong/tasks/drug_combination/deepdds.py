"""DeepDDS as a model of the benchmarks: from a problem to :mod:`.deepdds_network`."""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np
from pydantic import ValidationError

from sclong.benchmark.model import Predictor, PredictorFromFeatures
from sclong.benchmark.problem import Features, Problem
from sclong.config.cards import describe_validation
from sclong.drugs.features import drugs_of
from sclong.drugs.lines import line_rows
from sclong.drugs.molecules import molecule_graphs
from sclong.errors import CardError, InputDataError
from sclong.tasks.drug_combination.dataset import CombinationContext
from sclong.tasks.drug_combination.deepdds_network import DeepDDSData, DeepDDSOptions, fit_predict_deepdds

Lines = Literal["gene_vectors", "cell_embedding"]


class DeepDDS(Predictor[CombinationContext], PredictorFromFeatures[CombinationContext]):
    """DeepDDS on transcripts per million, or on another model's vectors in the place of expression.

    Parameters
    ----------
    lines
        What is taken of a model's features: "gene_vectors", of each gene in each line, as in the scLong paper, or
        "cell_embedding".
    published
        The authors' protocol: trained on training and validation part, drugs in the order of the file, the epoch
        chosen by the AUROC of the test part. Only for a card of the paper's protocol that selects on test.
    **options
        Fields of :class:`.DeepDDSOptions`.

    Raises
    ------
    CardError
        An option that does not exist.
    """

    def __init__(self, lines: Lines = "gene_vectors", published: bool = False, **options: Any) -> None:
        if lines not in get_args(Lines):
            raise CardError(f"lines {lines!r}", "gene_vectors or cell_embedding", "correct the options of the card")
        self.lines, self.published = lines, published
        try:
            self.options = DeepDDSOptions.model_validate(options)
        except ValidationError as error:
            found, action = describe_validation(error, DeepDDSOptions)
            raise CardError(
                f"options of a DeepDDS model: {found}",
                "options of the network and its training",
                f"{action} in the model's card",
            ) from None

    def predict(self, problem: Problem[CombinationContext], seed: int) -> np.ndarray:
        """Train on the lines' expression, and answer; every seed is a training of its own."""
        expression = problem.context.expression
        tpm = np.expm1(expression.to_numpy(np.float64)).astype(np.float32)
        return self._answer(problem, expression.index.to_numpy(dtype=str), tpm, seed)

    def predict_from(self, problem: Problem[CombinationContext], features: Features, seed: int) -> np.ndarray:
        """Train on the vectors of `features`, and answer; every seed is a training of its own.

        Raises
        ------
        InputDataError
            When the features have no such vectors, or not those of every line.
        """
        found = features.contextual_embedding if self.lines == "gene_vectors" else features.cell_embedding
        if found is None:
            raise InputDataError(
                f"model {features.model!r} has no {self.lines.replace('_', ' ')} of lines",
                "an embedding with them",
                "embed the data set again, or use `lines: cell_embedding` in the card",
            )
        vectors = np.asarray(found, dtype=np.float32)
        if self.lines == "cell_embedding":  # one scale for all columns, so their relative sizes stay
            training = np.unique(problem.samples["cell"].iloc[problem.rows("train")].to_numpy(dtype=str))
            known = line_rows(features.cells, training, features.model, vectors)
            scale = float(np.sqrt(known.var(axis=0).mean()))
            vectors = (vectors - known.mean(axis=0)) / (scale if scale > 0 else 1.0)
        return self._answer(problem, features.cells, vectors, seed, features.model)

    def _answer(
        self,
        problem: Problem[CombinationContext],
        names: np.ndarray,
        lines: np.ndarray,
        seed: int,
        model: str = "expression",
    ) -> np.ndarray:
        data = deepdds_data(problem, names, lines, model, sort_pairs=not self.published)
        train, validation, test = (problem.rows(part) for part in ("train", "validation", "test"))
        if self.published:
            train, validation = np.sort(np.concatenate([train, validation])), test
            if np.isnan(problem.targets[test]).any():
                raise CardError(
                    "a DeepDDS model with `published: true` was not shown the test targets",
                    "a card that shows them",
                    "add `protocol: paper` and `selects_on_test: true` to the card, or leave `published` out",
                )
        return fit_predict_deepdds(data, train, validation, test, self.options, seed)[:, None]


def deepdds_data(
    problem: Problem[CombinationContext], names: np.ndarray, lines: np.ndarray, model: str, *, sort_pairs: bool
) -> DeepDDSData:
    """Collect what the network learns from and is asked.

    Parameters
    ----------
    problem
        Triples.
    names, lines
        Names of lines, and the vectors beside them.
    model
        Whose vectors these are, for messages.
    sort_pairs
        Whether both drugs of a pair are put in one order, so that who stands first in the file changes nothing.
    """
    smiles = drugs_of(problem.samples)
    drugs = np.stack([np.searchsorted(smiles, problem.samples[c].to_numpy(dtype=str)) for c in ("drug1", "drug2")])
    first, second = np.sort(drugs, axis=0) if sort_pairs else drugs
    distinct, line = np.unique(problem.samples["cell"].to_numpy(dtype=str), return_inverse=True)
    return DeepDDSData(
        graphs=molecule_graphs(smiles.tolist(), "deepdds"),
        first=first,
        second=second,
        line=line,
        lines=line_rows(names, distinct, model, lines),
        labels=problem.targets[:, 0],
    )
