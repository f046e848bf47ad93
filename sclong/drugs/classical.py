"""Classical models of drug response and drug synergy: fingerprints and principal components of expression."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import sparse
from scipy.sparse.linalg import lsqr
from sklearn.decomposition import PCA
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.preprocessing import StandardScaler

from sclong.models.base import Predictor
from sclong.seeding import derive_seed
from sclong.tasks.base import Problem
from sclong.tasks.drug_combination import pair_fingerprints
from sclong.tasks.drug_response import fingerprints


def line_components(problem: Problem, column: str, n_components: int) -> np.ndarray:
    """Return principal components of each sample's line, fitted on the lines of the training part; (samples, c)."""
    expression = problem.context["expression"]
    lines = problem.samples[column].astype(str)
    training = np.unique(lines.iloc[problem.rows("train")])
    n = max(1, min(n_components, len(training) - 1, expression.shape[1]))
    pca = PCA(n_components=n, svd_solver="full").fit(expression.loc[training].to_numpy(float))
    distinct, which = np.unique(lines, return_inverse=True)
    return pca.transform(expression.loc[distinct].to_numpy(float))[which]


def describe(problem: Problem, n_components: int) -> np.ndarray:
    """Return fingerprints of the drug (or of both drugs, without order) and components of the line."""
    if problem.task == "drug_combination":
        return np.hstack([pair_fingerprints(problem), line_components(problem, "cell", n_components)])
    return np.hstack([fingerprints(problem), line_components(problem, "cell_line", n_components)])


class LinearFingerprint(Predictor):
    """Ridge regression (response) or logistic regression (synergy); the penalty is chosen on validation.

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

    def predict(self, problem: Problem, seed: int) -> np.ndarray:
        """Fit on the training part; `seed` changes nothing."""
        train, validation, test = (problem.rows(part) for part in ("train", "validation", "test"))
        x = describe(problem, self.n_components)
        x = StandardScaler().fit(x[train]).transform(x)
        y = problem.targets[:, 0]
        best, answer = np.inf, np.zeros(len(test))
        for penalty in self.penalties:
            if problem.task == "drug_combination":
                model = LogisticRegression(C=1 / penalty, max_iter=1000).fit(x[train], y[train].astype(int))
                everywhere = model.predict_proba(x)[:, 1]
            else:
                everywhere = Ridge(alpha=penalty).fit(x[train], y[train]).predict(x)
            error = float(np.mean((everywhere[validation] - y[validation]) ** 2))
            if error < best:
                best, answer = error, everywhere[test]
        return answer[:, None].astype(np.float32)


class RandomForest(Predictor):
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

    def predict(self, problem: Problem, seed: int) -> np.ndarray:
        """Fit on the training part with the given seed; the validation part is not used."""
        train, test = problem.rows("train"), problem.rows("test")
        x, y = describe(problem, self.n_components), problem.targets[:, 0]
        state = derive_seed("random forest", seed) % 2**32
        common = {**self.options, "random_state": state, "n_jobs": 1, "max_features": "sqrt"}
        if problem.task == "drug_combination":
            answer = RandomForestClassifier(**common).fit(x[train], y[train].astype(int)).predict_proba(x[test])[:, 1]
        else:
            common["max_features"] = 1 / 3
            answer = RandomForestRegressor(**common).fit(x[train], y[train]).predict(x[test])
        return answer[:, None].astype(np.float32)


class AdditiveMean(Predictor):
    """Overall mean plus an effect of the drug plus one of the line: the control to beat.

    Both effects are fitted together, by least squares on the training pairs. Where every drug was measured on every
    line they are the drug's and the line's mean less the overall mean; elsewhere a drug that was measured on sensitive
    lines only is not taken for a potent one. Effects have the mean zero over training pairs: a drug or line that
    training does not have counts with the overall mean.
    """

    def predict(self, problem: Problem, seed: int) -> np.ndarray:
        """Fit and add up; `seed` changes nothing."""
        train, test = problem.rows("train"), problem.rows("test")
        y = problem.targets[train, 0].astype(float)
        drug, line = (pd.factorize(problem.samples[c].astype(str))[0] for c in ("smiles", "cell_line"))
        places = (drug, drug.max() + 1 + line)
        columns = np.stack(places, axis=1)[train]
        shape = (len(train), places[1].max() + 1)
        design = sparse.csr_matrix((np.ones(columns.size), columns.ravel(), 2 * np.arange(len(train) + 1)), shape)
        effects = lsqr(design, y - y.mean(), atol=1e-12, btol=1e-12, conlim=0)[0]
        answer = np.full(len(test), y.mean())
        for place in places:
            known = np.isin(place[test], place[train])
            answer += np.where(known, effects[place[test]] - effects[place[train]].mean(), 0.0)
        return answer[:, None].astype(np.float32)
