"""Simple models of drug synergy: what is known of the pair, of the line, and trees and a network on fingerprints."""

from __future__ import annotations

from itertools import islice
from typing import Literal

import numpy as np
import pandas as pd

from sclong.benchmark.model import Predictor
from sclong.benchmark.problem import Problem
from sclong.drugs.classical import describe
from sclong.seeding import derive_seed
from sclong.tasks.drug_combination.dataset import CombinationContext

PSEUDO = 2.0  # training triples that say "the overall rate", beside those of a pair, drug or line


def smoothed_rate(names: pd.Series, labels: np.ndarray, overall: float) -> pd.Series:
    """Return the share of positives of each name, drawn towards the overall rate as by two more triples."""
    counted = pd.DataFrame({"name": names.to_numpy(), "y": labels}).groupby("name")["y"].agg(["sum", "size"])
    return (counted["sum"] + PSEUDO * overall) / (counted["size"] + PSEUDO)


class CombinationPrior(Predictor[CombinationContext]):
    """The share of positives among the training triples of the same pair of drugs, or of the same line; no biology.

    A pair that training does not have gets the mean of the rates of its two drugs (over the triples that have them, on
    either side); a drug or line that training does not have, the overall rate.

    Parameters
    ----------
    of
        "drug_pair" or "line".
    """

    def __init__(self, of: Literal["drug_pair", "line"] = "drug_pair") -> None:
        if of not in ("drug_pair", "line"):
            raise TypeError(f"of {of!r}: drug_pair or line")  # an option of a card
        self.of = of

    def predict(self, problem: Problem[CombinationContext], seed: int) -> np.ndarray:
        """Look up the rates; `seed` changes nothing."""
        train, test = problem.rows("train"), problem.rows("test")
        samples, y = problem.samples, problem.targets[:, 0].astype(float)
        overall = float(y[train].mean())
        if self.of == "line":
            rates = smoothed_rate(samples["cell"].iloc[train], y[train], overall)
            answer = samples["cell"].iloc[test].map(rates).fillna(overall).to_numpy()
            return answer[:, None].astype(np.float32)
        drugs = np.sort(samples[["drug1", "drug2"]].to_numpy(dtype=str), axis=1)
        pairs = pd.Series([f"{a}+{b}" for a, b in drugs])
        of_pairs = smoothed_rate(pairs.iloc[train], y[train], overall)
        of_drugs = smoothed_rate(pd.Series(drugs[train].T.ravel()), np.tile(y[train], 2), overall)
        by_drug = np.mean([pd.Series(drugs[test, k]).map(of_drugs).fillna(overall) for k in (0, 1)], axis=0)
        answer = pairs.iloc[test].map(of_pairs).to_numpy()
        return np.where(np.isnan(answer), by_drug, answer)[:, None].astype(np.float32)


class GradientBoosting(Predictor[CombinationContext]):
    """Boosted trees (scikit-learn's histogram boosting) on fingerprints, without order, and components of the line.

    Parameters
    ----------
    max_iter
        Trees at most; how many are used is chosen on the validation part.
    learning_rate, max_leaf_nodes, n_components
        Step, size of a tree, principal components of expression.
    """

    def __init__(
        self, max_iter: int = 500, learning_rate: float = 0.1, max_leaf_nodes: int = 31, n_components: int = 20
    ) -> None:
        self.n_components = n_components
        self.options = {"max_iter": max_iter, "learning_rate": learning_rate, "max_leaf_nodes": max_leaf_nodes}

    def predict(self, problem: Problem[CombinationContext], seed: int) -> np.ndarray:
        """Fit on the training part; the number of trees is that with the least log loss on the validation part."""
        from sklearn.ensemble import HistGradientBoostingClassifier
        from sklearn.metrics import log_loss

        train, validation, test = (problem.rows(part) for part in ("train", "validation", "test"))
        x, y = describe(problem, self.n_components), problem.targets[:, 0]
        state = derive_seed("gradient boosting", seed) % 2**32
        model = HistGradientBoostingClassifier(early_stopping=False, random_state=state, **self.options)
        model.fit(x[train], y[train].astype(int))
        truth = y[validation].astype(int)
        losses = [log_loss(truth, p, labels=[0, 1]) for p in model.staged_predict_proba(x[validation])]
        best = int(np.argmin(losses))
        answer = next(islice(model.staged_predict_proba(x[test]), best, None))
        return answer[:, 1:].astype(np.float32)


class FingerprintMLP(Predictor[CombinationContext]):
    """A network with two hidden layers on fingerprints, without order, and components of the line.

    Parameters
    ----------
    hidden, epochs, n_components
        Widths, epochs at most (the best one on the validation part is kept), principal components of expression.
    """

    def __init__(self, hidden: tuple[int, ...] = (256, 128), epochs: int = 100, n_components: int = 20) -> None:
        self.hidden, self.epochs, self.n_components = tuple(hidden), epochs, n_components

    def predict(self, problem: Problem[CombinationContext], seed: int) -> np.ndarray:
        """Train; every seed is a training of its own."""
        from sclong.benchmark.mlp import fit_predict_mlp

        x, y = describe(problem, self.n_components), problem.targets
        train, validation, test = (problem.rows(part) for part in ("train", "validation", "test"))
        return fit_predict_mlp(
            x[train],
            y[train],
            x[validation],
            y[validation],
            x[test],
            seed,
            loss="bce",
            hidden=self.hidden,
            epochs=self.epochs,
            patience=10,
            batch_size=256,
        )
