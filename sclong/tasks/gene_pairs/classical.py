"""Controls and classical models of gene pairs: how well studied a gene is, and what the Gene Ontology says of it."""

from __future__ import annotations

import numpy as np

from sclong.benchmark.annotations import go_terms
from sclong.benchmark.model import Predictor
from sclong.benchmark.problem import Problem
from sclong.tasks.gene_pairs.dataset import PairContext
from sclong.tasks.gene_pairs.probe import gene_positions, probe


class PairDegree(Predictor[PairContext]):
    """How often both genes appear in positive training pairs: it measures which genes are studied."""

    def predict(self, problem: Problem[PairContext], seed: int) -> np.ndarray:
        """Return the sum over both genes of log(1 + positive training pairs); `seed` changes nothing."""
        train = problem.samples.iloc[problem.rows("train")][problem.targets[problem.rows("train"), 0] == 1]
        count = train["gene1"].value_counts().add(train["gene2"].value_counts(), fill_value=0)
        test = problem.samples.iloc[problem.rows("test")]
        scores = sum(np.log1p(test[c].map(count).fillna(0.0).to_numpy(float)) for c in ("gene1", "gene2"))
        return np.asarray(scores, dtype=np.float32)[:, None]


class GoAnnotationCount(Predictor[PairContext]):
    """How many GO terms both genes have: it knows how well a gene is studied, and nothing of what it does."""

    def predict(self, problem: Problem[PairContext], seed: int) -> np.ndarray:
        """Return the sum over both genes of log(1 + terms); `seed` changes nothing."""
        counts = np.log1p(go_terms(problem).getnnz(axis=1))
        first, second = gene_positions(problem, problem.context.annotated_genes)
        test = problem.rows("test")
        return (counts[first[test]] + counts[second[test]]).astype(np.float32)[:, None]


class GoSimilarity(Predictor[PairContext]):
    """Jaccard index of the two genes' GO terms, the weight of an edge of the GO graph; nothing is trained."""

    def predict(self, problem: Problem[PairContext], seed: int) -> np.ndarray:
        """Return shared terms over all terms of the two, 0 where neither has one; `seed` changes nothing."""
        terms, sizes = go_terms(problem), go_terms(problem).getnnz(axis=1)
        first, second = (
            rows[problem.rows("test")] for rows in gene_positions(problem, problem.context.annotated_genes)
        )
        shared = np.asarray(terms[first].multiply(terms[second]).sum(axis=1)).ravel()
        union = sizes[first] + sizes[second] - shared
        return np.divide(shared, union, out=np.zeros(len(shared)), where=union > 0).astype(np.float32)[:, None]


class GoTermsSvd(Predictor[PairContext]):
    """The task's probe on the leading singular vectors of the gene x GO term table: GO without any neural network.

    Parameters
    ----------
    dimensions
        Singular vectors; fewer where there are fewer genes or terms.
    """

    def __init__(self, dimensions: int = 32) -> None:
        self.dimensions = dimensions

    def predict(self, problem: Problem[PairContext], seed: int) -> np.ndarray:
        """Return the probe's probability and the cosine; `seed` changes nothing.

        Terms count by log(genes / genes with the term), and each gene's row has length one.
        """
        from scipy import sparse
        from sklearn.preprocessing import normalize
        from sklearn.utils.extmath import randomized_svd

        terms = go_terms(problem)
        rarity = np.log(terms.shape[0] / terms.getnnz(axis=0))
        weighted = normalize(terms @ sparse.diags(rarity))
        left, values, _ = randomized_svd(weighted, min(self.dimensions, min(terms.shape) - 1), random_state=0)
        return probe(problem, left * values, terms.getnnz(axis=1) > 0, problem.context.annotated_genes)
