"""Tab-separated tables, written atomically; strings stay strings when read."""

from __future__ import annotations

import zlib
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
        When a required column is missing; names the nearest column that exists. When the file is missing, empty,
        damaged, not UTF-8, or no table.
    """
    kwargs.setdefault("keep_default_na", False)
    kwargs.setdefault("na_values", [""])
    try:
        table: pd.DataFrame = pd.read_csv(path, sep=sep, **kwargs)  # type: ignore[call-overload]
    except (OSError, EOFError, ValueError, zlib.error) as error:  # pandas' own errors are ValueErrors
        raise InputDataError(
            f"{path} cannot be read as a table: {type(error).__name__}: {' '.join(str(error).split())[:200]}",
            f"a table in UTF-8, separated by {sep!r}" + (f", with {', '.join(required)}" if required else ""),
            "look at the file: it may be missing, empty, cut short, or of another format; fetch or make it again",
        ) from error
    missing = [c for c in required if c not in table.columns]
    if missing:
        like = nearest(missing[0], map(str, table.columns))
        raise InputDataError(
            f"{path}: no column {listing(missing)}; the columns are {listing(table.columns, 12)}",
            f"a table with the columns {', '.join(required)}",
            f"rename {like[0]!r} to {missing[0]!r}" if like else f"add the column {missing[0]!r}",
        )
    return table
