"""Chemical perturbation, step problems: what a model may see of the fold."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from sclong.benchmark.names import REMAKE_SPLIT, align
from sclong.benchmark.problem import Problem
from sclong.tasks.chemical_perturbation.dataset import SignatureContext, Signatures


def problems(dataset: Path, split: pd.DataFrame, *, sees_truth: bool = False) -> Iterator[Problem[SignatureContext]]:
    """Yield the fold: samples in the order of the split (columns: :class:`.SignatureContext`), targets are z-scores.

    Parameters
    ----------
    dataset
        Prepared folder.
    split
        Of this data set.
    sees_truth
        Whether the targets of test samples are shown; NaN otherwise.
    """
    signatures = Signatures.read(dataset)
    context = SignatureContext(gene_vectors=signatures.gene_vectors)
    table = signatures.samples.set_index("sample")[["pert_id", "cell_id", "dose_um", "smiles"]]
    for fold, rows in split.groupby("fold", sort=False):
        at = align(table.index, rows["sample"], "the signatures: samples", REMAKE_SPLIT)
        samples = rows.set_index("sample")[["part", "scenario"]].join(table)
        targets = signatures.values[at].copy()
        if not sees_truth:
            targets[(samples["part"] == "test").to_numpy()] = np.nan
        yield Problem("chemical_perturbation", str(fold), samples, targets, signatures.genes.tolist(), context)
