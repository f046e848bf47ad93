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
from typing import Any

import numpy as np
from scipy import sparse

from sclong.errors import InputDataError
from sclong.io.files import atomic_path


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
                return cls(file["indptr"], file["indices"], file["weights"], json.loads(str(file["metadata"])))
        except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise InputDataError(
                f"{path}: not a GO graph ({error})", "a go_graph.npz of this project", "make it again: rule go_graph"
            ) from error


def jaccard_graph(
    incidence: sparse.csr_matrix, threshold: float, neighbours: int, block: int = 1000
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return CSR (indptr, indices, weights) of the similarity graph over the rows of `incidence`.

    Parameters
    ----------
    incidence : (genes, terms) sparse 0/1
    threshold
        Edges have a Jaccard index above this (strictly).
    neighbours
        Most similar other genes kept per target; the self loop of an annotated gene comes on top.
    block
        Targets per block; bounds the memory to about block x genes numbers.
    """
    terms = sparse.csr_matrix(incidence, dtype=np.float32)
    terms.data[:] = 1.0
    sizes = np.diff(terms.indptr).astype(np.float32)
    transposed = sparse.csr_matrix(terms.T)
    targets, sources, weights = [], [], []
    for start in range(0, terms.shape[0], block):
        shared = sparse.coo_matrix(terms[start : start + block] @ transposed)
        target, source = shared.row + start, shared.col
        jaccard = shared.data / (sizes[target] + sizes[source] - shared.data)
        keep = (jaccard > threshold) & (target != source)
        target, source, jaccard = target[keep], source[keep], jaccard[keep]
        order = np.lexsort((source, -jaccard, target))
        target, source, jaccard = target[order], source[order], jaccard[order]
        first = np.searchsorted(target, target)
        keep = np.arange(len(target)) - first < neighbours
        own = np.arange(start, min(start + block, terms.shape[0]))
        own = own[sizes[own] > 0]
        targets += [target[keep], own]
        sources += [source[keep], own]
        weights += [jaccard[keep], np.ones(len(own), np.float32)]
    graph = sparse.csr_matrix(
        (np.concatenate(weights), (np.concatenate(targets), np.concatenate(sources))),
        shape=(terms.shape[0], terms.shape[0]),
    )
    graph.sort_indices()
    return graph.indptr.astype(np.int64), graph.indices.astype(np.int64), graph.data.astype(np.float32)


def jaccard_graph_naive(terms: Sequence[set[str]], threshold: float, neighbours: int) -> dict[tuple[int, int], float]:
    """Return {(target, source): weight} by brute force: the twin that :func:`jaccard_graph` must equal."""
    edges = {}
    for target, mine in enumerate(terms):
        if not mine:
            continue
        found = [
            (-len(mine & other) / len(mine | other), source)
            for source, other in enumerate(terms)
            if source != target and other
        ]
        best = sorted(pair for pair in found if -pair[0] > threshold)[:neighbours]
        edges.update({(target, source): -negative for negative, source in best})
        edges[target, target] = 1.0
    return edges


def build_go_graph(
    obo: str | Path,
    annotation: str | Path,
    vocabulary: Any,
    *,
    aspects: Sequence[str] = ("BP", "MF", "CC"),
    propagate: bool = False,
    threshold: float = 0.1,
    neighbours: int = 20,
) -> GoGraph:
    """Build the graph over a vocabulary (and one PAD position without edges).

    Parameters
    ----------
    obo, annotation
        ``go-basic.obo`` and a GAF file, plain or gzipped.
    vocabulary : Vocabulary
    aspects, propagate
        See :func:`sclong.knowledge.go.read_annotations`.
    threshold, neighbours
        See :func:`jaccard_graph`.

    Raises
    ------
    InputDataError
        When no gene of the vocabulary is annotated.
    """
    from sclong.knowledge.go import gene_terms, read_annotations

    annotations, releases = read_annotations(obo, annotation, aspects=aspects, propagate=propagate)
    terms = gene_terms(annotations, vocabulary)
    columns = {term: k for k, term in enumerate(sorted(set().union(*terms)))}
    if not columns:
        raise InputDataError(
            f"none of the vocabulary's {len(vocabulary)} genes is annotated in {annotation}",
            "an annotation of the same species, by gene symbol", "choose another annotation file (go.annotation)",
        )  # fmt: skip
    indptr = np.concatenate([[0], np.cumsum([len(t) for t in terms])])
    indices = np.array([columns[t] for mine in terms for t in sorted(mine)], dtype=np.int64)
    incidence = sparse.csr_matrix((np.ones(len(indices), np.float32), indices, indptr), (len(terms), len(columns)))
    indptr, indices, weights = jaccard_graph(incidence, threshold, neighbours)
    metadata = {
        **releases, "aspects": list(aspects), "propagate": propagate, "threshold": threshold, "neighbours": neighbours,
        "vocabulary_hash": vocabulary.hash, "n_genes": len(vocabulary),
        "annotated_genes": sum(bool(t) for t in terms), "terms": len(columns), "edges": len(indices),
    }  # fmt: skip
    return GoGraph(np.append(indptr, indptr[-1]), indices, weights, metadata)
