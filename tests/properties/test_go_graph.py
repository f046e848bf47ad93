"""The similarity graph is its brute-force twin's, edge for edge, number for number, on random annotations."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from sclong.genes import go_graph as similarity
from sclong.genes.go_graph import jaccard_graph, jaccard_graph_naive

TERMS = 40


@st.composite
def annotations(draw: st.DrawFn) -> list[set[int]]:
    """Sets of terms with many twins: each gene has one of a few sets, some with a term more."""
    kinds = draw(st.lists(st.sets(st.integers(0, TERMS - 1), max_size=14), min_size=1, max_size=6))
    more = st.sets(st.integers(0, TERMS - 1), max_size=2)
    genes = draw(st.lists(st.tuples(st.sampled_from(kinds), more), max_size=70))
    return [kind | extra for kind, extra in genes] or [set()]


def edges_of(terms: list[set[int]], *args: object) -> dict[tuple[int, int], np.float32]:
    rows = np.repeat(np.arange(len(terms)), [len(t) for t in terms])
    columns = np.array([t for mine in terms for t in sorted(mine)], dtype=np.int64)
    matrix = sparse.csr_matrix((np.ones(len(rows)), (rows, columns)), shape=(len(terms), TERMS))
    indptr, indices, weights = jaccard_graph(matrix, *args)
    assert all((np.diff(indices[a:b]) > 0).all() for a, b in pairwise(indptr)), "ascending, once"
    return {(t, int(indices[k])): weights[k] for t in range(len(terms)) for k in range(indptr[t], indptr[t + 1])}


@settings(max_examples=300, deadline=None)
@given(
    terms=annotations(),
    threshold=st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.9]),
    neighbours=st.sampled_from([1, 3, 20]),
    rule=st.sampled_from(["sclong", "authors"]),
    block=st.sampled_from([1, 7, 500]),
    frequent=st.sampled_from([0, 5, 1000]),
)
def test_equal_to_the_twin(terms, threshold, neighbours, rule, block, frequent) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(similarity, "FREQUENT", frequent)
        found = edges_of(terms, threshold, neighbours, rule, block)
    expected = jaccard_graph_naive(terms, threshold, neighbours, rule)
    assert found == {edge: np.float32(weight) for edge, weight in expected.items()}


@settings(max_examples=100, deadline=None)
@given(terms=annotations(), neighbours=st.integers(1, 25))
def test_what_the_rules_promise(terms, neighbours) -> None:
    ours, theirs = (edges_of(terms, 0.1, neighbours, rule) for rule in ("sclong", "authors"))
    for target, mine in enumerate(terms):
        into = {s for t, s in ours if t == target}
        assert (target in into) == bool(mine) and len(into) <= neighbours + 1
        assert len({s for t, s in theirs if t == target}) == len(into), "both keep as many"
        lost = {s for t, s in theirs if t == target} - into
        assert len(lost) <= 1, "and differ by one edge at most"
        assert not lost or (target, target) not in theirs, "where the self loop was cut"
