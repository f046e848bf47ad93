import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse

from sclong.benchmark.problem import Features, Problem
from sclong.errors import CardError, InputDataError
from sclong.tasks.grn_inference.dataset import NetworkContext
from sclong.tasks.grn_inference.deepsem import DeepSemFromSimilarity, DeepSemNetwork, EmbeddingSimilarity
from sclong.tasks.grn_inference.deepsem_network import (
    DeepSem,
    DeepSemOptions,
    fit_networks,
    similarity_start,
    standardise,
    unmix,
)

SHORT = {"hidden": 8, "epochs": 60, "batch_size": 32, "learning_rate": 1e-2, "adjacency_rate": 3e-3, "beta": 1.0}


def chain(cells=300, seed=0):
    """Gene 0 drives genes 1 and 2, gene 3 drives 4 and 5; all values above zero."""
    draw = np.random.default_rng(seed)
    values = draw.normal(size=(cells, 6))
    for regulator, target in ((0, 1), (0, 2), (3, 4), (3, 5)):
        values[:, target] = 0.9 * values[:, regulator] + 0.3 * values[:, target]
    return (values + 6).astype(np.float32)


def problem_of(values, regulators=(0, 3), species="human"):
    genes = [f"G{i}" for i in range(values.shape[1])]
    names = [genes[i] for i in regulators]
    return Problem(
        task="grn_inference",
        fold="0",
        samples=pd.DataFrame({"part": "test"}, index=names),
        targets=np.full((len(names), len(genes)), np.nan, dtype=np.float32),
        outputs=genes,
        context=NetworkContext(annotated_genes=genes, expression=sparse.csr_matrix(values), species=species),
    )


def features_of(vectors, unmapped=()):
    genes = np.array([f"G{i}" for i in range(len(vectors))])
    return Features("planted", np.array([]), None, genes, vectors.astype(np.float32), ~np.isin(genes, unmapped))


def test_solving_is_the_exact_inverse_and_not_that_of_a_triangle():
    draw = torch.Generator().manual_seed(0)
    m = torch.eye(6, dtype=torch.float64) - 0.3 * torch.randn(6, 6, generator=draw, dtype=torch.float64)
    z = torch.randn(4, 6, generator=draw, dtype=torch.float64)
    torch.testing.assert_close(unmix(z, m), z @ torch.linalg.inv(m))
    torch.testing.assert_close(unmix(z, m) @ m, z)
    wrong = z @ torch.cholesky_inverse(m)
    assert (unmix(z, m) - wrong).abs().max() > 0.1


def test_forward_is_the_equations_written_out():
    torch.manual_seed(0)
    start = np.random.default_rng(1).normal(0, 0.2, (5, 5))
    model = DeepSem(start, hidden=4).double()
    x, noise = torch.randn(3, 5, dtype=torch.float64), torch.randn(3, 5, dtype=torch.float64)
    y, divergence = model(x, noise)
    a = torch.tensor(np.where(np.eye(5), 0, start.astype(np.float32)), dtype=torch.float64)
    m = torch.zeros(5, 5, dtype=torch.float64)
    for i in range(5):
        for j in range(5):
            m[i, j] = float(i == j) - a[j, i]
    hidden = [[model.encoder(x[b, g].reshape(1)) for g in range(5)] for b in range(3)]
    mean = torch.stack([torch.stack([h[0] for h in row]) for row in hidden]) @ m
    log_variance = torch.stack([torch.stack([h[1] for h in row]) for row in hidden]) @ m
    z = mean + noise * torch.exp(log_variance / 2)
    mixed = z @ torch.linalg.inv(m)
    expected = torch.stack([torch.cat([model.decoder(mixed[b, g].reshape(1)) for g in range(5)]) for b in range(3)])
    torch.testing.assert_close(y, expected)
    prior = model.prior(torch.ones(1, 1, dtype=torch.float64))[0]
    prior_mean, prior_log_variance = prior[:5] @ m, prior[5:] @ m
    of = torch.distributions.Normal
    by_hand = of(mean, torch.exp(log_variance / 2)).log_prob(z) - of(
        prior_mean, torch.exp(prior_log_variance / 2)
    ).log_prob(z)
    torch.testing.assert_close(divergence, by_hand.mean(0), atol=1e-5, rtol=1e-5)


