"""How triples of two drugs and a line are cut, for :mod:`.task`.

A policy has units that never stand on both sides: ``random`` the pair of drugs in a line (a triple that was measured
twice stays together), ``leave_combination_out`` the pair of drugs, ``leave_drug_out`` the drug, ``leave_tissue_out``
the tissue of the line. A test part is published, or drawn; the validation part is drawn from what is left, from units
of the same kind (of lines, where tissues are left out: few tissues are left).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from sclong.drugs.features import drugs_of
from sclong.errors import InputDataError, listing
from sclong.io.tables import read_tsv
from sclong.seeding import rng

POLICIES = ("random", "leave_combination_out", "leave_drug_out", "leave_tissue_out", "independent")
TRIPLE = ["drug1", "drug2", "cell", "label"]
BY_DRUG = ("leave_drug_out", "independent")


def read_labels(path: Path) -> pd.DataFrame:
    """Read triples with labels: columns drug1, drug2, cell, label; comma separated if the file is a .csv.

    Raises
    ------
    InputDataError
        For a label that is neither 0 nor 1.
    """
    sep = "," if path.suffix == ".csv" else "\t"
    triples = read_tsv(path, TRIPLE, sep=sep, dtype={"drug1": str, "drug2": str, "cell": str})[TRIPLE]
    wrong = triples[~triples["label"].isin([0, 1])]
    if len(wrong):
        raise InputDataError(
            f"{path}: labels {listing(wrong['label'].unique())}",
            "0 or 1 in the column label",
            "cut the synergy score at a threshold first",
        )
    return triples


def published_folds(triples: pd.DataFrame, files: Sequence[Path]) -> pd.DataFrame:
    """Find the triples of each published test fold: columns fold, sample.

    Raises
    ------
    InputDataError
        When a file has triples that the data does not.
    """
    key = pd.MultiIndex.from_frame(triples[["drug1", "drug2", "cell"]])
    out = []
    for fold, path in enumerate(files):
        rows = read_labels(path)
        wanted = pd.MultiIndex.from_frame(rows[["drug1", "drug2", "cell"]])
        unknown = ~wanted.isin(key)
        if unknown.any():
            raise InputDataError(
                f"{path}: {int(unknown.sum())} triples that the data does not have",
                "folds of the same data",
                "name the files of one release in the card",
            )
        samples = triples.loc[key.isin(wanted), "sample"]
        out.append(pd.DataFrame({"fold": str(fold), "sample": samples}))
    return pd.concat(out, ignore_index=True)


def with_drug(triples: pd.DataFrame, drugs: set[str]) -> np.ndarray:
    """Return which triples have one of some drugs, (n,) bool."""
    return (triples["drug1"].isin(drugs) | triples["drug2"].isin(drugs)).to_numpy()


def measured_unit(triples: pd.DataFrame) -> pd.Series:
    """Return the name of the two drugs, without order, and the line of each triple."""
    return triples["combination"] + "|" + triples["cell"]


def _units(triples: pd.DataFrame, policy: str) -> pd.Series:
    return {
        "random": measured_unit(triples),
        "leave_combination_out": triples["combination"],
        "leave_tissue_out": triples["cell"],
    }[policy]


def drawn_folds(triples: pd.DataFrame, policy: str, folds: int, seed: int) -> list[set[str]]:
    """Draw test folds: a policy's units are divided among folds; a triple with any of the held drugs is in the test.

    Leaving tissues out draws nothing: each tissue is a fold.

    Raises
    ------
    InputDataError
        When lines have no tissue, or all have the same.
    """
    if policy == "leave_tissue_out":
        tissues = sorted(set(triples["tissue"]) - {""})
        if len(tissues) < 2:
            raise InputDataError(
                f"the lines have {len(tissues)} tissues",
                "two or more, in the column `tissue` of the expression's obs",
                "add the column, or name published folds in the card",
            )
        return [set(triples.loc[triples["tissue"] == tissue, "sample"]) for tissue in tissues]
    units = drugs_of(triples) if policy in BY_DRUG else np.unique(_units(triples, policy))
    parts = np.array_split(rng("drug combination folds", policy, seed).permutation(units), folds)
    rows = [
        with_drug(triples, set(part)) if policy in BY_DRUG else _units(triples, policy).isin(set(part)).to_numpy()
        for part in parts
    ]
    return [set(triples.loc[chosen, "sample"]) for chosen in rows]


def validation_rows(
    triples: pd.DataFrame, part: np.ndarray, policy: str, fraction: float, seed: int, fold: int
) -> np.ndarray:
    """Return the positions of a fold's validation triples: units of the policy's kind, held out of the training."""
    train = np.flatnonzero(part == "train")
    rows = triples.iloc[train]
    units = drugs_of(rows) if policy in BY_DRUG else np.unique(_units(rows, policy))
    n = max(1, round(fraction * len(units)))
    held = set(rng("drug combination validation", policy, seed, fold).choice(units, n, replace=False))
    return train[with_drug(rows, held) if policy in BY_DRUG else _units(rows, policy).isin(held).to_numpy()]
