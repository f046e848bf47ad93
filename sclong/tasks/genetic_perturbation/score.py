"""Genetic perturbation, step score: each test condition, and the interactions of the test doubles."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from sclong.benchmark.names import REMAKE_SPLIT, align
from sclong.benchmark.predictions import answers_to
from sclong.benchmark.problem import UNIT_COLUMNS, Predictions
from sclong.benchmark.regression import mse, pearson, pearson_delta
from sclong.tasks.genetic_perturbation.dataset import Profiles
from sclong.tasks.genetic_perturbation.genes import GeneSets
from sclong.tasks.genetic_perturbation.interactions import (
    CLASSES,
    Interaction,
    gears_interaction,
    magnitude,
    ols_coefficients,
    share_found,
)
from sclong.tasks.genetic_perturbation.metrics import (
    cosine_distances,
    direction_accuracy,
    discrimination,
    l1_distances,
    pearson_around,
)
from sclong.tasks.genetic_perturbation.task import CONDITION_METRICS, GEARS_SCORES, INTERACTION_METRICS

SCENARIOS = ("seen_0_of_1", "seen_0_of_2", "seen_1_of_2", "seen_2_of_2")
DOUBLES = "doubles"
OLS_GENES, OLS_CALLS, GEARS_CALLS = 50, 15, 10
HIGH_MEAN, MOST_GENES, FEWEST_GENES = 0.25, 1000, 20
FEWEST_DOUBLES = 8


def score(dataset: Path, split: pd.DataFrame, predictions: Predictions) -> pd.DataFrame:
    """Average each metric over the conditions of a scenario, every condition with the same weight.

    The scenario "doubles" holds the metrics of genetic interactions, averaged over folds; it is not there when the
    test part has fewer than eight doubles whose singles were measured. Scores of each condition:
    :func:`.condition_scores`.
    """
    table = condition_scores(dataset, split, predictions)
    rows: list[tuple[str, str, float, int, str]] = [
        (scenario, metric, float(values.mean()), len(values), "conditions")
        for scenario in SCENARIOS
        for metric in CONDITION_METRICS
        if len(values := table.loc[table["scenario"] == scenario, metric].dropna())
    ]
    folds = [interaction_scores(dataset, split, predictions, fold) for fold in split["fold"].unique()]
    for metric in INTERACTION_METRICS:
        if found := [(fold[metric], fold["doubles"]) for fold in folds if metric in fold]:
            value, doubles = np.mean([v for v, _ in found]), sum(int(n) for _, n in found)
            rows.append((DOUBLES, metric, float(value), doubles, "doubles"))
    return pd.DataFrame(rows, columns=["scenario", "metric", "value", "n", "unit"])


def unit_scores(dataset: Path, split: pd.DataFrame, predictions: Predictions) -> pd.DataFrame:
    """Score each test condition: columns scenario, unit (the condition), metric, value; undefined ones left out."""
    table = condition_scores(dataset, split, predictions).rename(columns={"sample": "unit"})
    long = table.melt(["scenario", "unit"], list(CONDITION_METRICS), "metric", "value")
    return long.dropna(subset="value")[list(UNIT_COLUMNS)].reset_index(drop=True)


def condition_scores(dataset: Path, split: pd.DataFrame, predictions: Predictions) -> pd.DataFrame:
    """Score every test condition.

    Parameters
    ----------
    dataset
        Folder of the data set.
    split
        The split table.
    predictions
        Predictions of all test conditions of all folds.

    Returns
    -------
    DataFrame
        Columns fold, sample, scenario, then the metrics of `CONDITION_METRICS`; NaN where one is not defined (no gene
        changes, no other condition).
    """
    profiles, sets = Profiles.read(dataset), GeneSets.read(dataset)
    conditions = profiles.conditions.set_index("sample")
    control = profiles.control_mean
    out = []
    for fold in split["fold"].unique():
        rows, values = answers_to(split, predictions, fold, profiles.genes)
        at = align(conditions.index, rows["sample"], "the conditions", REMAKE_SPLIT)
        truth = profiles.mean[at]
        train = split.loc[(split["fold"] == fold) & (split["part"] == "train"), "sample"]
        trained = align(conditions.index, train, "the conditions", REMAKE_SPLIT)
        train_mean = profiles.mean[trained].mean(axis=0, dtype=np.float64)
        genes = list(conditions.loc[rows["sample"], "genes"])
        table = rows[["fold", "sample", "scenario"]].assign(
            mse_all_genes=mse(truth, values),
            pearson_delta_all_genes=pearson_delta(truth, values, control),
            pearson_around_train_mean_all_genes=pearson_around(truth, values, train_mean),
            discrimination_l1_all_genes=discrimination(l1_distances(values, truth), genes),
            discrimination_cosine_delta_all_genes=discrimination(
                cosine_distances(values - control, truth - control), genes
            ),
        )
        chosen = [
            _on_chosen_genes(t, v, control, train_mean, sets.non_dropout_de(row), sets.top_ranked(row))
            for t, v, row in zip(truth, values, at, strict=True)
        ]
        out.append(pd.concat([table, pd.DataFrame(chosen)], axis=1))
    return pd.concat(out, ignore_index=True)[["fold", "sample", "scenario", *CONDITION_METRICS]]


def _on_chosen_genes(
    truth: np.ndarray,
    prediction: np.ndarray,
    control: np.ndarray,
    train_mean: np.ndarray,
    non_dropout: np.ndarray,
    ranked: np.ndarray,
) -> dict[str, float]:
    """Return the metrics of one condition that look at its differentially expressed genes only."""
    t, v, c, m = (x[non_dropout] for x in (truth, prediction, control, train_mean))
    return {
        "mse_top20_de_non_dropout": float(mse(t, v)),
        "pearson_delta_top20_de_non_dropout": float(pearson_delta(t, v, c)),
        "direction_accuracy_top20_de_non_dropout": direction_accuracy(t, v, c),
        "pearson_around_train_mean_top20_de_non_dropout": float(pearson_around(t, v, m)),
        "mse_top20_de": float(mse(truth[ranked], prediction[ranked])),
        "pearson_delta_top20_de": float(pearson_delta(truth[ranked], prediction[ranked], control[ranked])),
    }


def interaction_scores(dataset: Path, split: pd.DataFrame, predictions: Predictions, fold: str) -> dict[str, float]:
    """Score the interactions of the test doubles of a fold whose two singles are in the data set.

    Returns
    -------
    dict
        Metric of `INTERACTION_METRICS` -> value, and "doubles" -> how many. Empty with fewer than 8 such doubles. What
        needs more is left out: precision at 10 needs 40 doubles, the definition ``gears`` 20 genes of high mean.
    """
    profiles, sets = Profiles.read(dataset), GeneSets.read(dataset)
    rows, values = answers_to(split, predictions, fold, profiles.genes)
    row_of = {s: i for i, s in enumerate(profiles.conditions["sample"])}
    predicted = dict(zip(rows["sample"], values.astype(np.float64) - profiles.control_mean, strict=True))
    true = {s: profiles.mean[i].astype(np.float64) - profiles.control_mean for s, i in row_of.items()}
    singles: dict[str, list[str]] = {}
    for sample, genes in zip(profiles.conditions["sample"], profiles.conditions["genes"], strict=True):
        singles.setdefault(genes, []).append(sample)
    pairs = dict(zip(profiles.conditions["sample"], profiles.conditions["genes"].str.split("|"), strict=True))
    doubles = [s for s in rows["sample"] if len(pairs[s]) == 2 and all(g in singles for g in pairs[s])]
    if len(doubles) < FEWEST_DOUBLES:
        return {}

    def single(gene: str, shown: bool) -> np.ndarray:
        """Mean change of a gene alone: true, or (shown) as predicted where it is tested."""
        return np.mean([predicted.get(s, true[s]) if shown else true[s] for s in singles[gene]], axis=0)

    changes = {g: (single(g, False), single(g, True)) for s in doubles for g in pairs[s]}
    scores: dict[str, float] = {"doubles": len(doubles)}
    sizes = np.empty((2, len(doubles)))
    for i, s in enumerate(doubles):
        genes = sets.order[row_of[s], :OLS_GENES]
        a, b = (changes[g][0][genes] for g in pairs[s])
        sizes[:, i] = [magnitude(*ols_coefficients(a, b, d[s][genes])) for d in (true, predicted)]
    scores |= _ols_metrics(*sizes.round(4))

    high = np.argsort(-profiles.control_mean, kind="stable")[:MOST_GENES]
    high = high[profiles.control_mean[high] >= HIGH_MEAN]
    if len(high) >= FEWEST_GENES:
        found = [
            [
                gears_interaction(changes[a][which][high], changes[b][which][high], delta[s][high])
                for s, (a, b) in ((s, pairs[s]) for s in doubles)
            ]
            for which, delta in enumerate((true, predicted))
        ]
        scores |= _gears_metrics(*found)
    return scores


def _ols_metrics(truth: np.ndarray, prediction: np.ndarray) -> dict[str, float]:
    """Compare magnitudes by the definition ``ols50``."""
    calls = min(OLS_CALLS, len(truth) // 4)
    out = {"gi_ols50_magnitude_pearson": float(pearson(truth, prediction))}
    for kind, sign in (("synergy", 1), ("suppression", -1)):
        out[f"gi_ols50_{kind}_overlap"] = share_found(truth, prediction, calls, calls, sign)
        if calls >= 10:
            out[f"gi_ols50_{kind}_precision_at_10"] = share_found(truth, prediction, 10, calls, sign)
    return out


def _gears_metrics(truth: list[Interaction], prediction: list[Interaction]) -> dict[str, float]:
    """Compare the four scores, and the calls of the five classes, by the definition ``gears``."""
    table = {
        score: [np.round([getattr(pair, score) for pair in pairs], 4) for pairs in (truth, prediction)]
        for score in GEARS_SCORES
    }
    out = {f"gi_gears_{score}_pearson": float(pearson(both[0], both[1])) for score, both in table.items()}
    if len(truth) >= 4 * GEARS_CALLS:
        for kind, (score, sign) in CLASSES.items():
            out[f"gi_gears_{kind}_precision_at_10"] = share_found(
                table[score][0], table[score][1], GEARS_CALLS, GEARS_CALLS, sign
            )
    return out
