"""Vectors of genes that do not depend on a cell (static_gene_embedding), and answers without vectors (pair_scores)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from sclong.errors import CardError, CheckpointError, InputDataError
from sclong.models.base import Embedder, Embedding, Predictor
from sclong.seeding import rng
from sclong.tasks.base import Problem
from sclong.tasks.gene_pairs import gene_positions, probe

if TYPE_CHECKING:
    import anndata

    from sclong.data.vocabulary import Vocabulary

Table = Literal["gene_table", "go_vectors"]


def of_vocabulary(
    adata: anndata.AnnData, vocabulary: Vocabulary, rows: np.ndarray, known: np.ndarray, facts: dict[str, object]
) -> Embedding:
    """Hand out rows of a vocabulary to the genes of `adata`.

    Parameters
    ----------
    adata
        Its var_names are found by :func:`sclong.data.align.align_genes`.
    vocabulary
        What the rows stand for.
    rows : (genes of the vocabulary, d) float
    known : (genes of the vocabulary,) bool
        Rows that mean something.
    facts
        Added to the facts of the embedding.

    Raises
    ------
    InputDataError
        When names cannot be aligned, or no gene has a row.
    """
    from sclong.data.align import align_genes

    alignment = align_genes(list(adata.var_names), vocabulary, extra=adata.var)
    mapped = (alignment.positions >= 0) & known[alignment.positions]
    if not mapped.any():
        raise InputDataError("no gene has a vector", "genes of the vocabulary", "use another model or another data set")
    vectors = np.empty((adata.n_vars, rows.shape[1]), dtype=np.float32)
    vectors[mapped] = rows[alignment.positions[mapped]]
    vectors[~mapped] = vectors[mapped].mean(axis=0, dtype=np.float64)
    facts = {**facts, "vocabulary": vocabulary.hash, "genes": int(mapped.sum()), "alignment": dict(alignment.report)}
    return Embedding(None, vectors, mapped, facts)


def checkpoint_table(adata: anndata.AnnData, checkpoint: Path | None, table: Table, device: str = "cpu") -> Embedding:
    """Return a table of a scLong checkpoint for the genes of `adata`.

    Parameters
    ----------
    table
        "gene_table": the rows that are added to every cell's values. "go_vectors": what the GO encoder makes of its own
        table and the graph; every gene without an edge has the same vector, and counts as not known.

    Raises
    ------
    CheckpointError
        No checkpoint was given, or it is not whole.
    """
    import torch

    from sclong.checkpoint.folder import load_checkpoint
    from sclong.knowledge.similarity import GoGraph

    if checkpoint is None:
        raise CheckpointError("no checkpoint was given", "a checkpoint folder", "name one in the model's card")
    loaded = load_checkpoint(checkpoint, device=device)
    n_genes = len(loaded.vocabulary)
    encoder = loaded.model.pos_emb if table == "gene_table" else loaded.model.go_conv
    with torch.no_grad():
        rows = encoder()[:n_genes].float().cpu().numpy()
    known = np.ones(n_genes, dtype=bool)
    if table == "go_vectors":
        known = np.diff(GoGraph.read(checkpoint / "go_graph.npz").indptr)[:n_genes] > 0
    return of_vocabulary(adata, loaded.vocabulary, rows, known, {"checkpoint": loaded.hash, "table": table})


class CheckpointTable(Embedder):
    """A table of a scLong checkpoint, trained or not.

    Parameters
    ----------
    table
        See :func:`checkpoint_table`.
    """

    def __init__(self, table: Table) -> None:
        if table not in ("gene_table", "go_vectors"):
            raise CardError(f"table {table!r}", "gene_table or go_vectors", "correct the options of the model's card")
        self.table: Table = table

    def embed(
        self, adata: anndata.AnnData, *, checkpoint: Path | None, seed: int, batch_size: int, device: str = "cpu"
    ) -> Embedding:
        """Look the genes up; `seed` and `batch_size` change nothing (see :func:`checkpoint_table`)."""
        return checkpoint_table(adata, checkpoint, self.table, device)


class Gene2Vec(Embedder):
    """The vectors that the rule gene2vec put in order, as wide as they were published."""

    def embed(
        self, adata: anndata.AnnData, *, checkpoint: Path | None, seed: int, batch_size: int, device: str = "cpu"
    ) -> Embedding:
        """Look the genes up; `checkpoint` is the folder of rule gene2vec, the rest changes nothing.

        Raises
        ------
        CheckpointError
            No folder was given, or it holds no vectors.
        """
        from sclong.data.vocabulary import Vocabulary
        from sclong.knowledge.gene2vec import GeneVectors

        vectors = GeneVectors.read(checkpoint) if checkpoint else None
        if checkpoint is None or vectors is None or not vectors.used:
            raise CheckpointError(
                f"{checkpoint}: no gene vectors", "the folder of rule gene2vec, with vectors", "set gene2vec.vectors"
            )
        vocabulary = Vocabulary.read(checkpoint / "vocabulary.tsv")
        return of_vocabulary(adata, vocabulary, vectors.vectors, vectors.known, {"gene2vec": vectors.describe()})


class RandomGeneTable(Embedder):
    """Standard normal numbers for every gene.

    Parameters
    ----------
    dimensions
        Numbers per gene.
    """

    def __init__(self, dimensions: int = 32) -> None:
        self.dimensions = dimensions

    def embed(
        self, adata: anndata.AnnData, *, checkpoint: Path | None, seed: int, batch_size: int, device: str = "cpu"
    ) -> Embedding:
        """Draw by `seed`; nothing of the data is read but the number of genes."""
        drawn = rng("random gene table", seed).standard_normal((adata.n_vars, self.dimensions)).astype(np.float32)
        return Embedding(None, drawn, np.ones(adata.n_vars, dtype=bool), {"dimensions": self.dimensions})


class PairDegree(Predictor):
    """How often both genes stand in positive training pairs: it knows which genes are studied, and no gene's nature."""

    def predict(self, problem: Problem, seed: int) -> np.ndarray:
        """Return the sum over both genes of log(1 + positive training pairs); `seed` changes nothing."""
        train = problem.samples.iloc[problem.rows("train")][problem.targets[problem.rows("train"), 0] == 1]
        count = train["gene1"].value_counts().add(train["gene2"].value_counts(), fill_value=0)
        test = problem.samples.iloc[problem.rows("test")]
        scores = sum(np.log1p(test[c].map(count).fillna(0.0).to_numpy(float)) for c in ("gene1", "gene2"))
        return np.asarray(scores, dtype=np.float32)[:, None]


