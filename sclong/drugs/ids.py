"""Identifiers of drugs, mapped to structures by files: names, PubChem, GDSC and Broad ids.

Every map is a table of two columns as its publisher wrote it; ids are strings and match whole. Maps follow one another
(GDSC id -> PubChem id -> SMILES).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from sclong.errors import InputDataError, listing, nearest
from sclong.io.tables import read_tsv


def named_smiles(path: Path) -> dict[str, str]:
    """Read names and SMILES: a table with the columns ``name`` or ``drug_id``, and ``smiles`` or ``smile``.

    Comma separated if the file is a .csv, else by tabs (DeepDDS' ``smiles.csv`` is such a table).

    Raises
    ------
    InputDataError
        When a column is missing, or a name has two structures.
    """
    table = read_tsv(path, sep="," if path.suffix == ".csv" else "\t", dtype=str)
    columns = [
        next((c for c in pair if c in table.columns), pair[0]) for pair in (("name", "drug_id"), ("smiles", "smile"))
    ]
    lacking = [c for c in columns if c not in table.columns]
    if lacking:
        raise InputDataError(
            f"{path}: no column {listing(lacking)}; the columns are {listing(table.columns)}",
            "a table of name (or drug_id) and smiles",
            "rename or add the column",
        )
    return _unique(table[columns], path)


def gdsc_to_pubchem(path: Path) -> dict[str, str]:
    """Read GDSC's list of drugs (columns ``drug_id``, ``PubCHEM``): GDSC id -> PubChem id, where that is a number.

    Raises
    ------
    InputDataError
        A drug with two PubChem ids, or no PubChem id at all.
    """
    table = read_tsv(path, ["drug_id", "PubCHEM"], sep=",", dtype=str)[["drug_id", "PubCHEM"]]
    numbers = table["PubCHEM"].fillna("").str.fullmatch(r"\d+")
    if not numbers.any():
        raise InputDataError(
            f"{path}: no PubChem id in the column PubCHEM ({listing(table['PubCHEM'], 3)})",
            "ids like 3385",
            "write them as whole numbers",
        )
    return _unique(table[numbers], path)


def pubchem_smiles(path: Path) -> dict[str, str]:
    """Read PubChem ids and SMILES: two columns, tabs, no header (DeepCDR's ``223drugs_pubchem_smiles.txt``)."""
    return _unique(read_tsv(path, header=None, dtype=str).iloc[:, :2], path)


def broad_smiles(path: Path) -> dict[str, str]:
    """Read Broad ids (BRD-...) and SMILES: two columns, commas, no header (DeepCE's ``drugs_smiles.csv``)."""
    return _unique(read_tsv(path, sep=",", header=None, dtype=str).iloc[:, :2], path)


def _unique(table: pd.DataFrame, path: Path) -> dict[str, str]:
    if table.shape[1] < 2:
        raise InputDataError(
            f"{path}: one column, which begins {listing(table.iloc[:, 0], 1)}",
            "two columns: id and answer",
            "separate the columns as the other files of this kind do (by tabs, or by commas)",
        )
    table = table.dropna().drop_duplicates()
    twice = table.iloc[:, 0][table.iloc[:, 0].duplicated()]
    if len(twice):
        raise InputDataError(f"{path}: {listing(twice)} with two answers", "one for each id", "correct the file")
    return dict(zip(*(table[c] for c in table.columns), strict=True))


def resolve(ids: Sequence[str], *maps: Mapping[str, str]) -> tuple[list[str], pd.DataFrame]:
    """Follow ids through maps, one after the other.

    Returns
    -------
    answers
        One per id; empty where a map does not have it.
    report
        One row per id: ``id``, ``answer``, ``what`` ("" or "not in map 1", counted from 1).
    """
    rows = []
    for one in ids:
        answer, what = str(one), ""
        for step, table in enumerate(maps, start=1):
            if answer not in table:
                answer, what = "", f"not in map {step}"
                break
            answer = table[answer]
        rows.append((str(one), answer, what))
    report = pd.DataFrame(rows, columns=["id", "answer", "what"])
    return report["answer"].tolist(), report


def structures_of(names: Sequence[str], table: Mapping[str, str]) -> list[str]:
    """Return the SMILES of each name.

    Raises
    ------
    InputDataError
        Names the drugs that the table does not have, and the nearest name that it has.
    """
    answers, report = resolve(names, table)
    unknown = sorted(set(report.loc[report["what"] != "", "id"]))
    if unknown:
        like = nearest(unknown[0], table)
        raise InputDataError(
            f"{len(unknown)} drugs are not in the table of drugs: {listing(unknown)}",
            "a structure for every drug, by the same name",
            f"add their SMILES{f', or write {like[0]!r} for {unknown[0]!r}' if like else ''}",
        )
    return answers
