import itertools

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from sclong.metrics import grn

TFS = ["A", "B", "C"]
GENES = ["A", "B", "C", "D", "E", "F"]
EDGES = [("A", "B"), ("A", "D"), ("B", "A"), ("C", "F"), ("C", "E")]


def network():
    edges = grn.clean_edges(*zip(*EDGES, strict=True), measured=GENES)
    return grn.adjacency(edges, TFS, GENES), grn.candidate_pairs(TFS, GENES)


def random_case(seed, n_tfs=4, n_genes=9, levels=None):
    draw = np.random.default_rng(seed)
    genes = [f"g{i}" for i in range(n_genes)]
    pairs = grn.candidate_pairs(genes[:n_tfs], genes)
    truth = (draw.random((n_tfs, n_genes)) < 0.3) & pairs
    truth[0, n_genes - 1] = True
    scores = draw.random((n_tfs, n_genes)) if levels is None else draw.integers(levels, size=(n_tfs, n_genes)) * 1.0
    return truth, scores, pairs


def naive_average_precision(truth, scores, pairs):
    flat = sorted({scores[i, j] for i, j in zip(*np.nonzero(pairs), strict=True)}, reverse=True)
    total, area, recall_before = truth[pairs].sum(), 0.0, 0.0
    for threshold in flat:
        called = [(i, j) for i, j in zip(*np.nonzero(pairs), strict=True) if scores[i, j] >= threshold]
        hits = sum(truth[i, j] for i, j in called)
        area += (hits / total - recall_before) * hits / len(called)
        recall_before = hits / total
    return area


def test_clean_edges_keeps_direction_and_counts_what_it_drops():
    regulators = ["A", "A", "A", "B", "B", "X", "D", "C"]
    targets = ["B", "B", "A", "A", "Y", "A", "A", "D"]
    edges = grn.clean_edges(regulators, targets, measured=["A", "B", "C", "D"], allowed_regulators=["A", "B", "C"])
    assert list(zip(edges.regulators, edges.targets, strict=True)) == [("A", "B"), ("B", "A"), ("C", "D")]
    assert edges.dropped == {"self_loops": 1, "unknown_genes": 2, "not_a_regulator": 1, "duplicates": 1}
    assert edges.missing_genes == 2
    assert edges.regulator_names == ["A", "B", "C"]
    assert edges.gene_names == ["A", "B", "C", "D"]


def test_names_that_join_to_one_string_stay_apart():
    edges = grn.clean_edges(["AB", "A"], ["C", "BC"], measured=["A", "AB", "BC", "C"])
    assert len(edges.regulators) == 2
    assert grn.adjacency(edges, ["A", "AB"], ["BC", "C"]).tolist() == [[True, False], [False, True]]


def test_adjacency_has_a_direction():
    truth, pairs = network()
    assert truth[0, 3] and truth[0, 1] and truth[1, 0] and not truth[1, 3]
    assert truth.sum() == 5
    assert pairs.sum() == 3 * 6 - 3 and not pairs[0, 0]
    assert grn.candidate_pairs(TFS, GENES, include_self=True).all()


def test_truth_scores_the_maximum():
    truth, pairs = network()
    rate = 5 / 15
    assert grn.positive_rate(truth, pairs) == pytest.approx(rate)
    assert grn.aupr_ratio(truth, truth.astype(float), pairs) == pytest.approx(1 / rate)
    assert grn.epr(truth, truth.astype(float), pairs) == pytest.approx(1 / rate)
    assert grn.auroc(truth, truth.astype(float), pairs) == 1.0


def test_constant_scores_exactly_chance():
    truth, pairs = network()
    flat = np.zeros(truth.shape)
    assert grn.aupr_ratio(truth, flat, pairs) == pytest.approx(1)
    assert grn.epr(truth, flat, pairs) == pytest.approx(1)
    assert grn.auroc(truth, flat, pairs) == 0.5


def test_random_scores_chance_on_average():
    truth, _, pairs = random_case(0, n_tfs=30, n_genes=200)
    draw = np.random.default_rng(1)
    for metric, chance, tolerance in ((grn.aupr_ratio, 1, 0.05), (grn.epr, 1, 0.05), (grn.auroc, 0.5, 0.02)):
        assert np.mean([metric(truth, draw.random(truth.shape), pairs) for _ in range(20)]) == pytest.approx(
            chance, abs=tolerance
        )


def test_reversed_truth_scores_worst():
    truth, pairs = network()
    assert grn.auroc(truth, -truth.astype(float), pairs) == 0.0
    assert grn.epr(truth, -truth.astype(float), pairs) == 0.0


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("levels", [None, 3, 8])
def test_equal_to_brute_force_and_scikit_learn(seed, levels):
    truth, scores, pairs = random_case(seed, levels=levels)
    assert grn.average_precision(truth, scores, pairs) == pytest.approx(naive_average_precision(truth, scores, pairs))
    assert grn.average_precision(truth, scores, pairs) == pytest.approx(
        average_precision_score(truth[pairs], scores[pairs])
    )
    wins = [(p > n) + (p == n) / 2 for p in scores[pairs & truth] for n in scores[pairs & ~truth]]
    assert grn.auroc(truth, scores, pairs) == pytest.approx(np.mean(wins))
    assert grn.auroc(truth, scores, pairs) == pytest.approx(roc_auc_score(truth[pairs], scores[pairs]))


def test_early_hits_are_the_mean_over_all_orders_of_a_tie():
    truth = np.array([[False, True, True, False, True]])
    scores = np.array([[0.0, 0.9, 0.5, 0.5, 0.5]])
    pairs = np.ones((1, 5), dtype=bool)
    pairs[0, 0] = False
    hits = []
    for order in itertools.permutations(range(1, 5)):
        ranked = sorted(order, key=lambda i: -scores[0, i])
        hits.append(sum(truth[0, i] for i in ranked[:3]))
    assert grn.early_hits(truth, scores, pairs) == pytest.approx(np.mean(hits))


@pytest.mark.parametrize("levels", [None, 4])
def test_order_of_genes_changes_nothing(levels):
    truth, scores, pairs = random_case(5, levels=levels)
    order = np.random.default_rng(2).permutation(truth.shape[1])
    for metric in (grn.aupr_ratio, grn.epr, grn.auroc):
        assert metric(truth[:, order], scores[:, order], pairs[:, order]) == pytest.approx(metric(truth, scores, pairs))


def test_epr_is_the_published_formula():
    truth, scores, pairs = random_case(9)
    edges = int(truth.sum())
    top = np.argsort(-np.where(pairs, scores, -np.inf), axis=None)[:edges]
    overlap = truth.ravel()[top].sum()
    n_tfs, n_genes = truth.shape
    assert grn.epr(truth, scores, pairs) == pytest.approx(overlap / (edges**2 / (n_tfs * n_genes - n_tfs)))


def test_self_pairs_are_not_judged_unless_asked_for():
    truth, pairs = network()
    scores = truth.astype(float)
    scores[np.arange(3), np.arange(3)] = 9.0
    assert grn.aupr_ratio(truth, scores, pairs) == pytest.approx(3)
    with_self = grn.candidate_pairs(TFS, GENES, include_self=True)
    assert grn.average_precision(truth, scores, with_self) < 1
