"""Which matrix of a file holds the counts: a rule, and a refusal where the rule would have to guess."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import sparse

from sclong.cells.matrix import Matrix, sampled
from sclong.cells.normalize import is_almost_integer
from sclong.errors import InputDataError, listing, nearest

COUNTS_LAYERS = ("counts", "count", "raw_counts")
PARTS = ("spliced", "unspliced", "ambiguous", "mature", "nascent", "spanning", "intronic", "exonic")
"""Layers of velocyto, kallisto and alevin: each holds a part of a cell's counts."""
LEAST_ROWS = 8
HIGHEST_BIN = 255
LEAST_ONES = 1000
NO_COUNTS = "no place holds counts"
NOT_COUNTS = {
    "ones": "only 0 and 1 (whether a gene was detected)",
    "bins": "bin numbers: every cell has the same highest value",
    "ranks": "ranks: no value appears twice in a cell",
    "negative": "values below zero, NaN or infinite",
    "fractions": "values that are not integers",
    "empty": "nothing but zeros",
}


@dataclass
class Place:
    """A place where a matrix may stand.

    Attributes
    ----------
    label
        "X", "raw", or "layers['NAME']".
    layer
        Name of the layer, or None.
    open : callable
        Returns the matrix.
    names : callable
        Returns the names of its columns, as they stand in its own var.
    """

    label: str
    layer: str | None
    open: Callable[[], Matrix]
    names: Callable[[], Sequence[str]]

    @cached_property
    def matrix(self) -> Matrix:
        """The matrix; its structure has been checked."""
        return self.open()

    @cached_property
    def sample(self) -> sparse.csr_matrix:
        """Some cells from the beginning, the middle and the end."""
        out = self.matrix.rows(sampled(self.matrix.shape[0]))
        out.sum_duplicates()
        return out

    @cached_property
    def verdict(self) -> str:
        """What the values are: "counts", or a key of `NOT_COUNTS`."""
        if self.layer and "binned" in self.layer.lower():
            return "bins"
        return what_values_are(self.sample)

    @property
    def option(self) -> str:
        """How ``--layer`` names it."""
        return self.layer or self.label


@dataclass(frozen=True)
class Choice:
    """The place that is read, why, and whether its values are integers but for rounding."""

    place: Place
    rule: str
    rounds: bool


def what_values_are(sample: sparse.csr_matrix) -> str:
    """Say what the values of some cells are: "counts", or a key of `NOT_COUNTS`.

    Counts are integers of which some are above 1. Not every matrix of integers is one of counts: binned values have the
    same maximum in every cell, and ranks never appear twice in a cell.
    """
    data = sample.data[sample.data != 0]
    if not len(data):
        return "empty"
    if not np.isfinite(data).all() or (data < 0).any():
        return "negative"
    if not is_almost_integer(data).all():
        return "fractions"
    data = np.rint(data)
    if data.max() <= 1:
        return "ones"
    rows = [np.rint(row[row != 0]) for row in np.split(sample.data, sample.indptr[1:-1])]
    rows = [row for row in rows if len(row)]
    if len(rows) >= LEAST_ROWS:
        if all(len(np.unique(row)) == len(row) for row in rows) and np.median([len(row) for row in rows]) >= 20:
            return "ranks"
        highest = np.array([row.max() for row in rows])
        most = np.unique(highest, return_counts=True)[1].max()
        if 3 <= data.max() <= HIGHEST_BIN and most >= 0.95 * len(rows) and np.median(highest) == data.max():
            return "bins"
    return "counts"


def choose_matrix(places: Sequence[Place], layer: str | None, value_kind: str, where: str) -> Choice:
    """Choose the matrix that is read.

    A layer that is named; X where the values are said to be no counts; else X where it holds counts; else ``.raw``
    where it does; else a layer called counts; else the only layer of counts. Where X and raw hold the same counts and
    raw has more genes, raw. Where another place holds other counts, nothing is guessed; it may hold a part of the
    counts that are chosen (velocyto's spliced beside the whole), or the same counts times a number.

    Parameters
    ----------
    places
        Where matrices stand, X first, then raw, then layers.
    layer
        What the user named.
    value_kind
        "counts", or another.
    where
        The file, for messages.

    Raises
    ------
    InputDataError
        No such layer (with the nearest); places that hold different counts; no counts but bins, ranks or detections.
    """
    if not places:
        raise InputDataError(f"{where}: no matrix", "X, raw or a layer", "write the counts into the file")
    if layer is not None:
        place = named(places, layer, where)
        return Choice(place, "named", value_kind == "counts" and place.verdict not in ("fractions", "negative"))
    if value_kind != "counts":
        return Choice(places[0], f"value_kind is {value_kind}", False)
    counts = [place for place in places if place.verdict == "counts"]
    if not counts:
        return _without_counts(places, where)
    counts.sort(key=_preference)
    first, rule, rest = counts[0], "holds counts", counts[1:]
    if first.layer in PARTS:
        raise _refusal(places, where, f"of matrices of counts there are only parts: {listing(p.label for p in counts)}")
    if rest and first.label == "X" and rest[0].label == "raw":
        if relation(first, rest[0]) != "same":
            raise _refusal(places, where, "X and raw hold different counts")
        if rest[0].matrix.shape[1] > first.matrix.shape[1]:
            rule = f"holds the counts of X and of {rest[0].matrix.shape[1] - first.matrix.shape[1]:,} more genes"
            first, rest = rest[0], rest[1:]
        else:
            rest = rest[1:]
    parts = []
    for other in rest:
        kind = relation(first, other)
        if kind == "part" and (first.layer is None or _called_counts(first)):
            parts.append(other.label)
        elif kind != "same":
            raise _refusal(places, where, f"{first.label} and {other.label} hold different integers")
    if parts:
        rule += f"; {', '.join(parts)} hold no value above it and are left"
    return Choice(first, rule, True)


