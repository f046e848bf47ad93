"""Classical models of genetic perturbations: no pretraining, no network.

Gene vectors of a perturbation are those of its perturbed genes, added.
Shape suffixes: C conditions, G measured genes, P perturbed genes, K latent dimensions.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy import sparse

from sclong.benchmark.annotations import go_terms
from sclong.benchmark.controls import training_targets
from sclong.benchmark.model import Predictor, PredictorFromFeatures
from sclong.benchmark.problem import Features, Problem
from sclong.errors import InputDataError
from sclong.seeding import rng
from sclong.tasks.genetic_perturbation.dataset import PerturbationContext
from sclong.tasks.genetic_perturbation.gene_effects import fit_predict_gene_effects, perturbed_vectors


def genes_of(problem: Problem[PerturbationContext], part: str) -> list[list[str]]:
    """Return the perturbed genes of each condition of a part."""
    return [genes.split("|") for genes in problem.samples["genes"].iloc[problem.rows(part)]]


def single_changes(problem: Problem[PerturbationContext]) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Return the change that each gene makes alone in the training part, and what stands for the other genes.

    Returns
    -------
    changes
        Gene -> (G,) float64, the mean over conditions where a gene has several.
    unseen : (G,) float64
        Mean change of the training singles; without any, mean change per gene of the training conditions.
    """
    delta_CG = training_targets(problem) - np.asarray(problem.context.control_mean, dtype=np.float64)
    train = genes_of(problem, "train")
    singles = np.array([len(genes) == 1 for genes in train])
    if singles.any():
        unseen_G = delta_CG[singles].mean(axis=0)
    else:
        unseen_G = (delta_CG / np.array([[len(genes)] for genes in train])).mean(axis=0)
    names = np.array([genes[0] for genes in train])
    return {g: delta_CG[singles & (names == g)].mean(axis=0) for g in dict.fromkeys(names[singles])}, unseen_G


def summed(problem: Problem[PerturbationContext], change: Callable[[str], np.ndarray]) -> np.ndarray:
    """Return control plus the sum over a test condition's genes of their changes, (test, G) float32."""
    control_G = np.asarray(problem.context.control_mean, dtype=np.float64)
    test = genes_of(problem, "test")
    return np.stack([control_G + np.sum([change(g) for g in genes], axis=0) for genes in test]).astype(np.float32)


class Additive(Predictor[PerturbationContext]):
    """A double perturbation is the sum of its single ones: see :func:`single_changes`."""

    def predict(self, problem: Problem[PerturbationContext], seed: int) -> np.ndarray:
        """Return control plus the sum of single changes; `seed` changes nothing."""
        effect, unseen_G = single_changes(problem)
        return summed(problem, lambda gene: effect.get(gene, unseen_G))


class MatchingMean(Predictor[PerturbationContext]):
    """Genes like the perturbed one, by the Gene Ontology, tell what it does.

    A gene seen alone in training counts with its own change. Another counts with the mean change of the training
    singles most like it: at most `neighbours` of those whose Jaccard index of GO terms with it is above `threshold`,
    weighted by that index, ties in alphabetical order. A gene without such neighbours counts with the mean change of
    the training singles. Changes of a condition's genes are added. Nothing is trained.

    Parameters
    ----------
    neighbours
        Most genes in a mean.
    threshold
        Of the Jaccard index; the GO graph's.
    """

    def __init__(self, neighbours: int = 5, threshold: float = 0.1) -> None:
        self.neighbours, self.threshold = neighbours, threshold

    def predict(self, problem: Problem[PerturbationContext], seed: int) -> np.ndarray:
        """Return control plus the sum of changes; `seed` changes nothing.

        Raises
        ------
        InputDataError
            When the data set has no GO annotations.
        """
        effect, unseen_G = single_changes(problem)
        place = {g: i for i, g in reversed(list(enumerate(problem.context.annotated_genes)))}
        known = sorted(g for g in effect if g in place)
        wanted = sorted({g for genes in genes_of(problem, "test") for g in genes if g not in effect and g in place})
        terms = sparse.csr_matrix(go_terms(problem))[[place[g] for g in [*known, *wanted]]]
        shared = (terms @ terms.T).toarray()
        sizes = np.diagonal(shared)
        union = sizes[:, None] + sizes[None] - shared
        similar = np.divide(shared, union, out=np.zeros(shared.shape), where=union > 0)[len(known) :, : len(known)]
        guess = {}
        for gene, row in zip(wanted, similar, strict=True):
            best = np.argsort(-row, kind="stable")[: self.neighbours]
            best = best[row[best] > self.threshold]
            if len(best):
                guess[gene] = np.average([effect[known[i]] for i in best], axis=0, weights=row[best])
        return summed(problem, lambda gene: effect.get(gene, guess.get(gene, unseen_G)))


