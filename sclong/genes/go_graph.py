"""The gene similarity graph: genes joined by shared Gene Ontology annotation (Jaccard index).

Rule (Bai et al. 2026 and the release): an edge source -> target where the Jaccard index of their term sets is above
a threshold, the most similar sources kept per target. Here every annotated gene keeps its self loop (weight 1) besides
its `neighbours` most similar others, and ties are broken by vocabulary order.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from scipy import sparse

from sclong.errors import InputDataError
from sclong.io.files import atomic_path

Rule = Literal["sclong", "authors"]
FREQUENT = 200
"""Terms of more genes than this are multiplied densely."""


@dataclass(frozen=True)
class GoGraph:
    """A directed graph, CSR by target.

    Attributes
    ----------
    indptr : (positions + 1,) int64
        Edges into target t are ``indptr[t]:indptr[t + 1]``; the last position is PAD, without edges.
    indices : (edges,) int64
        Source of each edge, ascending within a target.
    weights : (edges,) float32
        Jaccard index.
    metadata
        Releases, options, counts, vocabulary hash.
    """

    indptr: np.ndarray
    indices: np.ndarray
    weights: np.ndarray
    metadata: Mapping[str, Any] = field(default_factory=dict)

    @property
    def n_edges(self) -> int:
        """Number of edges, self loops included."""
        return len(self.indices)

    def write(self, path: str | Path) -> None:
        """Write ``go_graph.npz`` atomically, without pickle."""
        buffer = io.BytesIO()
        text = np.array(json.dumps(dict(self.metadata), sort_keys=True))
        np.savez(buffer, indptr=self.indptr, indices=self.indices, weights=self.weights, metadata=text)
        with atomic_path(path) as tmp:
            tmp.write_bytes(buffer.getvalue())

    @classmethod
    def read(cls, path: str | Path) -> GoGraph:
        """Read ``go_graph.npz``.

        Raises
        ------
        InputDataError
            When the file is not such a graph.
        """
        try:
            with np.load(path, allow_pickle=False) as file:
                graph = cls(file["indptr"], file["indices"], file["weights"], json.loads(str(file["metadata"])))
            _check(graph)
        except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise InputDataError(
                f"{path}: not a GO graph ({error})", "a go_graph.npz of this project", "make it again: rule go_graph"
            ) from error
        return graph


def _check(graph: GoGraph) -> None:
    """Check that the three arrays are one CSR matrix.

    Raises
    ------
    ValueError
        When they are not.
    """
    indptr, indices, weights = graph.indptr, graph.indices, graph.weights
    n_genes = graph.metadata.get("n_genes", len(indptr) - 2) if isinstance(graph.metadata, dict) else None
    if n_genes is None or n_genes + 2 != len(indptr):
        raise ValueError(f"{len(indptr) - 1} positions, and the metadata speak of {n_genes} genes and PAD")
    if not (indptr.ndim == indices.ndim == weights.ndim == 1 and indptr.dtype.kind == indices.dtype.kind == "i"):
        raise ValueError("indptr, indices and weights are not three rows of numbers")
    if not (
        len(indptr) and indptr[0] == 0 and indptr[-1] == len(indices) == len(weights) and (np.diff(indptr) >= 0).all()
    ):
        raise ValueError("indptr does not delimit the edges")
    if len(indices) and not 0 <= indices.min() <= indices.max() < len(indptr) - 1:
        raise ValueError(f"an edge comes from position {indices.max()} of {len(indptr) - 1}")
    if not (np.isfinite(weights).all() and (weights > 0).all()):
        raise ValueError("a weight is not a positive number")


def jaccard_graph(
    incidence: sparse.csr_matrix, threshold: float, neighbours: int, rule: Rule = "sclong", block: int = 500
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return CSR (indptr, indices, weights) of the similarity graph over the rows of `incidence`.

    Numbers of shared terms are products of matrices, a block of targets at a time: dense for frequent terms (most of
    the work, done by BLAS), sparse for the many rare ones.

    Parameters
    ----------
    incidence : (genes, terms) sparse 0/1
    threshold
        Edges have a Jaccard index above this (strictly).
    neighbours
        Most similar other genes kept per target.
    rule
        "sclong": the self loop of an annotated gene comes on top. "authors": the `neighbours` + 1 most similar genes,
        the gene itself among them, so that a gene with many twins earlier in the order loses its self loop.
    block
        Targets per block; bounds the memory to a few times block x genes numbers.
    """
    genes, n_terms = incidence.shape
    terms = sparse.csr_matrix(incidence, dtype=np.float32, copy=True)
    terms.sum_duplicates()
    terms.eliminate_zeros()
    terms.data[:] = 1.0
    sizes = np.diff(terms.indptr).astype(np.float32)
    annotated = np.flatnonzero(sizes)
    terms, sizes = terms[annotated], sizes[annotated]
    frequent = np.bincount(terms.indices, minlength=n_terms) > FREQUENT
    dense, rare = terms[:, frequent].toarray(), terms[:, ~frequent]
    rare_transposed = sparse.csr_matrix(rare.T)
    targets, sources, weights = [], [], []
    for start in range(0, len(annotated), block):
        stop = min(start + block, len(annotated))
        shared = dense[start:stop] @ dense.T
        few = (rare[start:stop] @ rare_transposed).tocoo()
        shared[few.row, few.col] += few.data
        union = sizes[start:stop, None] + sizes[None] - shared
        jaccard = np.divide(shared, union, out=shared)
        jaccard[jaccard <= threshold] = 0.0
        own = np.arange(stop - start), np.arange(start, stop)
        if rule == "sclong":
            jaccard[own] = 0.0
        target, source = _most_similar(jaccard, neighbours + (rule == "authors"))
        targets += [annotated[start + target]]
        sources += [annotated[source]]
        weights += [jaccard[target, source]]
        if rule == "sclong":
            targets, sources = [*targets, annotated[start:stop]], [*sources, annotated[start:stop]]
            weights += [np.ones(stop - start, np.float32)]
    everything = [
        np.concatenate([np.zeros(0, kind), *parts]) for kind, parts in ((np.int64, targets), (np.int64, sources))
    ]
    values = np.concatenate([np.zeros(0, np.float32), *weights])
    graph = sparse.csr_matrix((values, tuple(everything)), shape=(genes, genes))
    graph.sort_indices()
    return graph.indptr.astype(np.int64), graph.indices.astype(np.int64), graph.data.astype(np.float32)


