import itertools

import numpy as np
import pytest
from scipy.integrate import quad
from sklearn.metrics import average_precision_score, roc_auc_score

from sclong.tasks.grn_inference import metrics as grn

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


def brute_force(edges, scores, regulators, genes):
    """All measures from the definitions, over a dictionary of pairs; scores: {(regulator, gene): score}."""
    signed = ranked_measures(edges, scores, regulators, genes)
    weights = {pair: 0.0 if score == -1 else abs(score) for pair, score in scores.items()}
    by_weight = ranked_measures(edges, weights, regulators, genes)
    borrowed = ("aupr_ratio_published", "aupr_ratio_beeline", "epr_beeline")
    return {name: (by_weight if name in borrowed else signed)[name] for name in signed}


def ranked_measures(edges, scores, regulators, genes):
    true = {(a, b) for a, b in edges if a != b and a in regulators and a in genes and b in genes}
    pairs = [(a, b) for a in regulators for b in genes if a != b]
    n_true, rate = len(true), len(true) / len(pairs)
    levels = sorted({scores[p] for p in pairs}, reverse=True)
    area = interpolated = hits = early = 0.0
    called_before = hits_before = 0
    for level in levels:
        block = [p for p in pairs if scores[p] == level]
        found = sum(p in true for p in block)
        hits += found
        called = called_before + len(block)
        area += found / n_true * hits / called
        early += found * min(1.0, max(0.0, n_true - called_before) / len(block))
        if found:
            slope = (len(block) - found) / found

            def precision(tp, start=hits_before, false=called_before - hits_before, slope=slope):
                return tp / (tp + false + slope * (tp - start))

            interpolated += quad(precision, hits_before, hits)[0] / n_true
        called_before, hits_before = called, hits
    ordered = sorted((round(float(scores[p]), 6) for p in pairs), reverse=True)
    positive = [s for s in ordered if s > 0]
    epr_beeline = 0.0
    if positive:
        threshold = positive[min(len(positive), n_true) - 1]
        top = [p for p in pairs if round(float(scores[p]), 6) >= threshold]
        epr_beeline = sum(p in true for p in top) / len(top) / rate
    with_self = len(regulators) * len(genes)
    return {
        "aupr_ratio": area / rate,
        "epr": early / (n_true**2 / (len(regulators) * len(genes) - len(regulators))),
        "auroc": np.mean(
            [(scores[p] > scores[q]) + (scores[p] == scores[q]) / 2 for p in true for q in pairs if q not in true]
        ),
        "aupr_ratio_published": area / (n_true / with_self),
        "aupr_ratio_beeline": interpolated / rate,
        "epr_beeline": epr_beeline,
    }


NETWORKS = {
    "duplicated edges": [("A", "B"), ("A", "B"), ("A", "D"), ("C", "F"), ("A", "D")],
    "self loops": [("A", "A"), ("B", "B"), ("A", "C"), ("B", "F"), ("C", "A")],
    "missing genes": [("A", "B"), ("A", "elsewhere"), ("stranger", "B"), ("C", "D"), ("B", "E")],
    "colliding names": [("A", "BC"), ("AB", "C"), ("C", "AB"), ("AB", "F")],
    "both directions": [("A", "B"), ("B", "A"), ("C", "A"), ("A", "C")],
}


@pytest.mark.parametrize("kind", NETWORKS)
@pytest.mark.parametrize("levels", [None, 2, 5, "signed", "signed levels"])
def test_all_measures_equal_their_brute_force_twin(kind, levels):
    edges = NETWORKS[kind]
    genes = ["A", "B", "C", "D", "E", "F", "AB", "BC"]
    regulators = sorted({a for a, _ in edges if a in genes})
    draw = np.random.default_rng(len(kind))
    for _ in range(3):
        shape = (len(regulators), len(genes))
        if levels in (None, "signed"):
            scores = draw.random(shape) - (0.5 if levels else 0)
        else:
            scores = draw.integers(-3, 4, shape) / 4 if levels == "signed levels" else draw.integers(levels, size=shape)
        scores = scores.astype(np.float32)
        if str(levels).startswith("signed"):
            scores[draw.random(shape) < 0.2] = -1  # no prediction
        cleaned = grn.clean_edges(*zip(*edges, strict=True), measured=genes)
        found = grn.measures(grn.adjacency(cleaned, regulators, genes), scores, grn.candidate_pairs(regulators, genes))
        table = {(a, b): scores[i, j] for i, a in enumerate(regulators) for j, b in enumerate(genes)}
        assert found == pytest.approx(brute_force(edges, table, regulators, genes))


def test_published_ratio_counts_the_pair_of_a_gene_with_itself():
    """A self pair has no score and comes last; scikit-learn on all pairs says the same."""
    truth, scores, pairs = random_case(3)
    all_pairs = np.ones_like(pairs)
    with_self = np.where(pairs, scores, -1.0)
    expected = average_precision_score(truth[all_pairs], with_self[all_pairs]) / truth.mean()
    assert grn.aupr_ratio_published(truth, scores, pairs) == pytest.approx(expected)