def go_terms(problem: Problem) -> np.ndarray:
    """Return the (genes, terms) CSR of a problem's annotations.

    Raises
    ------
    InputDataError
        When the data set has none.
    """
    if "go_terms" not in problem.context:
        raise InputDataError(
            "the data set has no GO annotations", "inputs obo and annotation in the benchmark's card",
            "add them, or leave this model out",
        )  # fmt: skip
    return problem.context["go_terms"]


class GoAnnotationCount(Predictor):
    """How many GO terms both genes have: it knows how well a gene is studied, and nothing of what it does."""

    def predict(self, problem: Problem, seed: int) -> np.ndarray:
        """Return the sum over both genes of log(1 + terms); `seed` changes nothing."""
        counts = np.log1p(go_terms(problem).getnnz(axis=1))
        first, second = gene_positions(problem, problem.context["gene_names"])
        test = problem.rows("test")
        return (counts[first[test]] + counts[second[test]]).astype(np.float32)[:, None]


class GoSimilarity(Predictor):
    """Jaccard index of the two genes' GO terms, the weight of an edge of the GO graph; nothing is trained."""

    def predict(self, problem: Problem, seed: int) -> np.ndarray:
        """Return shared terms over all terms of the two, 0 where neither has one; `seed` changes nothing."""
        terms, sizes = go_terms(problem), go_terms(problem).getnnz(axis=1)
        first, second = (rows[problem.rows("test")] for rows in gene_positions(problem, problem.context["gene_names"]))
        shared = np.asarray(terms[first].multiply(terms[second]).sum(axis=1)).ravel()
        union = sizes[first] + sizes[second] - shared
        return np.divide(shared, union, out=np.zeros(len(shared)), where=union > 0).astype(np.float32)[:, None]


class GoTermsSvd(Predictor):
    """The task's probe on the leading singular vectors of the gene x GO term table: GO without any neural network.

    Parameters
    ----------
    dimensions
        Singular vectors; fewer where there are fewer genes or terms.
    """

    def __init__(self, dimensions: int = 32) -> None:
        self.dimensions = dimensions

    def predict(self, problem: Problem, seed: int) -> np.ndarray:
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
        return probe(problem, left * values, terms.getnnz(axis=1) > 0, problem.context["gene_names"])
