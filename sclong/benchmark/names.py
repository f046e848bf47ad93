"""Rows and columns are found by their names, never by their places: one function for predictions and features."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd

from sclong.errors import InputDataError, listing

REMAKE_SPLIT = "make the split again: it belongs to another data set"
REMAKE_EMBEDDING = "delete the embedding's folder and let it be made again"


def align(
    found: Iterable[object],
    wanted: Iterable[object],
    what: str,
    action: str,
    *,
    exactly: bool = False,
    missing: bool = False,
) -> np.ndarray:
    """Return the place of each wanted name among the names that were found.

    Parameters
    ----------
    found
        Names of the rows (or columns) of an array, in any order; each at most once.
    wanted
        Names, in the order that is needed; a name may be wanted several times.
    what
        What has these rows ("predictions of fold '0': samples"): begins the error.
    action
        What the reader can do.
    exactly
        Refuse names that are not wanted.
    missing
        Return -1 for names that were not found, instead of an error.

    Returns
    -------
    (wanted,) int64
        ``found[place]`` is `wanted`.

    Raises
    ------
    InputDataError
        A name is found twice, or missing, or (with `exactly`) not wanted.
    """
    there, names = (pd.Index([str(name) for name in some], dtype=object) for some in (found, wanted))
    if not there.is_unique:
        twice = sorted(set(there[there.duplicated()]))
        raise InputDataError(f"{what}: {listing(twice)} appear twice", "every name once", action)
    places = there.get_indexer(names)
    lacking = [] if missing else list(dict.fromkeys(names[places < 0]))
    extra = list(there.difference(names)) if exactly else []
    if lacking or extra:
        parts = [f"missing: {listing(lacking)}"] if lacking else []
        parts += [f"not expected: {listing(extra)}"] if extra else []
        raise InputDataError(
            f"{what}: {len(there)} names; {'; '.join(parts)}",
            f"{'exactly ' if exactly else ''}the {names.nunique()} names {listing(dict.fromkeys(names), 3)}",
            action,
        )
    return np.asarray(places, dtype=np.int64)


def output_names(outputs: Iterable[str], width: int) -> list[str]:
    """Name the columns of a prediction: as the outputs, or, of several arrays side by side, ``0:A, 0:B, 1:A, 1:B``.

    Parameters
    ----------
    outputs
        Names of the targets.
    width
        Columns of the prediction.

    Raises
    ------
    InputDataError
        The width is no multiple of the number of outputs.

    Examples
    --------
    >>> output_names(["A", "B"], 2)
    ['A', 'B']
    >>> output_names(["label"], 3)
    ['0:label', '1:label', '2:label']
    """
    names = [str(name) for name in outputs]
    if not names or not width or width % len(names):
        raise InputDataError(
            f"a prediction of {width} columns",
            f"one column for each of {len(names)} outputs, or several such arrays side by side",
            "correct the model's adapter",
        )
    if width == len(names):
        return names
    return [f"{array}:{name}" for array in range(width // len(names)) for name in names]
