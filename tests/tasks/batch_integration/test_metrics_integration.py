import numpy as np
import pytest
from sklearn.metrics import silhouette_samples

from sclong.tasks.batch_integration import metrics as m
from sclong.tasks.batch_integration.neighbours import Neighbours, clisi, graph_connectivity, ilisi, lisi
from sclong.tasks.batch_integration.task import METRICS

TYPES, BATCHES, EACH = 8, 3, 20


def balanced(seed=0):
    """Every type has EACH cells in every batch; cells in random order."""
    celltype, batch = (a.ravel().repeat(EACH) for a in np.meshgrid(range(TYPES), range(BATCHES)))
    order = np.random.default_rng(seed).permutation(len(celltype))
    return np.array([f"t{c}" for c in celltype])[order], np.array([f"b{b}" for b in batch])[order]


def uneven(seed=1, n=240):
    """Cells of five types and three batches, drawn apart; type t4 is in one batch only."""
    draw = np.random.default_rng(seed)
    celltype, batch = draw.integers(0, 5, n), draw.integers(0, 3, n)
    batch[celltype == 4] = 1
    embedding = draw.normal(size=(n, 20)) + 3 * np.eye(20)[celltype] + 1.5 * np.eye(20)[10 + batch]
    before = draw.normal(size=(n, 30)) + 4 * np.eye(30)[batch]
    return embedding, np.array([f"t{c}" for c in celltype]), np.array([f"b{b}" for b in batch]), before


def one_hot(labels):
    return np.eye(len(np.unique(labels)))[np.unique(labels, return_inverse=True)[1]]


def scores_of(embedding, batch, celltype, before=None):
    return m.integration_scores(embedding, batch, celltype, one_hot(batch) if before is None else before)


# ---------------------------------------------------------------- what controls score


def test_cell_type_one_hot_is_the_ceiling():
    celltype, batch = balanced()
    scores = scores_of(one_hot(celltype), batch, celltype)
    for metric in (*m.BIOLOGY, "batch_asw_scib", "batch_asw_scib_metrics", "graph_connectivity", "pcr", "biology"):
        assert scores[metric] == pytest.approx(1.0), metric
    assert scores["ilisi"] == pytest.approx(1.0, abs=0.02)
    assert set(scores) == set(METRICS)


@pytest.mark.parametrize("value", [0.0, 0.1, 1e6, -3.3333])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_constant_embedding_wins_every_batch_score_and_no_other(value, dtype):
    celltype, batch = balanced()
    scores = scores_of(np.full((len(batch), 7), value, dtype=dtype), batch, celltype)
    for metric in ("batch_asw_scib", "batch_asw_scib_metrics", "graph_connectivity", "pcr"):
        assert scores[metric] == 1.0, metric
    assert (scores["celltype_asw"], scores["isolated_labels"], scores["nmi"], scores["ari"]) == (0.5, 0.5, 0.0, 0.0)
    assert scores["ilisi"] == pytest.approx(1, abs=0.01) and scores["clisi"] == pytest.approx(0, abs=0.01)
    assert scores["overall"] == pytest.approx(0.6 * 0.2 + 0.4, abs=0.01)


def test_random_and_shuffled_embeddings_are_the_floor_of_biology():
    celltype, batch = balanced()
    draw = np.random.default_rng(3)
    noise = draw.standard_normal((len(batch), 10))
    informative = one_hot(celltype) * 5 + 0.1 * draw.standard_normal((len(batch), TYPES))
    for embedding in (noise, draw.permutation(informative)):
        scores = scores_of(embedding, batch, celltype)
        assert scores["celltype_asw"] == pytest.approx(0.5, abs=0.1) and scores["celltype_asw"] < 0.51
        assert scores["nmi"] < 0.15 and scores["ari"] < 0.05 and scores["clisi"] < 0.45
        assert min(scores["batch_asw_scib"], scores["batch_asw_scib_metrics"], scores["pcr"]) > 0.9
        assert scores["ilisi"] > 0.7
    kept = scores_of(informative, batch, celltype)
    assert min(kept[metric] for metric in m.BIOLOGY) > 0.95