def _most_similar(jaccard: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Return rows and columns of the k largest positive numbers of each row, equal ones by column.

    Only numbers that reach the k-th largest of the maxima of groups of columns are sorted: the k-th largest of all is
    at least that.
    """
    rows, columns = jaccard.shape
    groups = 8 * k
    bound = np.zeros(rows, np.float32)
    if columns >= 2 * groups:
        maxima = jaccard[:, : columns // groups * groups].reshape(rows, groups, -1).max(axis=2)
        bound = np.partition(maxima, -k, axis=1)[:, -k]
    row, column = np.nonzero(jaccard >= np.maximum(bound, np.finfo(np.float32).tiny)[:, None])
    order = np.lexsort((column, -jaccard[row, column], row))
    row, column = row[order], column[order]
    rank = np.arange(len(row)) - np.searchsorted(row, row)
    return row[rank < k], column[rank < k]


def jaccard_graph_naive(
    terms: Sequence[set[Any]], threshold: float, neighbours: int, rule: Rule = "sclong"
) -> dict[tuple[int, int], float]:
    """Return {(target, source): weight} by brute force: the twin that :func:`jaccard_graph` must equal."""
    edges = {}
    for target, mine in enumerate(terms):
        found = [
            (-len(mine & other) / len(mine | other), source)
            for source, other in enumerate(terms)
            if mine and other and (source != target or rule == "authors")
        ]
        best = sorted(pair for pair in found if -pair[0] > threshold)[: neighbours + (rule == "authors")]
        edges.update({(target, source): -negative for negative, source in best})
        if mine and rule == "sclong":
            edges[target, target] = 1.0
    return edges


def build_go_graph(
    obo: str | Path,
    annotation: str | Path,
    vocabulary: Any,
    *,
    threshold: float = 0.1,
    neighbours: int = 20,
    rule: Rule = "sclong",
    **reading: Any,
) -> GoGraph:
    """Build the graph over a vocabulary (and one PAD position without edges).

    Parameters
    ----------
    obo, annotation
        ``go-basic.obo`` and a GAF file, or tables; plain or gzipped.
    vocabulary : Vocabulary
    threshold, neighbours, rule
        See :func:`jaccard_graph`.
    **reading
        Options of :func:`sclong.genes.go_terms.read_annotations`: aspects, evidence, propagate, ...

    Raises
    ------
    InputDataError
        When no gene of the vocabulary is annotated.
    """
    from sclong.genes.go_terms import gene_terms, names_of, read_annotations

    annotations, releases = read_annotations(obo, annotation, **reading)
    terms = gene_terms(annotations, vocabulary)
    columns = {term: k for k, term in enumerate(sorted(set().union(*terms)))}
    if not columns:
        raise InputDataError(
            f"none of the vocabulary's {len(vocabulary)} genes is annotated in {annotation}",
            "an annotation of the same species, by gene symbol",
            "choose another annotation file (go.annotation)",
        )
    indptr = np.concatenate([[0], np.cumsum([len(t) for t in terms])])
    indices = np.array([columns[t] for mine in terms for t in sorted(mine)], dtype=np.int64)
    incidence = sparse.csr_matrix((np.ones(len(indices), np.float32), indices, indptr), (len(terms), len(columns)))
    indptr, indices, weights = jaccard_graph(incidence, threshold, neighbours, rule)
    annotated = sum(bool(t) for t in terms)
    metadata = {
        **releases,
        **{key: str(value) if isinstance(value, Path) else value for key, value in reading.items()},
        "rule": rule,
        "threshold": threshold,
        "neighbours": neighbours,
        "vocabulary_hash": vocabulary.hash,
        "n_genes": len(vocabulary),
        "annotated_genes": annotated,
        "isolated_genes": len(vocabulary) - annotated,
        "terms": len(columns),
        "edges": len(indices),
        "self_loops": int((np.repeat(np.arange(len(terms)), np.diff(indptr)) == indices).sum()),
        "names_outside_vocabulary": len(annotations.keys() - names_of(vocabulary)),
    }
    return GoGraph(np.append(indptr, indptr[-1]), indices, weights, metadata)
