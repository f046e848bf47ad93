"""Genetic interactions: regressions, distance correlation, calls; against published fits and classes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LinearRegression, TheilSenRegressor
from sklearn.metrics import roc_auc_score

from sclong.seeding import rng
from sclong.tasks.genetic_perturbation.dataset import Profiles
from sclong.tasks.genetic_perturbation.interactions import (
    CLASSES,
    distance_correlation,
    dominance,
    gears_interaction,
    magnitude,
    ols_coefficients,
    share_found,
    spatial_median,
    strongest,
    theil_sen,
)
from sclong.tasks.genetic_perturbation.prepare import PrepareOptions, prepare_perturbations


def changes(n: int = 40, noise: float = 0.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    draw = rng("interaction", n)
    first, second = draw.normal(size=(2, n))
    return first, second, 1.3 * first + 0.6 * second + noise * draw.standard_t(2, size=n)


# -------------------------------------------------------------------------------------------- regression


def test_ols_by_hand_and_by_scikit_learn() -> None:
    first, second = np.array([1.0, 0, 0, 2]), np.array([0.0, 1, 0, 1])
    assert ols_coefficients(first, second, 2 * first - second + 5) == pytest.approx((2, -1))  # the intercept is free
    first, second, double = changes(noise=0.5)
    fit = LinearRegression().fit(np.stack([first, second], axis=1), double)
    assert ols_coefficients(first, second, double) == pytest.approx(tuple(fit.coef_))


def test_theil_sen_is_that_of_scikit_learn() -> None:
    first, second, double = changes(noise=0.5)
    model = TheilSenRegressor(fit_intercept=False, max_subpopulation=1e5, max_iter=1000, tol=1e-6, random_state=1000)
    fit = model.fit(np.stack([first, second], axis=1), double)
    assert theil_sen(first, second, double) == pytest.approx(tuple(fit.coef_), abs=1e-4)


def test_theil_sen_withstands_outliers_and_draws_the_same_subsets_each_time() -> None:
    first, second, double = changes(400)
    double[::8] += 30
    found = theil_sen(first, second, double, subsets=4000)
    assert found == pytest.approx((1.3, 0.6), abs=0.05)
    assert found == theil_sen(first, second, double, subsets=4000)
    assert np.hypot(*(np.array(ols_coefficients(first, second, double)) - (1.3, 0.6))) > 0.5


def test_degenerate_fits_are_finite() -> None:
    first, second, double = changes()
    assert theil_sen(first, second, np.zeros(40)) == pytest.approx((0, 0))
    assert theil_sen(first, 2 * first, first) == pytest.approx((0.2, 0.4))  # of least norm
    pair = gears_interaction(first, np.zeros(40), np.zeros(40))
    assert (pair.magnitude, pair.model_fit, pair.similarity, pair.equality_of_contribution) == (0, 0, 0, 1)
    assert ols_coefficients(np.zeros(40), np.zeros(40), double) == (0, 0)


def test_spatial_median_by_hand() -> None:
    corners = np.array([[0.0, 0], [4, 0], [0, 2], [4, 2]])
    np.testing.assert_allclose(spatial_median(corners), [2, 1], atol=1e-5)  # where the diagonals cross
    inner = np.array([[0.0, 0], [10, 0], [0, 10], [1, 1]])
    np.testing.assert_allclose(spatial_median(inner), [1, 1], atol=1e-3)  # a point inside the others' triangle
    np.testing.assert_array_equal(spatial_median(np.ones((3, 2))), [1, 1])


# ----------------------------------------------------------------------------------------------- scores


def test_distance_correlation_by_hand() -> None:
    assert distance_correlation(np.array([0.0, 1, 3]), np.array([5.0, 3, -1])) == pytest.approx(1)  # linear
    assert distance_correlation(np.array([1.0, 1, 1]), np.array([0.0, 1, 2])) == 0
    # Centred distances, in ninths: of (0, 1, 2) [[-10, 2, 8], [2, -4, 2], [8, 2, -10]], of (0, 1, 0)
    # [[-2, 4, -2], [4, -8, 4], [-2, 4, -2]]; sums of products 72, 360 (first squared), 144 (second squared)
    expected = np.sqrt(72 / np.sqrt(360 * 144))
    assert distance_correlation(np.array([0.0, 1, 2]), np.array([0.0, 1, 0])) == pytest.approx(expected)
    triangle = np.array([[0.0, 0], [3, 0], [0, 4]])  # distances 3, 4, 5, as of three points on no line
    assert 0 < distance_correlation(triangle, np.array([0.0, 1, 2])) < 1


def test_interaction_of_an_exact_combination() -> None:
    first, second, double = changes()
    pair = gears_interaction(first, second, double)
    assert (pair.first, pair.second) == pytest.approx((1.3, 0.6))
    assert pair.magnitude == pytest.approx(np.sqrt(1.3**2 + 0.6**2)) and pair.model_fit == pytest.approx(1)
    assert pair.dominance == pytest.approx(np.log10(1.3 / 0.6))
    contributions = distance_correlation(first, double), distance_correlation(second, double)
    assert pair.equality_of_contribution == pytest.approx(min(contributions) / max(contributions))
    assert pair.similarity == pytest.approx(distance_correlation(np.stack([first, second], axis=1), double))
    assert pair.similarity_of_singles == pytest.approx(distance_correlation(first, second))


def test_each_class_is_told_by_its_score() -> None:
    first, second, unrelated = rng("classes").normal(size=(3, 60))
    second = second - first * (first @ second) / (first @ first)
    like = first + 0.1 * second
    pairs = {
        "additive": gears_interaction(first, second, first + second),
        "synergy": gears_interaction(first, second, 2 * (first + second)),
        "suppression": gears_interaction(first, second, 0.3 * (first + second)),
        "neomorphism": gears_interaction(first, second, unrelated),
        "redundancy": gears_interaction(first, like, 0.5 * (first + like)),
        "epistasis": gears_interaction(first, second, first),
    }
    for kind, (score, sign) in CLASSES.items():
        others = [k for k in pairs if k != kind and (kind, k) != ("suppression", "neomorphism")]
        best = sign * getattr(pairs[kind], score)
        assert all(best > sign * getattr(pairs[k], score) for k in others), (kind, pairs)


def test_calls_by_hand() -> None:
    truth, prediction = np.array([5.0, 1, 4, 2, 3]), np.array([1.0, 9, 8, 2, 0])
    assert list(strongest(truth, 2)) == [0, 2] and list(strongest(truth, 2, -1)) == [1, 3]
    assert list(strongest(np.ones(3), 2)) == [0, 1]
    assert share_found(truth, prediction, 2, 2) == 0.5
    assert share_found(truth, prediction, 1, 3) == 0 and share_found(truth, prediction, 2, 3) == 0.5
    assert share_found(truth, prediction, 2, 2, -1) == 0 and share_found(truth, truth, 2, 2, -1) == 1
    assert share_found(truth, np.ones(5), 2, 3) == pytest.approx(3 / 5)  # equal scores: chance
    assert share_found(truth, np.array([0.0, 9, 2, 2, 2]), 3, 2) == pytest.approx(2 / 3 / 3)  # one of three tied is 4


# ----------------------------------------------------------------------------- published fits and classes


@pytest.fixture
def fits(mirror: Path) -> pd.DataFrame:
    """Norman et al. 2019: regression of each of 125 doubles on its singles."""
    table = pd.read_csv(mirror / "norman_gi" / "regr_fits_final.csv", index_col=0)
    table["pair"] = table.index
    table.index = pd.Index(["+".join(sorted(name.split("_"))) for name in table.index])
    return table


@pytest.mark.mirror
@pytest.mark.parametrize("fit", ["ts", "rlm", "coef"])
def test_magnitude_and_dominance_of_published_coefficients(fits: pd.DataFrame, fit: str) -> None:
    first, second = (f"{fit}_coef_first", f"{fit}_coef_second") if fit != "coef" else ("coef_first", "coef_second")
    np.testing.assert_allclose(magnitude(fits[first], fits[second]), fits[f"{fit}_norm2"], rtol=1e-12)
    if fit == "ts":
        known = (fits["ts_ratio"] > 0).to_numpy()
        found = dominance(fits[first], fits[second])[known]
        np.testing.assert_allclose(found, fits["abs_log_ts_ratio"][known], atol=1e-12)


@pytest.mark.mirror
def test_published_classes_have_the_scores_that_call_them(fits: pd.DataFrame, mirror: Path) -> None:
    """The mean probability that a pair of a class scores more like it than one that is not."""
    table = pd.read_csv(mirror / "norman_gi_classes" / "norman2019_GI_categories_gears.tsv.gz", sep="\t")
    table["pair"] = ["+".join(sorted(p.split("+"))) for p in table["pair"]]
    contributions = fits[["dcor_first", "dcor_second"]]
    scores = {
        "magnitude": fits["ts_norm2"],
        "model_fit": fits["corr_fit"],
        "similarity": fits["dcor"],
        "equality_of_contribution": contributions.min(axis=1) / contributions.max(axis=1),
    }
    names = {
        "synergy": "SYNERGY",
        "suppression": "SUPPRESSOR",
        "neomorphism": "NEOMORPHIC",
        "redundancy": "REDUNDANT",
        "epistasis": "EPISTASIS",
    }
    for kind, (score, sign) in CLASSES.items():
        members = fits.index.isin(table.loc[table["category"].str.startswith(names[kind]), "pair"])
        assert members.sum() >= 8
        assert roc_auc_score(members, sign * scores[score]) > 0.84, kind


@pytest.mark.mirror
def test_fits_of_the_public_slice_resemble_the_published_ones(fits: pd.DataFrame, mirror: Path, tmp_path: Path) -> None:
    """250 genes and up to 100 cells of a condition; the published fits had every gene and all cells."""
    options = PrepareOptions(control="control", value_kind="log1p_cp10k", keep={"dataset": "norman19"})
    prepare_perturbations(mirror / "norman_perturbench_devel" / "devel.h5ad", options, tmp_path)
    profiles = Profiles.read(tmp_path)
    change = dict(zip(profiles.conditions["sample"], profiles.mean - profiles.control_mean, strict=True))
    doubles = [s for s in change if s in fits.index and all(g in change for g in s.split("+"))]
    assert len(doubles) == 5
    found, expected = [], []
    for s in doubles:
        first, second = fits.loc[s, "pair"].split("_")
        assert gears_interaction(change[first], change[second], change[s]).magnitude < np.sqrt(2)  # as published:
        assert fits.loc[s, "ts_norm2"] < np.sqrt(2)  # these pairs make less than the sum of their parts
        found += ols_coefficients(change[first], change[second], change[s])
        expected += list(fits.loc[s, ["ts_coef_first", "ts_coef_second"]])
    assert np.corrcoef(found, np.array(expected, dtype=float))[0, 1] > 0.6