class SampledControl(Predictor[PerturbationContext]):
    """No change, with the noise of single cells: the mean of control cells drawn anew for every condition.

    Parameters
    ----------
    cells
        Control cells of a mean, drawn with replacement.
    """

    def __init__(self, cells: int = 200) -> None:
        self.cells = cells

    def predict(self, problem: Problem[PerturbationContext], seed: int) -> np.ndarray:
        """Draw by `seed` and fold."""
        controls = problem.context.cells.control()
        draw = rng("sampled control", problem.task, problem.fold, seed)
        rows = (draw.integers(controls.shape[0], size=self.cells) for _ in problem.test_samples)
        return np.stack([np.asarray(controls[r].mean(axis=0), dtype=np.float32).ravel() for r in rows])


class SplitHalf(Predictor[PerturbationContext]):
    """The mean profile of a random half of the test cells: what a model without error could score.

    It is scored against the mean of all n cells. With cell noise of variance v, the expected squared distance between
    the mean of a half and the mean of all is v / n, just as that between the true mean and the mean of all.
    Its card must say ``sees_truth: true``.
    """

    def predict(self, problem: Problem[PerturbationContext], seed: int) -> np.ndarray:
        """Return the profiles of the first halves; `seed` changes nothing.

        Raises
        ------
        InputDataError
            When the problem hides its test targets.
        """
        half_a = problem.context.half_a
        if half_a is None:
            raise InputDataError(
                f"task {problem.task!r}: the cells of the test part are hidden",
                "a problem made with sees_truth, which only a ceiling gets",
                "write sees_truth: true in the model's card",
            )
        return np.asarray(half_a, dtype=np.float32)[problem.rows("test")]


class AdditiveLinear(PredictorFromFeatures[PerturbationContext]):
    """ALM: the change of a condition is linear in the sum of its genes' vectors.

    Change = mean training change + sum over the perturbed genes of ``W e(gene)``, with ``e`` the gene's vector in the
    embedding of another model, standardised as :func:`.perturbed_vectors` does, and
    ``W`` by ridge regression; the penalty is chosen on the validation part. It is the task's own head without its
    memory for single genes: a gene counts by its vector alone.
    """

    def predict_from(self, problem: Problem[PerturbationContext], features: Features, seed: int) -> np.ndarray:
        """Fit on the training part and answer; `seed` changes nothing."""
        vectors_PD, perturbed_CP = perturbed_vectors(problem, features)
        control_G = problem.context.control_mean
        parts = (problem.rows(part) for part in ("train", "validation", "test"))
        delta = fit_predict_gene_effects(vectors_PD, perturbed_CP, problem.targets - control_G, *parts, shares=(1.0,))
        return (delta + control_G).astype(np.float32)


class LinearLatent(Predictor[PerturbationContext]):
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

    def predict(self, problem: Problem[PerturbationContext], seed: int) -> np.ndarray:
        """Fit on the training part and answer; `seed` changes nothing."""
        y_CG = training_targets(problem).astype(np.float64)
        b_G = y_CG.mean(axis=0)
        left_CK, scale_K, right_KG = np.linalg.svd(y_CG - b_G, full_matrices=False)
        del left_CK
        g_GK = (right_KG * scale_K[:, None]).T[:, : self.dimensions]
        place: dict[str, int] = {}
        for position, name in enumerate(problem.context.gene_names):
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