def test_measures_of_others_take_weights_and_ours_take_signs():
    """A strong negative score is a strong edge to BEELINE and DeepSEM, and the least likely one to our measures."""
    truth = np.array([[False, True, True, False, False]])
    pairs = np.array([[False, True, True, True, True]])
    scores = np.array([[0.0, -0.9, -0.8, 0.7, 0.1]], dtype=np.float32)
    found = grn.measures(truth, scores, pairs)
    assert found["aupr_ratio"] < 1 and found["epr"] == 0 and found["auroc"] == 0
    assert found["epr_beeline"] == found["aupr_ratio_beeline"] == pytest.approx(2)
    assert found["aupr_ratio_published"] == pytest.approx(2 * 5 / 4)
    silent = np.where(truth, np.float32(-1), scores)  # no prediction is no strong edge
    np.testing.assert_allclose(grn.weights(silent), [[0, 0, 0, 0.7, 0.1]], rtol=1e-6)
    assert grn.measures(truth, silent, pairs)["epr_beeline"] == 0
    assert grn.weights(silent).dtype == np.float32


def test_beeline_calls_every_pair_of_a_tie_and_none_that_scores_zero():
    truth = np.array([[False, True, True, False, True]])
    pairs = np.array([[False, True, True, True, True]])
    tied = np.array([[0.0, 0.9, 0.5, 0.5, 0.5]])
    assert grn.epr_beeline(truth, tied, pairs) == pytest.approx((3 / 4) / (3 / 4))
    few = np.array([[0.0, 0.9, 0.0, 0.0, 0.0]])
    assert grn.epr_beeline(truth, few, pairs) == pytest.approx(1 / (3 / 4))
    assert grn.epr_beeline(truth, np.zeros((1, 5)), pairs) == 0.0
    nearly = np.array([[0.0, 0.9, 0.5, 0.5000001, 0.5000002]])  # one score after rounding
    assert grn.epr_beeline(truth, nearly, pairs) == grn.epr_beeline(truth, tied, pairs)


def relabel_case(n_tfs=6, n_genes=30, seed=0):
    truth, scores, pairs = random_case(seed, n_tfs, n_genes)
    return truth, scores, pairs, np.arange(n_tfs)


def test_null_networks_are_those_with_names_exchanged():
    """With all exchanges of two regulators and two others, the null's values are those of the four networks."""
    truth = np.array([[False, False, True, False], [True, False, False, False]])
    scores = np.array([[0, 0.1, 0.9, 0.4], [0.6, 0, 0.3, 0.2]])
    pairs = grn.candidate_pairs(["A", "B"], ["A", "B", "C", "D"])
    ranking = grn.Ranking.of(truth, scores, pairs)
    expected = set()
    for tfs, others in itertools.product([(0, 1), (1, 0)], [(2, 3), (3, 2)]):
        column = [*tfs, *others]
        other = np.zeros_like(truth)
        for i, j in zip(*np.nonzero(truth), strict=True):
            other[tfs[i], column[j]] = True
        expected.add(round(grn.average_precision(other, scores, pairs), 9))
    null = grn.relabelled_average_precision(truth, scores, ranking, np.arange(2), np.random.default_rng(0), 100)
    assert {round(float(v), 9) for v in null} == expected


def test_chance_has_uniform_p_values_and_the_truth_the_smallest():
    p = []
    for seed in range(60):
        truth, scores, pairs, own = relabel_case(seed=seed)
        ranking = grn.Ranking.of(truth, scores, pairs)
        null = grn.relabelled_average_precision(truth, scores, ranking, own, np.random.default_rng(seed), 39)
        p.append(grn.p_value(ranking.average_precision(), null))
    assert min(p) >= 1 / 40 and 0.35 < np.mean(p) < 0.65
    ranking = grn.Ranking.of(truth, truth * 1.0, pairs)
    null = grn.relabelled_average_precision(truth, truth * 1.0, ranking, own, np.random.default_rng(0), 39)
    assert grn.p_value(ranking.average_precision(), null) == 1 / 40
    flat = np.zeros_like(scores)
    ranking = grn.Ranking.of(truth, flat, pairs)
    null = grn.relabelled_average_precision(truth, flat, ranking, own, np.random.default_rng(0), 9)
    assert grn.p_value(ranking.average_precision(), null) == 1.0


def test_candidate_pairs_go_by_name():
    pairs = grn.candidate_pairs(["B", "A"], ["A", "B", "AB"])
    assert pairs.tolist() == [[True, False, True], [False, True, True]]


@pytest.mark.slow
def test_all_pairs_of_many_genes_are_scored_in_bounded_memory():
    """No list of pairs and no loop over them: eight bytes a pair, besides what is handed in, are plenty."""
    import tracemalloc

    draw = np.random.default_rng(0)
    shape = (400, 17_735)
    names = [f"g{i}" for i in range(shape[1])]
    pairs = grn.candidate_pairs(names[: shape[0]], names)
    truth = np.zeros(shape, dtype=bool)
    truth[draw.integers(shape[0], size=50_000), draw.integers(shape[1], size=50_000)] = True
    truth &= pairs
    scores = draw.random(shape, dtype=np.float32)
    tracemalloc.start()
    ranking = grn.Ranking.of(truth, scores, pairs)
    found = grn.measures(truth, scores, pairs, ranking)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * truth.size
    assert found["aupr_ratio"] == pytest.approx(1, abs=0.05) and found["epr"] == pytest.approx(1, abs=0.3)
