"""Genetic perturbation, step figure: a panel per scenario, lines for simple answers, marks for the paper."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from sclong.config.cards import BenchmarkCard, PaperNumber
from sclong.report.drawing import Drawing
from sclong.report.figures import ROLE_COLOURS, draw_models, svg
from sclong.report.tables import paper_number

SIMPLE = {"additive": ("additive", "#d62728", "-."), "train_mean": ("training mean", "#9467bd", "-")}
BOUNDS = {"floor": ("floor", ROLE_COLOURS["floor"], ":"), "ceiling": ("ceiling", ROLE_COLOURS["ceiling"], "--")}


def figure(drawing: Drawing) -> str:
    """Draw the figure of a benchmark (:func:`perturbation_figure`); an SVG element."""
    published = {name: card.published_as for name, card in drawing.models.items()}
    return perturbation_figure(drawing.summary, drawing.scores, drawing.card.name, drawing.card, published)


def perturbation_figure(
    summary: pd.DataFrame,
    metrics: pd.DataFrame,
    benchmark: str,
    card: BenchmarkCard,
    published: Mapping[str, str | None] | None = None,
) -> str:
    """Draw the primary metric: a panel per scenario, a row per model with its mean, 95 % interval and every seed.

    Lines over all rows: the best floor and ceiling, the additive model and the training mean, where they were run.
    Published values are diamonds, on the row of their model or on a row of their own below; "paper, other data" says
    that they were not measured on these cells. Rows of the paper's protocol are marked.

    Parameters
    ----------
    summary, metrics
        The summary table, and the tidy scores behind it.
    benchmark
        Which benchmark.
    card
        Its card: the published values.
    published
        Model -> its name among published values, where that is another.

    Returns
    -------
    str
        SVG element.
    """
    rows = summary[(summary["benchmark"] == benchmark) & summary["primary"].astype(bool)]
    rows = rows[rows["role"] != "published"]
    scenarios, models = list(dict.fromkeys(rows["scenario"])), list(dict.fromkeys(rows["model"]))
    names = {model: (published or {}).get(model) or model for model in models}
    paper = paper_values(card, scenarios)
    others = sorted({p.model for p in paper.values()} - {_among(names[m], paper) for m in models})
    places = {name: y for y, name in enumerate([*models, *(f"paper: {name}" for name in others)][::-1])}
    canvas = Figure(figsize=(2.6 + 2.6 * len(scenarios), 1.3 + 0.24 * len(places)), layout="constrained")
    axes = canvas.subplots(1, len(scenarios), sharey=True, squeeze=False)[0]
    for axis, scenario in zip(axes, scenarios, strict=True):
        part = rows[rows["scenario"] == scenario].set_index("model")
        shown = draw_models(axis, part, metrics[(metrics["benchmark"] == benchmark)], places)
        shown += _draw_lines(axis, part)
        for model in models:
            shown += _draw_paper(axis, paper.get((names[model].lower(), scenario)), places[model])
        for name in others:
            shown += _draw_paper(axis, paper.get((name.lower(), scenario)), places[f"paper: {name}"])
        margin = 0.06 * (max(shown) - min(shown) or 1.0)
        axis.set_xlim(min(shown) - margin, max(shown) + margin)  # wide intervals of few seeds are cut, not the means
        axis.set_title(scenario, fontsize=9)
        axis.tick_params(labelsize=8)
        axis.grid(axis="x", alpha=0.25)
    protocols = rows.drop_duplicates("model").set_index("model")["protocol"]
    labels = [f"{name} (paper's protocol)" if protocols.get(name) == "paper" else name for name in places]
    axes[0].set_yticks(list(places.values()), labels)
    better = "higher" if rows["direction"].iloc[0] == "max" else "lower"
    canvas.supxlabel(f"{rows['metric'].iloc[0]} ({better} is better)", fontsize=9)
    other_data = not rows["verdict"].ne("").any() or rows["verdict"].str.startswith("not comparable").any()
    canvas.legend(
        handles=_legend(rows, bool(paper), other_data), loc="outside upper center", ncols=5, fontsize=8, frameon=False
    )
    return svg(canvas)


def paper_values(card: BenchmarkCard, scenarios: list[str]) -> dict[tuple[str, str], PaperNumber]:
    """Return (model in lower case, scenario) -> the published value of the primary metric."""
    keys = {(p.model.lower(), p.scenario) for p in card.paper if p.scenario in scenarios and p.mark != "anchor"}
    found = {key: paper_number(card, *key, card.primary_metric) for key in sorted(keys)}
    return {key: number for key, number in found.items() if number is not None}


def _among(name: str, paper: Mapping[tuple[str, str], PaperNumber]) -> str:
    """Return a model's name as the published values write it, or nothing."""
    return next((p.model for (model, _), p in paper.items() if model == name.lower()), "")


def _draw_lines(axis: Axes, part: pd.DataFrame) -> list[float]:
    """Draw floor, ceiling and the simple models; return where."""
    at = {name: float(part.loc[name, "mean"]) for name in SIMPLE if name in part.index}
    at |= {name: float(part[name].iloc[0]) for name in BOUNDS}  # on top: the best floor may be the training mean
    drawn = {name: x for name, x in at.items() if np.isfinite(x)}
    for name, x in drawn.items():
        _, colour, style = {**BOUNDS, **SIMPLE}[name]
        axis.axvline(x, color=colour, ls=style, lw=1, gid=f"line {name}")
    return list(drawn.values())


def _draw_paper(axis: Axes, number: PaperNumber | None, y: int) -> list[float]:
    """Draw a published value; return where."""
    if number is None:
        return []
    axis.scatter([number.value], [y], marker="D", s=26, facecolors="none", edgecolors="black", zorder=4)
    return [number.value]


def _legend(rows: pd.DataFrame, any_paper: bool, other_data: bool) -> list[Line2D]:
    """Explain lines and marks."""
    lines = [v for name, v in BOUNDS.items() if rows[name].notna().any()]
    lines += [v for name, v in SIMPLE.items() if (rows["model"] == name).any()]
    handles = [Line2D([], [], color=colour, ls=style, lw=1, label=label) for label, colour, style in lines]
    if any_paper:
        label = "paper, other data" if other_data else "paper"
        handles.append(Line2D([], [], color="black", marker="D", ls="", markerfacecolor="none", ms=5, label=label))
    return handles
