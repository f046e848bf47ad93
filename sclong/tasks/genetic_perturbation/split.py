"""Genetic perturbation, step split: conditions are cut by their perturbed genes, as published."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pydantic import Field

from sclong.benchmark.options import check_policy, parse_options
from sclong.benchmark.problem import SPLIT_COLUMNS
from sclong.config.cards import Strict
from sclong.errors import InputDataError
from sclong.tasks.genetic_perturbation.dataset import Profiles


class SplitOptions(Strict):
    """Options of the split policy ``simulation``."""

    train_gene_fraction: float = Field(default=0.75, gt=0, lt=1)
    train_double_fraction: float = Field(default=0.75, gt=0, lt=1)


def split(dataset: Path, policy: str, options: Mapping[str, Any], seed: int) -> pd.DataFrame:
    """Cut with :func:`simulation_split`; validation is S(train, 0.9, 0.9) with the same seed, as published."""
    check_policy(policy, ["simulation"], "genetic_perturbation")
    chosen = parse_options(SplitOptions, options, "genetic_perturbation, split simulation")
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