def test_batch_one_hot_is_the_floor_of_mixing():
    celltype, batch = balanced()
    scores = scores_of(one_hot(batch), batch, celltype)
    for metric in ("batch_asw_scib", "batch_asw_scib_metrics", "ilisi", "pcr"):
        assert scores[metric] == pytest.approx(0), metric
    assert scores["nmi"] == pytest.approx(0, abs=0.02)


# ---------------------------------------------------------------- definitions, by brute force


def test_batch_asw_follows_the_definition():
    celltype, batch = balanced()
    embedding = np.random.default_rng(4).standard_normal((len(batch), 4)) + 2 * one_hot(batch)[:, [0, 0, 1, 2]]
    per_type = []
    for name in np.unique(celltype):
        rows = celltype == name
        per_type.append(np.mean([1 - abs(s) for s in silhouette_samples(embedding[rows], batch[rows])]))
    assert m.batch_asw_scib(embedding, batch, celltype) == pytest.approx(np.mean(per_type))


def test_bras_follows_the_definition():
    embedding, celltype, batch, _ = uneven()
    unit = embedding / np.linalg.norm(embedding, axis=1, keepdims=True)
    distance = 1 - unit @ unit.T
    per_type = []
    for name in np.unique(celltype):
        rows = np.flatnonzero(celltype == name)
        if len(np.unique(batch[rows])) == 1:
            continue
        silhouettes = []
        for i in rows:
            own = [distance[i, j] for j in rows if batch[j] == batch[i] and j != i]
            other = [distance[i, j] for j in rows if batch[j] != batch[i]]
            a, b = np.mean(own), np.mean(other)
            silhouettes.append(abs(b - a) / max(a, b))
        per_type.append(1 - np.mean(silhouettes))
    assert len(per_type) == 4
    assert m.batch_asw_scib_metrics(embedding, batch, celltype) == pytest.approx(np.mean(per_type))


@pytest.mark.parametrize("score", [m.batch_asw_scib, m.batch_asw_scib_metrics])
def test_batch_asw_leaves_out_types_of_one_batch(score):
    celltype, batch = balanced()
    embedding = np.random.default_rng(5).standard_normal((len(batch), 4))
    more = np.concatenate([embedding, np.ones((5, 4))])
    with_lonely = score(more, np.append(batch, ["b0"] * 5), np.append(celltype, ["alone"] * 5))
    assert with_lonely == pytest.approx(score(embedding, batch, celltype))
    assert np.isnan(score(embedding, batch, batch))


def test_isolated_labels_are_those_in_the_fewest_batches():
    embedding, celltype, batch, _ = uneven()
    silhouettes = m.label_silhouettes(embedding, celltype)
    alone = (silhouettes[celltype == "t4"].mean() + 1) / 2
    assert m.isolated_labels(silhouettes, batch, celltype) == pytest.approx(alone)
    per_type = [(silhouettes[celltype == t].mean() + 1) / 2 for t in np.unique(celltype)]
    assert m.isolated_labels(silhouettes, np.tile(["p", "q"], 120), celltype) == pytest.approx(np.mean(per_type))


def test_pcr_is_regression_on_all_components():
    embedding, _, batch, before = uneven()
    u, s, _ = np.linalg.svd(embedding - embedding.mean(axis=0), full_matrices=False)
    design = one_hot(batch)
    r2 = [1 - ((c - design @ np.linalg.lstsq(design, c, rcond=None)[0]) ** 2).sum() / (c**2).sum() for c in (u * s).T]
    assert m.batch_variance(embedding, batch) == pytest.approx(np.average(r2, weights=s**2))
    had, has = m.batch_variance(before, batch), m.batch_variance(embedding, batch)
    assert m.pcr(before, embedding, batch) == pytest.approx(1 - has / had) and 0 < has < had
    assert m.pcr(embedding, before, batch) == 0


