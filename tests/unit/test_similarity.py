from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from sclong.errors import InputDataError
from sclong.genes.go_graph import GoGraph, jaccard_graph


def incidence_of(terms: list[set[int]], n_terms: int) -> sparse.csr_matrix:
    rows = [(g, t) for g, mine in enumerate(terms) for t in sorted(mine)]
    data = np.ones(len(rows), np.float32)
    return sparse.csr_matrix((data, ([r[0] for r in rows], [r[1] for r in rows])), shape=(len(terms), n_terms))


def edges_of(
    terms: list[set[int]], n_terms: int, threshold: float, neighbours: int, block: int, rule: str = "sclong"
) -> dict:
    indptr, indices, weights = jaccard_graph(incidence_of(terms, n_terms), threshold, neighbours, rule, block)
    return {(t, int(indices[k])): float(weights[k]) for t in range(len(terms)) for k in range(indptr[t], indptr[t + 1])}


def test_self_loops_survive_many_twins_and_bare_genes_have_none() -> None:
    terms = [{1, 2}] * 30 + [set()]
    found = edges_of(terms, 3, 0.1, 20, 7)
    assert all((g, g) in found for g in range(30))
    assert not any(30 in edge for edge in found)
    assert sum(target == 5 for target, _ in found) == 21


def test_the_authors_rule_loses_self_loops_of_many_twins() -> None:
    found = edges_of([{1, 2}] * 30, 3, 0.1, 20, 7, "authors")
    assert sum((g, g) in found for g in range(30)) == 21
    assert all(sum(target == g for target, _ in found) == 21 for g in range(30))


@pytest.mark.parametrize(
    ("what", "change"),
    [
        ("position", {"indices": np.array([7])}),
        ("position", {"indices": np.array([-1])}),
        ("delimit", {"indptr": np.array([0, 2, 2])}),
        ("delimit", {"indptr": np.array([0, 1, 0, 1])}),
        ("positive", {"weights": np.array([np.nan], np.float32)}),
        ("three rows", {"indices": np.array([0.5])}),
        ("9 genes", {"metadata": {"n_genes": 9}}),
    ],
)
def test_arrays_that_are_no_graph(tmp_path, what, change) -> None:
    good = {"indptr": np.array([0, 1, 1]), "indices": np.array([0]), "weights": np.array([1.0], np.float32)}
    GoGraph(**{**good, **change}).write(tmp_path / "g.npz")
    with pytest.raises(InputDataError, match=what):
        GoGraph.read(tmp_path / "g.npz")


def test_repeated_and_zero_entries_count_as_a_set_and_the_input_stays() -> None:
    matrix = sparse.csr_matrix((np.array([2, 1, 0, 1], np.float32), [0, 0, 1, 0], [0, 3, 4]), shape=(2, 2))
    indptr, indices, weights = jaccard_graph(matrix, 0.1, 20)
    assert indptr.tolist() == [0, 2, 4] and indices.tolist() == [0, 1, 0, 1] and weights.tolist() == [1.0] * 4
    assert matrix.data.tolist() == [2, 1, 0, 1]


def test_the_threshold_is_strict() -> None:
    terms = [{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}, {0}]
    assert (0, 1) not in edges_of(terms, 10, 0.1, 20, 10)


def test_graph_file_round_trip_without_pickle(tmp_path) -> None:
    graph = GoGraph(np.array([0, 1, 1]), np.array([0]), np.array([1.0], np.float32), {"vocabulary_hash": "abc"})
    graph.write(tmp_path / "g.npz")
    back = GoGraph.read(tmp_path / "g.npz")
    assert back.metadata == {"vocabulary_hash": "abc"}
    assert np.array_equal(back.indptr, graph.indptr) and np.array_equal(back.weights, graph.weights)
    whole = (tmp_path / "g.npz").read_bytes()
    for damaged in (b"no graph", b"", whole[: len(whole) // 2]):
        (tmp_path / "bad.npz").write_bytes(damaged)
        with pytest.raises(InputDataError, match="rule go_graph"):
            GoGraph.read(tmp_path / "bad.npz")
    np.savez(tmp_path / "pickle.npz", indptr=np.array([{"a": 1}], dtype=object))
    with pytest.raises(InputDataError):
        GoGraph.read(tmp_path / "pickle.npz")