def test_loss_ignores_unseen_values_and_the_diagonal():
    torch.manual_seed(0)
    start = np.random.default_rng(1).normal(0, 0.1, (4, 4))
    x, noise = torch.randn(3, 4), torch.zeros(3, 4)
    seen = torch.ones(3, 4)
    seen[0, 2] = 0
    model = DeepSem(start, hidden=4)
    y, divergence = model(x, noise)
    error = ((y - x) ** 2)[seen.bool()].mean()
    size = np.abs(start - np.diag(np.diag(start))).mean()
    by_hand = error + 0.5 * divergence.mean() + 0.25 * size
    torch.testing.assert_close(model.loss(x, seen, noise, alpha=0.25, beta=0.5), by_hand)
    model.loss(x, seen, noise, 0.25, 0.5).backward()
    assert (model.adjacency_GG.grad.diagonal() == 0).all() and (model.adjacency_GG.grad != 0).sum() == 12


def test_gradient_reaches_both_triangles_of_the_network():
    """With the inverse of one triangle the decoder ignores half of the network."""
    torch.manual_seed(0)
    model = DeepSem(np.random.default_rng(1).normal(0, 0.1, (4, 4)), hidden=4).double()
    z = torch.randn(2, 4, dtype=torch.float64)
    unmix(z, model.operator()).sum().backward()
    off = ~torch.eye(4, dtype=torch.bool)
    assert (model.adjacency_GG.grad[off] != 0).all()


def test_standardise_uses_values_that_are_not_zero():
    values = np.array([[0, 1, 0, 5], [2, 1, 0, 0], [4, 1, 0, 0.0]])
    out = standardise(values)
    np.testing.assert_allclose(out[:, 0], [-3, -1, 1])
    assert (out[:, 1:] == 0).all()
    assert standardise(np.array([[100.0], [1.0], [1.1], [1.2], [0.0]] + [[1.1]] * 200)).max() == 10


def test_similarity_start_by_hand():
    vectors = np.array([[1.0, 3.0, 0.0], [0.0, 2.0, 2.0], [-1.0, 1.0, 2.0], [0.0, 0.0, 0.0]])
    unit = np.array([[0.25, 0.75, 0.5], [0.5, 0.5, 0.5], [-0.25, 0.25, 0.5], [0, 0, 0]])
    products = unit @ unit.T
    np.fill_diagonal(products, 0)
    expected = products / np.maximum(np.abs(products).sum(axis=1, keepdims=True), 1e-300)
    expected[3] = [1 / 3, 1 / 3, 1 / 3, 0]
    np.testing.assert_allclose(similarity_start(vectors), expected)


def test_defaults_are_the_published_ones():
    assert DeepSemOptions() == DeepSemOptions(128, 100, 8, 1e-4, 2e-5, 0.1, 0.01)


def test_a_planted_network_is_found():
    answer = DeepSemNetwork(**SHORT).predict(problem_of(chain()), 0)
    assert answer.shape == (2, 6) and answer[0, 0] == answer[1, 3] == 0
    true = [answer[0, 1], answer[0, 2], answer[1, 4], answer[1, 5]]
    false = [answer[0, 4], answer[0, 5], answer[1, 1], answer[1, 2]]
    assert min(true) > 1.5 * max(false)


def test_a_seed_is_a_training():
    first, again, other = (
        DeepSemNetwork(hidden=4, epochs=3).predict(problem_of(chain(40)), seed) for seed in (0, 0, 1)
    )
    assert np.array_equal(first, again) and not np.array_equal(first, other)


def test_training_leaves_the_global_state_alone():
    torch.manual_seed(7)
    before = torch.get_rng_state()
    fit_networks(chain(20), 0, DeepSemOptions(hidden=4, epochs=1))
    assert torch.equal(before, torch.get_rng_state())


def test_the_start_is_where_training_begins():
    options = DeepSemOptions(hidden=4, epochs=1)
    start = np.random.default_rng(0).random((6, 6))
    np.fill_diagonal(start, 0)
    np.testing.assert_allclose(fit_networks(chain(20), 0, options, start)[0], start, rtol=1e-6)  # epoch 0: autoencoder
    (moved,) = fit_networks(chain(20), 0, DeepSemOptions(hidden=4, epochs=2, adjacency_rate=1e-3), start)
    assert 0 < np.abs(moved - start).max() < 0.1


