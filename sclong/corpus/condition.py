"""A condition on cells, as text: columns of obs compared with values. It is parsed, never evaluated as Python."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from sclong.errors import InputDataError, listing

COMPARISONS: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
LANGUAGE = (
    "columns compared with values (==, !=, <, <=, >, >=, in [...], not in [...]), joined by and, or, not; a name that "
    "is no word in `backticks`"
)
LONGEST = 10_000


class _NotAllowedError(ValueError):
    """A part of the condition that the language does not have."""


def evaluate(condition: str, obs: pd.DataFrame, where: str) -> np.ndarray:
    """Return which cells a condition keeps.

    Parameters
    ----------
    condition
        ``donor == 'a' and n_genes > 200``, ``cell_type in ['T', 'B']``, ``not doublet``.
    obs : (cells, columns)
        Annotation of the cells.
    where
        What the condition is called in messages.

    Returns
    -------
    (cells,) bool
        A missing value equals nothing.

    Raises
    ------
    InputDataError
        The condition cannot be read, names a column that is not there, compares what cannot be compared, or is not
        true or false.
    """
    names: dict[str, str] = {}
    try:
        if len(condition) > LONGEST:
            raise _NotAllowedError(f"it has {len(condition)} characters")
        tree = ast.parse(_without_backticks(condition, names).strip(), mode="eval")
        wanted = _value(tree.body, obs, names)
    except (SyntaxError, TypeError, ValueError, RecursionError, MemoryError, KeyError) as error:
        raise InputDataError(
            f"{where}: {condition[:200]!r} cannot be evaluated: {error}",
            f"{LANGUAGE}; obs has {listing(obs.columns, 12)}",
            "correct keep_cells",
        ) from None
    out = np.asarray(wanted)
    if out.dtype != bool or out.shape != (len(obs),):
        raise InputDataError(
            f"{where}: {condition[:200]!r} is {out.dtype}, not true or false",
            "a condition that keeps cells",
            "correct keep_cells",
        )
    return out


def _without_backticks(condition: str, names: dict[str, str]) -> str:
    """Replace each name in backticks by a word, and write down which name it stands for."""
    parts = condition.split("`")
    if len(parts) % 2 == 0:
        raise _NotAllowedError("a backtick is missing")
    for place in range(1, len(parts), 2):
        word = f"__column_{place}"
        names[word] = parts[place]
        parts[place] = word
    return "".join(parts)


def _value(node: ast.expr, obs: pd.DataFrame, names: dict[str, str]) -> Any:
    """Return a column, a value, a list of values, or true or false for each cell."""
    match node:
        case ast.Constant(value=bool() | int() | float() | str() | None):
            return node.value
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as value)):
            return -value
        case ast.Name(id=word):
            column = names.get(word, word)
            if column not in obs:
                raise _NotAllowedError(f"name {column!r} is not a column")
            return obs[column]
        case ast.List(elts=items) | ast.Tuple(elts=items) | ast.Set(elts=items):
            return [_constant(item) for item in items]
        case ast.UnaryOp(op=ast.Not() | ast.Invert(), operand=inner):
            return ~_truth(_value(inner, obs, names))
        case ast.BoolOp(op=op, values=parts):
            join = np.logical_and if isinstance(op, ast.And) else np.logical_or
            return join.reduce([_truth(_value(part, obs, names)) for part in parts])
        case ast.BinOp(left=left, op=ast.BitAnd() | ast.BitOr() as op, right=right):
            first, second = _truth(_value(left, obs, names)), _truth(_value(right, obs, names))
            return first & second if isinstance(op, ast.BitAnd) else first | second
        case ast.Compare(left=left, ops=ops, comparators=others):
            values = [_value(part, obs, names) for part in (left, *others)]
            pairs = zip(values, ops, values[1:], strict=False)
            return np.logical_and.reduce([_compared(a, op, b) for a, op, b in pairs])
        case _:
            raise _NotAllowedError(f"{ast.unparse(node)[:80]!r} is no part of a condition")


def _constant(node: ast.expr) -> Any:
    value = _value(node, pd.DataFrame(), {})
    if isinstance(value, list):
        raise _NotAllowedError("a list in a list")
    return value


def _truth(value: Any) -> np.ndarray:
    out = np.asarray(value)
    if out.dtype == object and all(isinstance(v, bool | np.bool_) for v in out.ravel()):
        out = out.astype(bool)
    if out.dtype != bool or out.ndim != 1:
        raise _NotAllowedError("and, or, not join conditions, not values")
    return out


def _compared(first: Any, op: ast.cmpop, second: Any) -> np.ndarray:
    if not isinstance(first, pd.Series) and not isinstance(second, pd.Series):
        raise _NotAllowedError("a comparison needs a column")
    if isinstance(op, ast.In | ast.NotIn):
        if not isinstance(first, pd.Series) or not isinstance(second, list):
            raise _NotAllowedError("in needs a column before it and a list of values after it")
        inside = np.asarray(first.isin(second))
        return ~inside if isinstance(op, ast.NotIn) else inside
    compare = COMPARISONS.get(type(op))
    if compare is None or isinstance(first, list):
        raise _NotAllowedError(f"comparison {type(op).__name__}")
    if isinstance(second, list):  # pandas: a column equals a list where it is in it
        if not isinstance(op, ast.Eq | ast.NotEq):
            raise _NotAllowedError("a list is compared with in, == or !=")
        return _compared(first, ast.In() if isinstance(op, ast.Eq) else ast.NotIn(), second)
    if isinstance(first, pd.Series) and isinstance(second, pd.Series):
        first, second = first.astype(object), second.astype(object)
    elif isinstance(first, pd.Series) and isinstance(first.dtype, pd.CategoricalDtype):
        first = first.astype(first.cat.categories.dtype)
    elif isinstance(second, pd.Series) and isinstance(second.dtype, pd.CategoricalDtype):
        second = second.astype(second.cat.categories.dtype)
    return np.asarray(pd.Series(compare(first, second)).fillna(False), dtype=bool)
