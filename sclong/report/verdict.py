"""What an own number says of a published one: agreement by interval and margin, or why nothing can be said.

The published value p has a margin m: the larger of its own standard deviation (of any publication of the same number)
and `RELATIVE_MARGIN` of its size. The own result has a mean and a 95 % interval [low, high], or no interval (one seed,
or a row without randomness).

| own interval | verdict |
|---|---|
| lies within [p - m, p + m] | agrees |
| lies wholly outside | differs |
| overlaps the border | cannot tell: the interval is too wide |
| there is none | agrees or differs by the mean alone, and says so |
"""

from __future__ import annotations

import math

from sclong.config.cards import DataSpec, PaperNumber

RELATIVE_MARGIN = 0.02
"""Smallest margin, as a share of the published value."""


def margin(paper: PaperNumber) -> float:
    """Return the margin within which an own result agrees with a published value."""
    return max(paper.sd or 0.0, RELATIVE_MARGIN * abs(paper.value))


def verdict(
    mean: float, low: float, high: float, paper: PaperNumber | None, spec: DataSpec, direction: str, protocol: str
) -> str:
    """Compare an own result with a published one, in words.

    Parameters
    ----------
    mean, low, high
        Own mean and 95 % interval; NaN: there is none.
    paper
        The published number; None: there is none.
    spec
        The data that was used.
    direction
        Of the metric: "max" or "min".
    protocol
        Of the row: published numbers were made under the paper's.

    Returns
    -------
    str
        "" without a published number; "not comparable: ..." on other data; "no value: ..." where the own score is not
        defined; else "agrees", "differs" or "cannot tell" with the reason (see the table above), and the protocol where
        it is not the paper's.
    """
    if paper is None:
        return ""
    if not spec.comparable:
        return f"not comparable: {spec.why_not_comparable or 'other data'}"
    if math.isnan(mean):
        return "no value: the score is not defined here"
    under = "" if protocol == "paper" else f" ({protocol} protocol; the published number is under the paper's)"
    m = margin(paper)
    within = f"within {m:.2g} of the published value"
    if math.isnan(low) or math.isnan(high) or low == high:
        near = abs(mean - paper.value) <= m
        text = f"agrees: {within}" if near else _differs(mean, paper, direction)
        return f"{text}, by one value without an interval{under}"
    if paper.value - m <= low and high <= paper.value + m:
        return f"agrees: the interval is {within}{under}"
    if high < paper.value - m or low > paper.value + m:
        return _differs(mean, paper, direction) + under
    return f"cannot tell: the interval is too wide for a margin of {m:.2g}{under}"


def _differs(mean: float, paper: PaperNumber, direction: str) -> str:
    better = (mean > paper.value) == (direction == "max")
    return "differs: better than published, look for a leak first" if better else "differs: worse than published"
