"""Predict the mean expression of cells in which one or two genes were perturbed, for perturbations never seen.

Definitions follow the published evaluation: the data, the differentially expressed genes, the ``simulation`` split and
the metrics of GEARS (Roohani et al. 2024), as used in the scLong paper.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from pydantic import Field

from sclong.benchmark.options import check_policy, parse_options
from sclong.benchmark.problem import SPLIT_COLUMNS, UNIT_COLUMNS, Features, Predictions, Problem
from sclong.benchmark.task import Task
from sclong.config.cards import Strict
from sclong.errors import InputDataError
from sclong.tasks.genetic_perturbation.gene_effects import fit_predict_gene_effects
from sclong.tasks.genetic_perturbation.go import annotate_screen, go_context
from sclong.tasks.genetic_perturbation.profiles import (
    ConditionCells,
    GeneSets,
    PrepareOptions,
    Profiles,
    prepare_perturbations,
)
from sclong.tasks.genetic_perturbation.scores import (
    CONDITION_METRICS,
    DOUBLES,
    INTERACTION_METRICS,
    SCENARIOS,
    condition_scores,
    interaction_scores,
)


class SplitOptions(Strict):
    """Options of the split policy ``simulation``."""

    train_gene_fraction: float = Field(default=0.75, gt=0, lt=1)
    train_double_fraction: float = Field(default=0.75, gt=0, lt=1)


def simulation_split(
    labels: Sequence[str], genes: Sequence[Sequence[str]], gene_fraction: float, double_fraction: float, seed: int
) -> list[str]:
    """Cut conditions by perturbed gene, exactly as published (S(P, f1, f2) with numpy's legacy generator).

    Of the sorted perturbed genes a fraction is drawn: the training genes. Their singles are training. Doubles with
    exactly one training gene are test. Of the doubles with two training genes, in the order of their sorted labels,
    a fraction drawn by a generator with the same seed is training, the rest test. Everything else is test.

    Parameters
    ----------
    labels
        Conditions as the data write them: doubles are drawn in the order of their labels, not of their sorted genes.
    genes
        Perturbed genes of each condition (one or two).
    gene_fraction, double_fraction
        f1 and f2; products with counts are rounded down.
    seed
        Of ``numpy.random.RandomState``.

    Returns
    -------
    list of str
        "train" or the scenario of each condition.
    """
    all_genes = np.unique([g for pair in genes for g in pair])
    drawn = np.random.RandomState(seed).choice(all_genes, int(len(all_genes) * gene_fraction), replace=False)
    train_genes = set(drawn)
    seen = [sum(g in train_genes for g in pair) for pair in genes]
    both = np.unique([lab for lab, pair, k in zip(labels, genes, seen, strict=True) if k == len(pair) == 2])
    kept = set(np.random.RandomState(seed).choice(both, int(len(both) * double_fraction), replace=False))

    def part(label: str, pair: Sequence[str], k: int) -> str:
        in_training = (len(pair) == 1 and k == 1) or label in kept
        return "train" if in_training else f"seen_{k}_of_{len(pair)}"

    return [part(*row) for row in zip(labels, genes, seen, strict=True)]


class GeneticPerturbation(Task):
    """Mean expression after a perturbation; see the module.

    ``Problem.samples`` has the columns part, scenario and genes ("A|B"); targets are mean log1p(CP10k) profiles.
    ``Problem.context``: control_mean (G,), gene_names (symbols of the outputs), perturbed_ids (symbol of a perturbed
    gene -> its name among ``Features.genes``), expression (path of the control cells that are embedded), go_genes and,
    where the card names an annotation, go_terms (:mod:`.go`). Of the training and validation
    samples only: de (sample -> positions of its first 20 ranked genes, ascending), non_zero (sample -> positions of its
    non-zero genes), cells (:class:`.ConditionCells`). With ``sees_truth`` these speak of the
    test samples too, and half_a and half_b (samples, G) are the mean profiles of two random halves of each sample's
    cells.
    """

    name = "genetic_perturbation"
    native = "perturbation_prediction"
    needs = "gene_embedding"
    metrics: ClassVar[Mapping[str, str]] = {**CONDITION_METRICS, **INTERACTION_METRICS}

    def prepare(self, inputs: Mapping[str, Path], options: Mapping[str, Any], out: Path) -> dict[str, Any]:
        """Average cells by condition and rank genes: :func:`.prepare_perturbations`."""
        facts = prepare_perturbations(inputs["expression"], parse_options(PrepareOptions, options, self.name), out)
        return facts | annotate_screen(out, inputs)

    def split(self, dataset: Path, policy: str, options: Mapping[str, Any], seed: int) -> pd.DataFrame:
        """Cut with :func:`simulation_split`; validation is S(train, 0.9, 0.9) with the same seed, as published."""
        check_policy(policy, ["simulation"], self.name)
        chosen = parse_options(SplitOptions, options, f"{self.name}, split simulation")
        conditions = Profiles.read(dataset).conditions
        genes = [g.split("|") for g in conditions["genes"]]
        labels = list(conditions["label"])
        parts = simulation_split(labels, genes, chosen.train_gene_fraction, chosen.train_double_fraction, seed)
        inner = [i for i, part in enumerate(parts) if part == "train"]
        again = simulation_split([labels[i] for i in inner], [genes[i] for i in inner], 0.9, 0.9, seed) if inner else []
        rows = [("0", s, "test", p) for s, p in zip(conditions["sample"], parts, strict=True)]
        for i, part in zip(inner, again, strict=True):
            rows[i] = ("0", conditions["sample"].iloc[i], "train" if part == "train" else "validation", "")
        if not any(row[2] == "train" for row in rows):
            raise InputDataError(
                f"split simulation leaves no training condition ({len(rows)} conditions)",
                "conditions enough for a training, a validation and a test part (about ten perturbed genes)",
                "use data with more perturbations",
            )
        return pd.DataFrame(rows, columns=list(SPLIT_COLUMNS))

    def problems(self, dataset: Path, split: pd.DataFrame, *, sees_truth: bool = False) -> Iterator[Problem]:
        """Yield the fold; samples in the order of the split."""
        profiles, sets = Profiles.read(dataset), GeneSets.read(dataset)
        genes = profiles.conditions.set_index("sample")["genes"]
        place = pd.Index(profiles.conditions["sample"])
        ids = dict(zip(profiles.perturbed.tolist(), profiles.perturbed_ids.tolist(), strict=True))
        for fold, rows in split.groupby("fold", sort=False):
            samples = rows.set_index("sample")[["part", "scenario"]]
            samples["genes"] = genes[samples.index]
            row_of = dict(zip(map(str, samples.index), place.get_indexer(samples.index).tolist(), strict=True))
            at = list(row_of.values())
            hidden = (samples["part"] == "test").to_numpy() & (not sees_truth)
            targets = profiles.mean[at].copy()
            targets[hidden] = np.nan
            seen = {s: row for (s, row), hide in zip(row_of.items(), hidden, strict=True) if not hide}
            halves = {"half_a": profiles.half_a[at], "half_b": profiles.half_b[at]} if sees_truth else {}
            yield Problem(
                self.name,
                str(fold),
                samples,
                targets,
                list(map(str, profiles.genes)),
                {
                    "control_mean": profiles.control_mean,
                    "gene_names": profiles.symbols.tolist(),
                    "perturbed_ids": ids,
                    "de": {s: sets.top_ranked(row) for s, row in seen.items()},
                    "non_zero": {s: np.flatnonzero(sets.non_zero[row]) for s, row in seen.items()},
                    "cells": ConditionCells(dataset / "cells.h5ad", seen),
                    "expression": dataset / "expression.h5ad",
                    **go_context(dataset, profiles),
                    **halves,
                },
            )

    def solve(self, problem: Problem, features: Features, seed: int) -> np.ndarray:
        """Predict the change from control with :func:`.fit_predict_gene_effects`.

        The head has a closed form: `seed` changes nothing.
        """
        vectors_PD, perturbed_CP = perturbed_vectors(problem, features)
        control = problem.context["control_mean"]
        parts = (problem.rows(part) for part in ("train", "validation", "test"))
        delta = fit_predict_gene_effects(vectors_PD, perturbed_CP, problem.targets - control, *parts)
        return (delta + control).astype(np.float32)

    def score(self, dataset: Path, split: pd.DataFrame, predictions: Predictions) -> pd.DataFrame:
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

    def unit_scores(self, dataset: Path, split: pd.DataFrame, predictions: Predictions) -> pd.DataFrame:
        """Score each test condition: columns scenario, unit (the condition), metric, value; undefined ones left out."""
        table = condition_scores(dataset, split, predictions).rename(columns={"sample": "unit"})
        long = table.melt(["scenario", "unit"], list(CONDITION_METRICS), "metric", "value")
        return long.dropna(subset="value")[list(UNIT_COLUMNS)].reset_index(drop=True)


def perturbed_vectors(problem: Problem, features: Features) -> tuple[np.ndarray, np.ndarray]:
    """Look up the vectors of the perturbed genes.

    Returns
    -------
    vectors : (P, d) float64
        One row per perturbed gene, in alphabetical order, standardised over the genes of the data set dimension by
        dimension. A gene that the model does not know has the mean vector of the perturbed genes that it does know.
    perturbed : (samples, P) float64
        1 where a condition perturbs the gene.
    """
    assert features.gene_embedding is not None
    table = features.gene_embedding.astype(np.float64)
    table = (table - table.mean(axis=0)) / (table.std(axis=0) + 1e-8)
    row = {name: i for i, name in enumerate(features.genes)}
    pairs = [genes.split("|") for genes in problem.samples["genes"]]
    genes = sorted({g for pair in pairs for g in pair})
    rows = np.array([row[problem.context["perturbed_ids"][g]] for g in genes])
    vectors, known = table[rows], np.asarray(features.gene_mapped)[rows]
    vectors[~known] = vectors[known].mean(axis=0) if known.any() else 0.0
    return vectors, np.array([[float(g in pair) for g in genes] for pair in pairs])


TASK = GeneticPerturbation()