def naive_neighbours(embedding, k):
    """The k nearest of each cell, itself first."""
    distance = np.linalg.norm(embedding[:, None] - embedding[None], axis=2)
    np.fill_diagonal(distance, -1)
    return np.argsort(distance, axis=1, kind="stable")[:, :k]


def test_lisi_weighs_neighbours_by_a_kernel_of_the_right_perplexity():
    from scipy.optimize import brentq

    embedding, celltype, _, _ = uneven()
    k, perplexity = 31, 10
    expected = []
    for cell, near in enumerate(naive_neighbours(embedding, k)[:, 1:]):
        d = np.linalg.norm(embedding[near] - embedding[cell], axis=1)

        def weights(beta, d=d):
            w = np.exp(-beta * (d - d.min()))
            return w / w.sum()

        def too_wide(beta):
            p = weights(beta)
            return -(p[p > 0] * np.log(p[p > 0])).sum() - np.log(perplexity)

        p = weights(brentq(too_wide, 1e-6, 1e4))
        expected.append(1 / sum(p[celltype[near] == t].sum() ** 2 for t in np.unique(celltype)))
    found = lisi(Neighbours.of(embedding, k), celltype)
    assert found == pytest.approx(np.array(expected), abs=2e-4)
    assert clisi(Neighbours.of(embedding, k), celltype) == pytest.approx((5 - np.median(expected)) / 4, abs=1e-4)


def test_graph_connectivity_equals_brute_force():
    celltype, _ = balanced()
    embedding = np.random.default_rng(7).standard_normal((len(celltype), 4)) + 1.5 * one_hot(celltype)[:, :4]
    near = naive_neighbours(embedding, 12)
    shares = []
    for name in np.unique(celltype):
        cells = np.flatnonzero(celltype == name)
        joined = np.array([[b in near[a] for b in cells] for a in cells])
        for _ in range(6):  # paths of up to 2**6 steps
            joined = joined | (joined @ joined)
        mutual = joined & joined.T
        shares.append(mutual.sum(axis=1).max() / len(cells))
    assert 0.2 < np.mean(shares) < 0.95
    assert graph_connectivity(Neighbours.of(embedding, 90).at(12), celltype) == pytest.approx(np.mean(shares))


# ---------------------------------------------------------------- repeated points, order, width


def inverse_simpson(counts):
    p = np.asarray(counts) / np.sum(counts)
    return 1 / (p**2).sum()


def test_ilisi_of_the_ceiling_is_the_mixing_within_types():
    celltype = np.array(["x"] * 30 + ["y"] * 40)
    batch = np.array(["p"] * 10 + ["q"] * 20 + ["p"] * 40)
    expected = np.median(
        [inverse_simpson([9, 20]) - 1] * 10 + [inverse_simpson([10, 19]) - 1] * 20 + [inverse_simpson([39]) - 1] * 40
    )
    assert ilisi(Neighbours.of(one_hot(celltype), 15), batch) == pytest.approx(expected)


def test_order_of_cells_changes_nothing_even_with_repeated_points():
    celltype, batch = balanced()
    embedding = np.random.default_rng(8).integers(3, size=(len(batch), 3)).astype(float)
    order = np.random.default_rng(9).permutation(len(batch))
    for points in (embedding, np.zeros((len(batch), 1))):
        for k in (2, 6, 90):
            near, mixed = Neighbours.of(points, k), Neighbours.of(points[order], k)
            assert graph_connectivity(mixed, celltype[order]) == pytest.approx(graph_connectivity(near, celltype))
            assert lisi(mixed, batch[order]) == pytest.approx(lisi(near, batch)[order])


def test_neighbours_beyond_the_number_of_cells():
    embedding, celltype, batch, before = (a[:40] for a in uneven())
    scores = scores_of(embedding, batch, celltype, before)
    assert all(np.isfinite(v) for v in scores.values())
    assert Neighbours.of(embedding, 90).k == 40


