"""The step split: a data set is cut into training, validation and test samples, before any feature selection."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import pandas as pd

from sclong.benchmark.problem import PARTS, SPLIT_COLUMNS
from sclong.benchmark.registry import load_task
from sclong.errors import InputDataError, listing
from sclong.io.tables import read_tsv, write_tsv
from sclong.runlog import LOGGER


def make_split(
    task: str, dataset: Path, policy: str, options: Mapping[str, Any], seed: int, out: Path, *, folds: int | None = None
) -> None:
    """Cut a data set as its benchmark card says, and write the split file.

    Parameters
    ----------
    task
        Name of the task.
    dataset
        Folder of the prepared data set.
    policy, options, seed
        Of the card: ``split``, ``split_options``, ``split_seed``.
    out
        TSV file to write.
    folds
        Keep only the first folds; None: all.
    """
    split = load_task(task).split(dataset, policy, options, seed).astype(str)
    if folds is not None:
        split = split[split["fold"].isin(split["fold"].unique()[:folds])]
    check_split(split, needs_validation=True)
    write_tsv(split, out)
    LOGGER.info("%s: %s", out.stem, split.groupby(["fold", "part"]).size().to_dict())


def read_split(path: Path) -> pd.DataFrame:
    """Read a split file; ids stay strings."""
    return read_tsv(path, SPLIT_COLUMNS, dtype=str, na_values=[])


def check_split(split: pd.DataFrame, needs_validation: bool) -> None:
    """Check that a split meets the strict protocol.

    Raises
    ------
    InputDataError
        When columns or parts are wrong, a sample appears twice in a fold, a fold has no test sample, or training
        samples exist without a validation part.
    """

    def fail(found: str, expected: str) -> NoReturn:
        raise InputDataError(f"split: {found}", expected, "correct the task's split, or the split options of the card")

    if tuple(split.columns) != SPLIT_COLUMNS:
        fail(f"columns {list(split.columns)}", f"columns {list(SPLIT_COLUMNS)}")
    unknown = set(split["part"]) - set(PARTS)
    if unknown:
        fail(f"parts {listing(sorted(unknown))}", f"parts {', '.join(PARTS)}")
    twice = split.duplicated(["fold", "sample"])
    if twice.any():
        row = split[twice].iloc[0]
        fail(f"sample {row['sample']!r} appears twice in fold {row['fold']!r}", "each sample once per fold")
    for fold, rows in split.groupby("fold"):
        parts = set(rows["part"])
        if "test" not in parts:
            fail(f"fold {fold!r} has no test sample", "at least one test sample per fold")
        if needs_validation and "train" in parts and "validation" not in parts:
            fail(f"fold {fold!r} has no validation sample", "a validation part apart from the test part")
