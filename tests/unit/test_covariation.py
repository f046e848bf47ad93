from __future__ import annotations

import numpy as np
import torch

from sclong.embed.covariation import GeneCovariation


def cosines(vectors: np.ndarray) -> np.ndarray:
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit @ unit.T


def test_cosines_are_those_of_the_centred_vectors_of_all_cells() -> None:
    generator = torch.Generator().manual_seed(0)
    factors = torch.randn(60, 1, 3, generator=generator)  # cells share factors, genes their loadings
    loadings = torch.randn(1, 20, 3, generator=generator)
    vectors = (factors * loadings).sum(-1, keepdim=True) * torch.randn(1, 1, 8, generator=generator)
    vectors = vectors + 0.3 * torch.randn(60, 20, 8, generator=generator)
    vectors = vectors + 50 * torch.randn(1, 20, 8, generator=generator)  # the mean of a gene, which is large
    accumulated = GeneCovariation(20, 8, n_directions=4096)
    for batch in vectors.split(7):
        accumulated.add(batch)
    centred = (vectors - vectors.mean(0)).permute(1, 0, 2).flatten(1).numpy()
    expected = cosines(centred)
    np.testing.assert_allclose(cosines(accumulated.of(np.arange(20))), expected, atol=0.08)
    assert np.abs(expected[~np.eye(20, dtype=bool)]).max() > 0.5  # the comparison has power
    np.testing.assert_allclose(
        np.linalg.norm(accumulated.of(np.arange(20)), axis=1), np.linalg.norm(centred, axis=1), rtol=0.06
    )


def test_genes_without_a_row_are_zero_and_batches_do_not_matter() -> None:
    vectors = torch.randn(6, 5, 4, generator=torch.Generator().manual_seed(1))
    one, other = GeneCovariation(5, 4, 16), GeneCovariation(5, 4, 16)
    one.add(vectors)
    for batch in vectors.split(4):
        other.add(batch)
    found = one.of(np.array([3, -1, 0]))
    np.testing.assert_array_equal(found, other.of(np.array([3, -1, 0])))
    assert not found[1].any() and found[0].any()