def test_wide_embeddings_score_as_their_compact_form():
    embedding, celltype, batch, before = uneven()
    turned = np.linalg.qr(np.random.default_rng(2).standard_normal((700, 20)))[0]
    wide = embedding @ turned.T
    embedding, wide, celltype, batch, before = (  # some cells twice
        np.concatenate([a, a[:3]]) for a in (embedding, wide, celltype, batch, before)
    )
    small = m.compact(wide)
    assert small.shape == (243, 240) and np.array_equal(small[:3], small[240:])
    assert small @ small.T == pytest.approx(embedding @ embedding.T)
    assert m.compact(embedding) is not None and np.array_equal(m.compact(embedding), embedding)
    assert scores_of(wide, batch, celltype, before) == pytest.approx(
        scores_of(embedding, batch, celltype, before), abs=1e-4
    )


def test_overall_weighs_biology_six_to_four():
    scores = dict.fromkeys(m.BIOLOGY, 1.0) | dict.fromkeys(m.BATCH, 0.0)
    assert m.aggregates(scores) == pytest.approx({"biology": 1, "batch_mixing": 0, "overall": 0.6})
    assert m.aggregates(dict.fromkeys((*m.BIOLOGY, *m.BATCH), 0.5))["overall"] == pytest.approx(0.5)


# ---------------------------------------------------------------- beside the libraries


def test_scores_equal_scib_metrics():
    """Every score but those of k-means, which starts elsewhere there; exact neighbours for both."""
    library = pytest.importorskip(
        "scib_metrics", reason="pip install -c envs/constraints.txt -e '.[scib]' (it brings jax)"
    )
    from scib_metrics.nearest_neighbors import NeighborsResults
    from sklearn.neighbors import NearestNeighbors

    embedding, celltype, batch, before = uneven()
    distance, nearest = NearestNeighbors(n_neighbors=90).fit(embedding).kneighbors(embedding)
    near = NeighborsResults(indices=nearest, distances=distance)
    expected = {
        "batch_asw_scib": library.silhouette_batch(embedding, celltype, batch),
        "batch_asw_scib_metrics": library.bras(embedding, celltype, batch),
        "celltype_asw": library.silhouette_label(embedding, celltype),
        "isolated_labels": library.isolated_labels(embedding, celltype, batch),
        "clisi": library.clisi_knn(near, celltype),
        "ilisi": library.ilisi_knn(near, batch),
        "graph_connectivity": library.graph_connectivity(near.subset_neighbors(15), celltype),
        "pcr": library.pcr_comparison(before, embedding, batch, categorical=True),
    }
    found = scores_of(embedding, batch, celltype, before)
    assert {name: found[name] for name in expected} == pytest.approx(
        {name: float(value) for name, value in expected.items()}, abs=1e-5
    )


def test_batch_asw_equals_scib():
    library = pytest.importorskip("scib", reason="pip install -c envs/constraints.txt -e '.[scib]'")
    import anndata
    import pandas as pd

    embedding, celltype, batch, _ = uneven()
    obs = pd.DataFrame({"batch": pd.Categorical(batch), "celltype": pd.Categorical(celltype)}).set_index(
        np.arange(len(batch)).astype(str)
    )
    adata = anndata.AnnData(np.zeros((len(batch), 1), dtype=np.float32), obs=obs, obsm={"X_emb": embedding})
    expected = library.metrics.silhouette_batch(adata, "batch", "celltype", "X_emb", verbose=False)
    assert m.batch_asw_scib(embedding, batch, celltype) == pytest.approx(expected, abs=1e-6)
    expected = library.metrics.silhouette(adata, "celltype", "X_emb")
    assert m.celltype_asw(m.label_silhouettes(embedding, celltype)) == pytest.approx(expected, abs=1e-6)
