"""Tab-separated tables, written atomically; strings stay strings when read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from sclong.errors import InputDataError, listing, nearest
from sclong.io.files import atomic_path


def write_tsv(table: pd.DataFrame, path: str | Path) -> None:
    """Write `table` without its index, tab separated, ten significant digits, atomically."""
    with atomic_path(path) as tmp:
        table.to_csv(tmp, sep="\t", index=False, float_format="%.10g", lineterminator="\n")


def read_tsv(path: str | Path, required: Sequence[str] = (), sep: str = "\t", **kwargs: object) -> pd.DataFrame:
    """Read a table and check that the `required` columns are there.

    Raises
    ------
    InputDataError
        When a required column is missing; names the nearest column that exists.
    """
    kwargs.setdefault("keep_default_na", False)
    kwargs.setdefault("na_values", [""])
    table: pd.DataFrame = pd.read_csv(path, sep=sep, **kwargs)  # type: ignore[call-overload]
    missing = [c for c in required if c not in table.columns]
    if missing:
        like = nearest(missing[0], map(str, table.columns))
        raise InputDataError(
            f"{path}: no column {listing(missing)}; the columns are {listing(table.columns, 12)}",
            f"a table with the columns {', '.join(required)}",
            f"rename {like[0]!r} to {missing[0]!r}" if like else f"add the column {missing[0]!r}",
        )
    return table