def named(places: Sequence[Place], name: str, where: str) -> Place:
    """Return the place that a user named: X, raw, NAME of a layer, or layers/NAME.

    Raises
    ------
    InputDataError
        There is none; or ``.raw`` and a layer called raw, which are not the same thing.
    """
    wanted = name.strip()
    inner = wanted.removeprefix("layers/").removeprefix("layers[").removesuffix("]").strip("'\"")
    if wanted == inner:
        own = [
            p for p in places if p.layer is None and wanted in (p.label, f".{p.label}", f"{p.label}.X", f"{p.label}/X")
        ]
        layers = [p for p in places if p.layer == wanted]
        if own and layers and wanted == "raw":
            raise InputDataError(
                f"{where}: there is .raw, and a layer called raw",
                "one of them",
                "write layer: .raw, or layer: layers/raw (--layer .raw, --layer layers/raw)",
            )
        found = own or layers
    else:
        found = [p for p in places if p.layer == inner]
    if not found:
        options = [p.option for p in places]
        like = nearest(inner, options)
        raise InputDataError(
            f"{where}: no {name!r}; there is {listing(options)}",
            "the place of the raw counts",
            f"write layer: {like[0] if like else options[0]}",
        )
    return found[0]


def relation(first: Place, other: Place) -> str:
    """Compare the sampled counts of two places on the genes that both have.

    Returns
    -------
    str
        "same": equal, or the cells of one are multiples of the other's, which normalisation makes equal. "part": no
        value of `other` is above that of `first`. Else "other".
    """
    a, b = _on_shared_genes(first, other)
    if a is None or b is None:
        return "other"
    a, b = np.rint(a.toarray().astype(np.float64)), np.rint(b.toarray().astype(np.float64))
    totals_a, totals_b = a.sum(1, keepdims=True), b.sum(1, keepdims=True)
    if ((totals_a > 0) == (totals_b > 0)).all() and np.allclose(a * totals_b, b * totals_a, rtol=1e-6, atol=0):
        return "same"
    return "part" if (b <= a).all() else "other"


def _on_shared_genes(first: Place, other: Place) -> tuple[sparse.csr_matrix | None, sparse.csr_matrix | None]:
    names_a, names_b = list(first.names()), list(other.names())
    if names_a == names_b:
        return first.sample, other.sample
    where_b = {name: i for i, name in reversed(list(enumerate(names_b)))}
    columns = [i for i, name in enumerate(names_a) if name in where_b]
    if not columns:
        same_size = len(names_a) == len(names_b)
        return (first.sample, other.sample) if same_size else (None, None)
    return first.sample[:, columns], other.sample[:, [where_b[names_a[i]] for i in columns]]


def _preference(place: Place) -> tuple[int, str]:
    """Order X, raw, layers called counts, other layers; by name, since files and memory order layers differently."""
    if place.layer is None:
        return ["X", "raw"].index(place.label), ""
    return 2 + (not _called_counts(place)), place.layer


def _called_counts(place: Place) -> bool:
    return (place.layer or "").lower() in COUNTS_LAYERS


def _without_counts(places: Sequence[Place], where: str) -> Choice:
    first = places[0]
    wrong = first.verdict in ("bins", "ranks") or (first.verdict == "ones" and first.sample.nnz >= LEAST_ONES)
    if first.label != "X" or wrong:
        raise _refusal(places, where, f"no matrix of counts; {first.label} holds {NOT_COUNTS[first.verdict]}")
    return Choice(first, NO_COUNTS, first.verdict == "ones")


def _refusal(places: Sequence[Place], where: str, found: str) -> InputDataError:
    listed = "; ".join(
        f"{p.label}: {NOT_COUNTS.get(p.verdict, f'counts, {p.sample.sum() / max(p.sample.shape[0], 1):,.0f} a cell')}"
        for p in places
    )
    counts = [p for p in places if p.verdict == "counts"]
    counts.sort(key=lambda p: (not _called_counts(p), p.layer in PARTS, -p.sample.sum()))  # the likeliest first
    options = [p.option for p in counts] or [places[0].option]
    return InputDataError(
        f"{where}: {found} ({listed})",
        "one matrix of raw counts, whole cells",
        f"choose one of {listing(options, 8)}, for example --layer {options[0]} (in Python and in the configuration: "
        "layer)",
    )
