"""The head for perturbations: additive, shares what vectors tell, chooses on validation only."""

from __future__ import annotations

import numpy as np
import pytest

from sclong.errors import InputDataError
from sclong.seeding import rng
from sclong.tasks.genetic_perturbation.gene_effects import fit_predict_gene_effects, scaled_vectors

P, D, G = 30, 3, 12


@pytest.fixture
def world() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Vectors, all singles as conditions, and changes that are linear in the vectors."""
    draw = rng("gene effects")
    vectors = draw.normal(size=(P, D))
    return vectors, np.eye(P), scaled_vectors(vectors) @ draw.normal(size=(D, G)) + 0.01 * draw.normal(size=(P, G))


def parts() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return np.arange(20), np.arange(20, 25), np.arange(25, 30)


def test_unseen_genes_follow_their_vectors(world: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    vectors, perturbed, delta = world
    test = parts()[2]
    answer = fit_predict_gene_effects(vectors, perturbed, delta, *parts())
    assert ((answer - delta[test]) ** 2).mean() < 0.1 * delta[test].var()


def test_equals_ridge_written_out(world: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    """The dual form equals ridge regression on [share of vectors, own parts]."""
    vectors, _, delta = world
    perturbed = (rng("pairs").random((P, P)) < 0.1).astype(float)
    share, penalty = 0.25, 0.3
    train, validation, test = parts()
    x = perturbed @ np.hstack([np.sqrt(share) * scaled_vectors(vectors), np.sqrt(1 - share) * np.eye(P)])
    mean = delta[train].mean(0)
    weight = np.linalg.solve(x[train].T @ x[train] + penalty * np.eye(x.shape[1]), x[train].T @ (delta[train] - mean))
    answer = fit_predict_gene_effects(
        vectors, perturbed, delta, train, validation, test, shares=[share], penalties=[penalty]
    )
    np.testing.assert_allclose(answer, mean + x[test] @ weight, atol=1e-9)


def test_test_rows_are_not_looked_at(world: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    vectors, perturbed, delta = world
    hidden = delta.copy()
    hidden[25:] = np.nan
    np.testing.assert_array_equal(
        fit_predict_gene_effects(vectors, perturbed, hidden, *parts()),
        fit_predict_gene_effects(vectors, perturbed, delta, *parts()),
    )


def test_useless_vectors_change_nothing(world: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    """With vectors that are all alike, genes that were never seen get the training mean."""
    _, perturbed, delta = world
    answer = fit_predict_gene_effects(np.ones((P, D)), perturbed, delta, *parts())
    np.testing.assert_allclose(answer, np.tile(delta[:20].mean(0), (5, 1)), atol=1e-9)


def test_empty_validation_is_an_error(world: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    vectors, perturbed, delta = world
    with pytest.raises(InputDataError, match="validation part has no conditions"):
        fit_predict_gene_effects(vectors, perturbed, delta, np.arange(20), np.array([], dtype=int), np.arange(20, 30))
