"""Values that the model reads."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp

from sclong.data.normalize import check_counts, log1p_cp10k, looks_logged, normalize_counts, to_model_values
from sclong.errors import InputDataError

COUNTS = np.array([[1.0, 3.0, 0.0, 6.0], [0.0, 0.0, 0.0, 0.0], [2.0, 0.0, 0.0, 0.0]], dtype=np.float32)


@pytest.mark.parametrize("make", [np.asarray, sp.csr_matrix, sp.csc_matrix])
def test_log1p_cp10k_is_the_formula(make) -> None:
    out = log1p_cp10k(make(COUNTS))
    expected = np.log1p([[1000.0, 3000.0, 0.0, 6000.0], [0.0] * 4, [10000.0, 0.0, 0.0, 0.0]])
    assert sp.issparse(out)
    assert out.dtype == np.float32
    np.testing.assert_allclose(out.toarray(), expected, rtol=1e-6)


def test_log1p_cp10k_leaves_its_input_alone() -> None:
    counts = sp.csr_matrix(COUNTS)
    log1p_cp10k(counts)
    np.testing.assert_array_equal(counts.toarray(), COUNTS)


def test_depth_does_not_matter() -> None:
    np.testing.assert_allclose(log1p_cp10k(COUNTS * 7).toarray(), log1p_cp10k(COUNTS).toarray(), rtol=1e-6)


def test_counts_pass() -> None:
    check_counts(COUNTS, "x")
    check_counts(sp.csr_matrix((3, 4)), "x")


def test_looks_logged_knows_both_bases_and_no_other_fractions() -> None:
    random = np.random.default_rng(0)
    logged = log1p_cp10k(random.poisson(np.geomspace(0.1, 50, 20)[:, None], size=(20, 50)))
    assert looks_logged(logged)
    assert looks_logged(logged / np.log(2))
    assert not looks_logged(random.gamma(1.0, size=(20, 50)) * np.arange(1, 21)[:, None] / 10)
    assert not looks_logged(logged * 100)


def test_kinds_of_values() -> None:
    np.testing.assert_array_equal(to_model_values(COUNTS, "counts").toarray(), log1p_cp10k(COUNTS).toarray())
    half = COUNTS / 2
    for kind in ("log1p_cp10k", "nonnegative"):
        out = to_model_values(half, kind)
        np.testing.assert_array_equal(out.toarray(), half)
        with pytest.raises(InputDataError, match="negative"):
            to_model_values(-half, kind)
    with pytest.raises(InputDataError, match="value kind 'tpm'"):
        to_model_values(COUNTS, "tpm")


def test_normalisations_by_hand() -> None:
    counts = np.array([[1, 0, 3], [0, 0, 0]])
    assert normalize_counts(counts, "cp10k").toarray().tolist() == [[2500, 0, 7500], [0, 0, 0]]
    logged = normalize_counts(counts, "log1p_cp10k").toarray()
    assert logged[0].tolist() == [np.float32(np.log(2501)), 0, np.float32(np.log(7501))]
    paper = normalize_counts(counts, "paper_log").toarray()
    assert paper[0, 2] == 10
    assert paper[0, 0] == np.float32(10 * np.log(1.0001) / np.log(1.0003))
    assert not paper[1].any()
    with pytest.raises(InputDataError, match="log1p_cp10k, cp10k, paper_log"):
        normalize_counts(counts, "log2")


def test_values_that_were_normalised_otherwise_are_refused() -> None:
    values = log1p_cp10k(np.array([[1, 0, 3]]))
    assert (to_model_values(values, "log1p_cp10k") != values).nnz == 0
    with pytest.raises(InputDataError, match="for a model that was pretrained on cp10k"):
        to_model_values(values, "log1p_cp10k", "cp10k")
