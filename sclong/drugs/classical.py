"""Classical models of drug response and drug synergy: fingerprints and principal components of expression."""

from __future__ import annotations

import numpy as np
from sklearn.decomposition import PCA
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.preprocessing import StandardScaler

from sclong.benchmark.model import Predictor
from sclong.benchmark.problem import Problem
from sclong.drugs.context import DrugContext
from sclong.seeding import derive_seed


def line_components(problem: Problem[DrugContext], n_components: int) -> np.ndarray:
    """Return principal components of each sample's cell line, fitted on the cell lines of training; (samples, c)."""
    expression = problem.context.expression
    lines = problem.samples[problem.context.line_column].astype(str)
    training = np.unique(lines.iloc[problem.rows("train")])
    n = max(1, min(n_components, len(training) - 1, expression.shape[1]))
    pca = PCA(n_components=n, svd_solver="full").fit(expression.loc[training].to_numpy(float))
    distinct, which = np.unique(lines, return_inverse=True)
    return pca.transform(expression.loc[distinct].to_numpy(float))[which]


def describe(problem: Problem[DrugContext], n_components: int) -> np.ndarray:
    """Return features of the drug (or of both drugs, without order) and components of the cell line."""
    return np.hstack([problem.context.drug_features(problem.samples), line_components(problem, n_components)])


class LinearFingerprint(Predictor[DrugContext]):
    """Ridge regression, or logistic regression where targets are labels; the penalty is chosen on validation.

    Parameters
    ----------
    n_components
        Principal components of expression.
    penalties
        Candidates (ridge's alpha; the inverse of the logistic regression's C).
    """

    def __init__(
        self, n_components: int = 20, penalties: tuple[float, ...] = (1.0, 10.0, 100.0, 1000.0, 10000.0)
    ) -> None:
        self.n_components, self.penalties = n_components, tuple(penalties)

    def predict(self, problem: Problem[DrugContext], seed: int) -> np.ndarray:
        """Fit on the training part; `seed` changes nothing."""
        train, validation, test = (problem.rows(part) for part in ("train", "validation", "test"))
        x = describe(problem, self.n_components)
        x = StandardScaler().fit(x[train]).transform(x)
        y = problem.targets[:, 0]
        best, answer = np.inf, np.zeros(len(test))
        for penalty in self.penalties:
            if problem.context.classifies:
                model = LogisticRegression(C=1 / penalty, max_iter=1000).fit(x[train], y[train].astype(int))
                everywhere = model.predict_proba(x)[:, 1]
            else:
                everywhere = Ridge(alpha=penalty).fit(x[train], y[train]).predict(x)
            error = float(np.mean((everywhere[validation] - y[validation]) ** 2))
            if error < best:
                best, answer = error, everywhere[test]
        return answer[:, None].astype(np.float32)


class RandomForest(Predictor[DrugContext]):
    """Random forest on the same features.

    Parameters
    ----------
    n_estimators, min_samples_leaf, n_components
        Trees, smallest leaf, principal components of expression.
    max_samples
        Share of the training samples that each tree sees.
    """

    def __init__(
        self,
        n_estimators: int = 100,
        min_samples_leaf: int = 2,
        n_components: int = 20,
        max_samples: float | None = None,
    ) -> None:
        self.n_components = n_components
        self.options = {"n_estimators": n_estimators, "min_samples_leaf": min_samples_leaf, "max_samples": max_samples}

    def predict(self, problem: Problem[DrugContext], seed: int) -> np.ndarray:
        """Fit on the training part with the given seed; the validation part is not used."""
        train, test = problem.rows("train"), problem.rows("test")
        x, y = describe(problem, self.n_components), problem.targets[:, 0]
        state = derive_seed("random forest", seed) % 2**32
        common = {**self.options, "random_state": state, "n_jobs": 1, "max_features": "sqrt"}
        if problem.context.classifies:
            answer = RandomForestClassifier(**common).fit(x[train], y[train].astype(int)).predict_proba(x[test])[:, 1]
        else:
            common["max_features"] = 1 / 3
            answer = RandomForestRegressor(**common).fit(x[train], y[train]).predict(x[test])
        return answer[:, None].astype(np.float32)
