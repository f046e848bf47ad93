"""Classical models of genetic perturbations: no pretraining, no network.

Gene vectors of a perturbation are those of its perturbed genes, added.
Shape suffixes: C conditions, G measured genes, P perturbed genes, K latent dimensions.
"""

from __future__ import annotations

import numpy as np

from sclong.models.base import Predictor
from sclong.models.controls import training_targets
from sclong.tasks.base import Problem


def genes_of(problem: Problem, part: str) -> list[list[str]]:
    """Return the perturbed genes of each condition of a part."""
    return [genes.split("|") for genes in problem.samples["genes"].iloc[problem.rows(part)]]


class Additive(Predictor):
    """A double perturbation is the sum of its single ones.

    The change of a condition is the sum over its genes of the change that the gene alone makes in the training part
    (mean over conditions where a gene has several). A gene that was never seen alone counts with the mean change of
    the training singles; without any training single, with the mean change per gene of the training conditions.
    """

    def predict(self, problem: Problem, seed: int) -> np.ndarray:
        """Return control plus the sum of single changes; `seed` changes nothing."""
        control_G = np.asarray(problem.context["control_mean"], dtype=np.float64)
        delta_CG = training_targets(problem) - control_G
        train = genes_of(problem, "train")
        singles = np.array([len(genes) == 1 for genes in train])
        if singles.any():
            unseen_G = delta_CG[singles].mean(axis=0)
        else:
            unseen_G = (delta_CG / np.array([[len(genes)] for genes in train])).mean(axis=0)
        names = np.array([genes[0] for genes in train])
        effect = {g: delta_CG[singles & (names == g)].mean(axis=0) for g in dict.fromkeys(names[singles])}
        test = genes_of(problem, "test")
        return np.stack(
            [control_G + np.sum([effect.get(g, unseen_G) for g in genes], axis=0) for genes in test]
        ).astype(np.float32)


class LinearLatent(Predictor):
    """Bilinear ridge model on gene vectors that come from the training part alone.

    With ``Y`` the training profiles (genes x conditions), ``b`` their mean, ``G`` the first principal components of
    ``Y - b`` (genes x K) and ``P`` the rows of ``G`` of the perturbed genes (added for doubles, zero for a gene that is
    not measured), ``W = argmin |Y - b - G W P'|² + ridge`` has the closed form
    ``(G'G + λ)^-1 G' (Y - b) P (P'P + λ)^-1``. The answer is ``G W P' + b``. This is the linear model of
    Ahlmann-Eltze, Huber and Anders (Nature Methods 2025), which deep models were found not to beat.

    Parameters
    ----------
    dimensions
        Principal components K (fewer when there are fewer conditions).
    ridge
        λ.
    """

    def __init__(self, dimensions: int = 10, ridge: float = 0.1) -> None:
        self.dimensions, self.ridge = dimensions, ridge

    def predict(self, problem: Problem, seed: int) -> np.ndarray:
        """Fit on the training part and answer; `seed` changes nothing."""
        y_CG = training_targets(problem).astype(np.float64)
        b_G = y_CG.mean(axis=0)
        left_CK, scale_K, right_KG = np.linalg.svd(y_CG - b_G, full_matrices=False)
        del left_CK
        g_GK = (right_KG * scale_K[:, None]).T[:, : self.dimensions]
        place: dict[str, int] = {}
        for position, name in enumerate(problem.context["gene_names"]):
            place.setdefault(name, position)

        def vectors(part: str) -> np.ndarray:
            zero = np.zeros(g_GK.shape[1])
            return np.array(
                [
                    np.sum([g_GK[place[g]] if g in place else zero for g in genes], axis=0)
                    for genes in genes_of(problem, part)
                ]
            )

        p_CK = vectors("train")
        eye = self.ridge * np.eye(g_GK.shape[1])
        inner = g_GK.T @ (y_CG - b_G).T @ p_CK
        w_KK = np.linalg.solve(g_GK.T @ g_GK + eye, inner) @ np.linalg.inv(p_CK.T @ p_CK + eye)
        return (vectors("test") @ w_KK.T @ g_GK.T + b_G).astype(np.float32)