def test_the_published_inverse_is_that_of_another_matrix():
    torch.manual_seed(0)
    model = DeepSem(np.random.default_rng(1).normal(0, 0.3, (6, 6)), hidden=4, inverse="cholesky").double()
    m, z = model.operator().detach().double(), torch.randn(2, 6, dtype=torch.float64)
    lower = torch.tril(m)
    torch.testing.assert_close(unmix(z, m, "cholesky"), z @ torch.linalg.inv(lower @ lower.T))
    x, noise = torch.randn(2, 6, dtype=torch.float64), torch.zeros(2, 6, dtype=torch.float64)
    published = model(x, noise)[0]
    model.inverse = "exact"
    assert (model(x, noise)[0] - published).abs().max() > 1e-3
    with pytest.raises(CardError, match="exact, cholesky"):
        DeepSemOptions(inverse="pinv")


def test_kept_epochs_are_those_of_one_training():
    """The first epoch of each three trains the autoencoder alone: epochs 11 and 12 have the same network."""
    options = {"hidden": 4, "epochs": 15, "adjacency_rate": 1e-3, "inverse": "cholesky"}
    kept = fit_networks(chain(40), 0, DeepSemOptions(**options, kept_epochs=[10, 11, 12, 13, 14]))
    assert kept.shape == (5, 6, 6) and np.array_equal(kept[1], kept[2])
    assert all(not np.array_equal(kept[i], kept[i + 1]) for i in (0, 2, 3))
    (until_11,) = fit_networks(chain(40), 0, DeepSemOptions(**{**options, "epochs": 12}))
    assert np.array_equal(until_11, kept[1])
    answer = DeepSemNetwork(**options, kept_epochs=[10, 14]).predict(problem_of(chain(40)), 0)
    assert answer.shape == (2, 12) and np.array_equal(answer[:, 6:], np.abs(kept[4][:, [0, 3]].T))
    with pytest.raises(CardError, match="from 0 to 14"):
        DeepSemOptions(epochs=15, kept_epochs=(15,))


def test_max_genes_leaves_out_the_least_variable_targets():
    values = chain()
    values[:, 2] = 6 + 0.001 * values[:, 2]
    answer = DeepSemNetwork(max_genes=5, hidden=4, epochs=2).predict(problem_of(values), 0)
    assert (answer[:, 2] == 0).all() and (np.delete(answer, 2, axis=1).sum(axis=0) > 0).all()


def test_max_genes_leaves_room_for_targets():
    values = chain()
    answer = DeepSemNetwork(max_genes=4, hidden=4, epochs=2).predict(problem_of(values, (0, 1, 2, 3)), 0)
    kept = np.argsort(-values[:, :4].var(axis=0))[:2]
    assert set(np.flatnonzero(answer.sum(axis=1))) == set(kept)
    assert set(np.flatnonzero(answer.sum(axis=0))) == {*kept, 4, 5}


def test_deepsem_from_similarity_starts_from_the_inner_products():
    vectors = np.random.default_rng(0).normal(size=(6, 3))
    problem, features = problem_of(chain(40)), features_of(vectors, unmapped=["G5"])
    known = np.where(np.arange(6)[:, None] < 5, vectors, 0)
    expected = np.abs(similarity_start(known.astype(np.float32))[:, [0, 3]].T)
    answer = DeepSemFromSimilarity(hidden=4, epochs=1).predict_from(problem, features, 0)
    np.testing.assert_allclose(answer, expected, rtol=1e-5)
    inner = EmbeddingSimilarity("inner_product").predict_from(problem, features, 0)
    np.testing.assert_allclose(np.abs(inner), expected, rtol=1e-5)


def test_cosine_of_vectors_and_unknown_genes_last():
    vectors = np.random.default_rng(0).normal(size=(6, 3))
    answer = EmbeddingSimilarity("cosine").predict_from(problem_of(chain(5)), features_of(vectors, ["G5"]), 0)
    by_hand = vectors[0] @ vectors[4] / np.linalg.norm(vectors[0]) / np.linalg.norm(vectors[4])
    assert answer[0, 4] == pytest.approx(by_hand, rel=1e-5) and (answer[:, 5] == -1).all()


def test_mouse_genes_and_wrong_variants_are_refused():
    mouse = problem_of(chain(5), species="mouse")
    with pytest.raises(InputDataError, match="edge_scores"):
        EmbeddingSimilarity().predict_from(mouse, features_of(np.ones((6, 2))), 0)
    with pytest.raises(CardError, match="inner_product"):
        EmbeddingSimilarity("dot")
