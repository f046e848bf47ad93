import numpy as np
import pytest
from sklearn.metrics import silhouette_samples

from sclong.metrics import integration as m

TYPES, BATCHES, EACH = 8, 3, 20


def balanced(seed=0):
    """Every type has EACH cells in every batch; cells in random order."""
    celltype, batch = (a.ravel().repeat(EACH) for a in np.meshgrid(range(TYPES), range(BATCHES)))
    order = np.random.default_rng(seed).permutation(len(celltype))
    return np.array([f"t{c}" for c in celltype])[order], np.array([f"b{b}" for b in batch])[order]


def one_hot(labels):
    return np.eye(len(np.unique(labels)))[np.unique(labels, return_inverse=True)[1]]


def inverse_simpson(counts):
    p = np.asarray(counts) / np.sum(counts)
    return 1 / (p**2).sum()


def test_cell_type_one_hot_is_the_ceiling():
    celltype, batch = balanced()
    scores = m.integration_scores(one_hot(celltype), batch, celltype)
    for metric in ("batch_asw", "celltype_asw", "nmi", "graph_connectivity"):
        assert scores[metric] == pytest.approx(1.0), metric


def test_ilisi_of_the_ceiling_is_the_mixing_within_types():
    celltype = np.array(["x"] * 30 + ["y"] * 40)
    batch = np.array(["p"] * 10 + ["q"] * 20 + ["p"] * 40)
    expected = np.mean(
        [inverse_simpson([9, 20]) - 1] * 10 + [inverse_simpson([10, 19]) - 1] * 20 + [inverse_simpson([39]) - 1] * 40
    )
    assert m.ilisi(one_hot(celltype), batch, k=15) == pytest.approx(expected)


def test_ilisi_of_balanced_types_is_close_to_one():
    celltype, batch = balanced()
    assert m.ilisi(one_hot(celltype), batch, k=30) == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("value", [0.0, 0.1, 1e6, -3.3333])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_constant_embedding_by_definition(value, dtype):
    celltype, batch = balanced()
    scores = m.integration_scores(np.full((len(batch), 7), value, dtype=dtype), batch, celltype)
    assert scores["batch_asw"] == 1.0
    assert scores["celltype_asw"] == 0.5
    assert scores["nmi"] == 0.0
    assert scores["graph_connectivity"] == 1.0
    assert scores["ilisi"] == pytest.approx(1, abs=0.01)
    assert scores["overall"] == pytest.approx(0.6 * 0.5 + 0.4, abs=0.01)


def test_random_and_shuffled_embeddings_are_the_floor_of_biology():
    celltype, batch = balanced()
    draw = np.random.default_rng(3)
    noise = draw.standard_normal((len(batch), 10))
    informative = one_hot(celltype) * 5 + 0.1 * draw.standard_normal((len(batch), TYPES))
    for embedding in (noise, draw.permutation(informative)):
        scores = m.integration_scores(embedding, batch, celltype)
        assert scores["celltype_asw"] == pytest.approx(0.5, abs=0.1) and scores["celltype_asw"] < 0.51
        assert scores["nmi"] < 0.15
        assert m.graph_connectivity(embedding, celltype, k=5) < 0.8
        assert scores["batch_asw"] > 0.9
        assert scores["ilisi"] > 0.85
    kept = m.integration_scores(informative, batch, celltype)
    assert min(kept[metric] for metric in m.BIOLOGY) > 0.95


def test_batch_one_hot_is_the_floor_of_mixing():
    celltype, batch = balanced()
    scores = m.integration_scores(one_hot(batch), batch, celltype)
    assert scores["batch_asw"] == pytest.approx(0)
    assert m.ilisi(one_hot(batch), batch, k=EACH) == pytest.approx(0)
    assert scores["nmi"] == pytest.approx(0, abs=0.02)


def test_batch_asw_follows_the_definition():
    celltype, batch = balanced()
    embedding = np.random.default_rng(4).standard_normal((len(batch), 4)) + 2 * one_hot(batch)[:, [0, 0, 1, 2]]
    per_type = []
    for name in np.unique(celltype):
        rows = celltype == name
        per_type.append(np.mean([1 - abs(s) for s in silhouette_samples(embedding[rows], batch[rows])]))
    assert m.batch_asw(embedding, batch, celltype) == pytest.approx(np.mean(per_type))


def test_batch_asw_leaves_out_types_of_one_batch():
    celltype, batch = balanced()
    embedding = np.random.default_rng(5).standard_normal((len(batch), 4))
    more = np.concatenate([embedding, np.ones((5, 4))])
    assert m.batch_asw(more, np.append(batch, ["b0"] * 5), np.append(celltype, ["alone"] * 5)) == pytest.approx(
        m.batch_asw(embedding, batch, celltype)
    )
    assert np.isnan(m.batch_asw(embedding, batch, batch))


def naive_neighbours(embedding, k):
    distance = np.linalg.norm(embedding[:, None] - embedding[None], axis=2)
    np.fill_diagonal(distance, np.inf)
    return np.argsort(distance, axis=1)[:, :k]


def test_ilisi_equals_brute_force():
    _, batch = balanced()
    embedding = np.random.default_rng(6).standard_normal((len(batch), 3)) + one_hot(batch)
    counts = [np.unique(batch[near], return_counts=True)[1] for near in naive_neighbours(embedding, 12)]
    expected = np.mean([(inverse_simpson(c) - 1) / (BATCHES - 1) for c in counts])
    assert m.ilisi(embedding, batch, k=12) == pytest.approx(expected)


def test_graph_connectivity_equals_brute_force():
    celltype, _ = balanced()
    embedding = np.random.default_rng(7).standard_normal((len(celltype), 4)) + 1.5 * one_hot(celltype)[:, :4]
    near = naive_neighbours(embedding, 6)
    shares = []
    for name in np.unique(celltype):
        left, largest = set(np.flatnonzero(celltype == name)), 0
        size = len(left)
        while left:
            reached, border = set(), {left.pop()}
            while border:
                cell = border.pop()
                reached.add(cell)
                joined = {c for c in left if c in near[cell] or cell in near[c]}
                left -= joined
                border |= joined
            largest = max(largest, len(reached))
        shares.append(largest / size)
    assert 0.2 < np.mean(shares) < 0.95
    assert m.graph_connectivity(embedding, celltype, k=6) == pytest.approx(np.mean(shares))


def test_order_of_cells_changes_nothing_even_with_repeated_points():
    celltype, batch = balanced()
    embedding = np.random.default_rng(8).integers(3, size=(len(batch), 3)).astype(float)
    order = np.random.default_rng(9).permutation(len(batch))
    for k in (1, 5, 90):
        assert m.graph_connectivity(embedding[order], celltype[order], k=k) == pytest.approx(
            m.graph_connectivity(embedding, celltype, k=k)
        )
    constant = np.zeros((len(batch), 1))
    assert m.ilisi(constant[order], batch[order], k=7) == pytest.approx(m.ilisi(constant, batch, k=7))


def test_overall_weighs_biology_six_to_four():
    scores = dict.fromkeys(m.BIOLOGY, 1.0) | dict.fromkeys(m.BATCH, 0.0)
    assert m.overall(scores) == pytest.approx(0.6)
    assert m.overall(dict.fromkeys((*m.BIOLOGY, *m.BATCH), 0.5)) == pytest.approx(0.5)
