"""Genetic perturbation, step problems: what a model may see of a fold."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from sclong.benchmark.names import REMAKE_SPLIT, align
from sclong.benchmark.problem import Problem
from sclong.tasks.genetic_perturbation.cells import ConditionCells
from sclong.tasks.genetic_perturbation.dataset import PerturbationContext, Profiles, graph_genes, read_go_terms
from sclong.tasks.genetic_perturbation.genes import GeneSets


def problems(dataset: Path, split: pd.DataFrame, *, sees_truth: bool = False) -> Iterator[Problem[PerturbationContext]]:
    """Yield the fold; samples in the order of the split."""
    profiles, sets = Profiles.read(dataset), GeneSets.read(dataset)
    go_terms = read_go_terms(dataset)
    genes = profiles.conditions["genes"].to_numpy()
    ids = dict(zip(profiles.perturbed.tolist(), profiles.perturbed_ids.tolist(), strict=True))
    for fold, rows in split.groupby("fold", sort=False):
        samples = rows.set_index("sample")[["part", "scenario"]]
        at = align(profiles.conditions["sample"], samples.index, "the conditions", REMAKE_SPLIT)
        samples["genes"] = genes[at]
        row_of = dict(zip(map(str, samples.index), at.tolist(), strict=True))
        hidden = (samples["part"] == "test").to_numpy() & (not sees_truth)
        targets = profiles.mean[at].copy()
        targets[hidden] = np.nan
        seen = {s: row for (s, row), hide in zip(row_of.items(), hidden, strict=True) if not hide}
        context = PerturbationContext(
            annotated_genes=graph_genes(profiles),
            go_terms=go_terms,
            control_mean=profiles.control_mean,
            gene_names=profiles.symbols.tolist(),
            perturbed_ids=ids,
            de={s: sets.top_ranked(row) for s, row in seen.items()},
            non_zero={s: np.flatnonzero(sets.non_zero[row]) for s, row in seen.items()},
            cells=ConditionCells(dataset / "cells.h5ad", seen),
            expression=dataset / "expression.h5ad",
            half_a=profiles.half_a[at] if sees_truth else None,
            half_b=profiles.half_b[at] if sees_truth else None,
        )
        yield Problem("genetic_perturbation", str(fold), samples, targets, list(map(str, profiles.genes)), context)
