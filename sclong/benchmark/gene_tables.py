"""Vectors of genes that do not depend on a cell (static_gene_embedding), and answers without vectors (pair_scores)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from sclong.benchmark.model import Embedder
from sclong.embed.result import Embedding
from sclong.errors import CardError, CheckpointError, InputDataError
from sclong.seeding import rng

if TYPE_CHECKING:
    import anndata

    from sclong.genes.vocabulary import Vocabulary

Table = Literal["gene_table", "go_vectors"]


def of_vocabulary(
    adata: anndata.AnnData, vocabulary: Vocabulary, rows: np.ndarray, known: np.ndarray, facts: dict[str, object]
) -> Embedding:
    """Hand out rows of a vocabulary to the genes of `adata`.

    Parameters
    ----------
    adata
        Its var_names are found by :func:`sclong.genes.align.align_genes`.
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
    from sclong.genes.align import align_genes

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
    from sclong.genes.go_graph import GoGraph

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
        from sclong.genes.gene2vec import GeneVectors
        from sclong.genes.vocabulary import Vocabulary

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
