"""Classical models of drug signatures: structure, cell line and dose, no knowledge of genes."""

from __future__ import annotations

import numpy as np

from sclong.benchmark.controls import training_targets
from sclong.benchmark.model import Predictor
from sclong.benchmark.problem import Problem
from sclong.benchmark.regression import mse
from sclong.drugs.fingerprints import morgan_fingerprints
from sclong.tasks.chemical_perturbation.dataset import SignatureContext
from sclong.tasks.chemical_perturbation.description import describe


class RidgeFingerprint(Predictor[SignatureContext]):
    """Ridge regression of each gene on Morgan fingerprint, cell line and log dose.

    Parameters
    ----------
    penalties
        Candidates for the penalty, of which the one with the smallest validation error is used.
    """

    def __init__(self, penalties: tuple[float, ...] = (1.0, 10.0, 100.0, 1000.0, 10000.0)) -> None:
        self.penalties = tuple(penalties)

    def predict(self, problem: Problem[SignatureContext], seed: int) -> np.ndarray:
        """Fit on the training part, choose the penalty on validation; `seed` changes nothing."""
        y_train = training_targets(problem).astype(np.float64)
        train, validation, test = (problem.rows(part) for part in ("train", "validation", "test"))
        x = describe(problem)
        x = x - x[train].mean(axis=0)
        mean = y_train.mean(axis=0)
        left, scale, right = np.linalg.svd(x[train], full_matrices=False)
        projected = left.T @ (y_train - mean)

        def fitted(rows: np.ndarray, penalty: float) -> np.ndarray:
            shrunk = (scale / (scale**2 + penalty))[:, None] * projected
            return mean + (x[rows] @ right.T) @ shrunk

        truth = problem.targets[validation]
        best = min(self.penalties, key=lambda p: float(mse(truth, fitted(validation, p)).mean()))
        return fitted(test, best).astype(np.float32)


def tanimoto(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return Tanimoto similarities of binary fingerprints (n, bits) and (m, bits), (n, m) float64; 0 for empty ones."""
    both = a.astype(np.float64) @ b.T
    either = a.sum(axis=1, dtype=np.float64)[:, None] + b.sum(axis=1, dtype=np.float64)[None, :] - both
    return both / np.maximum(either, 1.0)


class NearestCompound(Predictor[SignatureContext]):
    """The signature of the most similar training compound, in the same line and at the nearest dose where it has one.

    Training signatures are ordered by Tanimoto similarity of Morgan fingerprints, then same line first, then by the
    distance of log doses; the prediction is the mean of all that are equally near.
    """

    def predict(self, problem: Problem[SignatureContext], seed: int) -> np.ndarray:
        """Look up every test sample; `seed` changes nothing."""
        targets, samples = training_targets(problem), problem.samples
        train, test = samples.iloc[problem.rows("train")], samples.iloc[problem.rows("test")]
        bits = [morgan_fingerprints(part["smiles"].tolist()) for part in (test, train)]
        similarity = tanimoto(*bits)
        other_line = test["cell_id"].to_numpy(dtype=str)[:, None] != train["cell_id"].to_numpy(dtype=str)[None, :]
        dose_test, dose_train = (np.log10(part["dose_um"].to_numpy(float)) for part in (test, train))
        distance = np.round(np.abs(dose_test[:, None] - dose_train[None, :]), 6)
        out = np.empty((len(test), targets.shape[1]), dtype=np.float32)
        for row in range(len(test)):
            near = np.ones(len(train), dtype=bool)
            for cost in (-similarity[row], other_line[row], distance[row]):
                near &= cost == cost[near].min()
            out[row] = targets[near].mean(axis=0)
        return out


class LineMean(Predictor[SignatureContext]):
    """The mean training signature of the same cell line; of all lines for a line that training does not have."""

    def predict(self, problem: Problem[SignatureContext], seed: int) -> np.ndarray:
        """Look the line of every test sample up; `seed` changes nothing."""
        targets = training_targets(problem).astype(np.float64)
        lines = problem.samples["cell_id"].to_numpy(dtype=str)
        train, overall = lines[problem.rows("train")], targets.mean(axis=0)
        means = {line: targets[train == line].mean(axis=0) for line in np.unique(train)}
        return np.array([means.get(line, overall) for line in lines[problem.rows("test")]], dtype=np.float32)
