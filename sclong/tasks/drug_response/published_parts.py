"""Published splits of drug response: files that name pairs, and the pairs that were measured."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from sclong.errors import InputDataError, listing
from sclong.io.tables import read_tsv


def read_published_parts(paths: Sequence[Path], pairs: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, int]]:
    """Find the pairs of published split files (columns cellline, drug, ic50; drug is a PubChem id).

    Parameters
    ----------
    paths
        Files of the training, (validation,) and test part, in this order.
    pairs
        All that were measured: columns sample, pubchem, cell_line, ln_ic50.

    Returns
    -------
    parts
        Columns sample, part. What a file has and `pairs` has not is not in it.
    lost
        How many rows of each part's file that is.

    Raises
    ------
    InputDataError
        A wrong number of files, a file of which less than half is among the pairs, or a pair in two of them.
    """
    names = {2: ("train", "test"), 3: ("train", "validation", "test")}.get(len(paths))
    if names is None:
        raise InputDataError(
            f"{len(paths)} files of a split",
            "training and test part, or training, validation and test part",
            "correct the inputs of the benchmark's card",
        )
    columns = {"cellline": str, "drug": str, "ic50": float}
    key = ["pubchem", "cell_line", "ic50"]
    pairs = pairs.dropna(subset=["pubchem"]).assign(ic50=pairs["ln_ic50"].round(4))[["sample", *key]]
    tables, lost = [], {}
    for path, part in zip(paths, names, strict=True):
        table = read_tsv(path, list(columns), sep=",", dtype=columns)
        table = table.rename(columns={"cellline": "cell_line", "drug": "pubchem"}).round({"ic50": 4})
        known = table.merge(pairs[key].drop_duplicates(), on=key, how="left", indicator="found")["found"] == "both"
        if known.sum() == 0 or known.mean() < 0.5:
            raise InputDataError(
                f"{path}: {int(known.sum())} of {len(table)} rows are measured pairs; {_reason(table[~known], pairs)}",
                "cellline, drug (PubChem id) and ic50 (ln uM, to four decimals) as in the table of responses",
                "correct the file, or leave this split out of the card's inputs: it is then drawn",
            )
        lost[part] = int((~known).sum())
        tables.append(table[key].drop_duplicates().assign(part=part))
    found = pairs.merge(pd.concat(tables), on=key)[["sample", "part"]].drop_duplicates()
    twice = found["sample"].duplicated()
    if twice.any():
        raise InputDataError(
            f"pair {found['sample'][twice].iloc[0]!r} is in two parts of {listing(p.name for p in paths)}",
            "every pair in one part",
            "fetch the files again",
        )
    return found, lost


def _reason(lost: pd.DataFrame, pairs: pd.DataFrame) -> str:
    """Say what most of the rows that were not found have and no pair has."""
    if lost.empty:
        return "the file is empty"
    drug, line = (~lost[column].isin(pairs[column]) for column in ("pubchem", "cell_line"))
    causes = {
        "a drug that is not among the PubChem ids of the responses": lost.loc[drug, "pubchem"],
        "a line that is not among the responses": lost.loc[line & ~drug, "cell_line"],
        "another value than the responses": lost.loc[~drug & ~line, "ic50"],
    }
    what = max(causes, key=lambda cause: len(causes[cause]))
    return f"{len(causes[what])} have {what} ({listing(causes[what].unique(), 3)})"
