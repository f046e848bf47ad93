"""Pictures of the tables, as SVG text."""

from __future__ import annotations

import io
from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

ROLE_COLOURS = {
    "floor": "#8c8c8c",
    "ceiling": "#c9a227",
    "classical": "#3b75af",
    "ablation": "#e08214",
    "model": "#1b7837",
}

HIDDEN_CURVES = (
    ("held_out_loss_replaced", "scLong", "#1b7837", "o-"),
    ("baseline_tissue_mean", "mean of the cell's tissue", "#3b75af", "--"),
    ("baseline_gene_mean", "mean of the gene", "#8c8c8c", ":"),
    ("baseline_low_rank", "low-rank fit", "#d62728", "-."),
    ("baseline_nearest_cells", "nearest training cells", "#9467bd", ":"),
)


def svg(figure: Figure) -> str:
    """Return a figure as an SVG element, without the XML header."""
    FigureCanvasSVG(figure)
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": "sclong"})
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def scores_figure(summary: pd.DataFrame, metrics: pd.DataFrame, benchmark: str) -> str:
    """Draw a benchmark's primary metric: a point per model (mean), its 95 % interval, every seed, floor and ceiling.

    Parameters
    ----------
    summary, metrics
        The summary table, and the tidy scores behind it.
    benchmark
        Which benchmark.

    Returns
    -------
    str
        SVG element.
    """
    rows = summary[(summary["benchmark"] == benchmark) & summary["primary"].astype(bool)]
    rows = rows[rows["role"] != "published"]
    scenarios = list(dict.fromkeys(rows["scenario"]))
    models = list(dict.fromkeys(rows["model"]))[::-1]
    places = {model: y for y, model in enumerate(models)}
    figure = Figure(figsize=(2.2 + 3.0 * len(scenarios), 0.9 + 0.26 * len(models)), layout="constrained")
    axes = figure.subplots(1, len(scenarios), sharey=True, squeeze=False)[0]
    for axis, scenario in zip(axes, scenarios, strict=True):
        part = rows[rows["scenario"] == scenario].set_index("model")
        shown = pd.Series(draw_models(axis, part, metrics[metrics["benchmark"] == benchmark], places))
        for bound, style in (("floor", ":"), ("ceiling", "--")):
            if np.isfinite(part[bound].iloc[0]):
                axis.axvline(part[bound].iloc[0], color=ROLE_COLOURS[bound], ls=style, lw=1)
        margin = 0.08 * (shown.max() - shown.min() or 1.0)
        axis.set_xlim(shown.min() - margin, shown.max() + margin)  # wide intervals of few seeds are cut, not the means
        axis.set_title(scenario or "all", fontsize=9)
        better = "higher" if part["direction"].iloc[0] == "max" else "lower"
        axis.set_xlabel(f"{part['metric'].iloc[0]} ({better} is better)", fontsize=8)
        axis.tick_params(labelsize=8)
        axis.grid(axis="x", alpha=0.25)
    axes[0].set_yticks(range(len(models)), models)
    return svg(figure)


def draw_models(axis: Axes, part: pd.DataFrame, scores: pd.DataFrame, places: Mapping[str, int]) -> list[float]:
    """Draw the models of one scenario: means, 95 % intervals, every seed; means of the paper's protocol are hollow.

    Parameters
    ----------
    axis
        Where to draw.
    part
        Rows of the summary of one metric and scenario, indexed by model.
    scores
        Tidy scores of the benchmark.
    places
        Model -> its height.

    Returns
    -------
    list of float
        The means that are numbers.
    """
    here = scores[(scores["scenario"] == part["scenario"].iloc[0]) & (scores["metric"] == part["metric"].iloc[0])]
    for model, row in part.iterrows():
        y, colour = places[str(model)], ROLE_COLOURS[row["role"]]
        if np.isfinite(row["ci95_low"]):
            axis.plot([row["ci95_low"], row["ci95_high"]], [y, y], color=colour, lw=1.5, alpha=0.5)
        own = here.loc[here["model"] == model, "value"]
        axis.scatter(own, [y] * len(own), s=9, color=colour, alpha=0.6, linewidths=0)
        hollow = row["protocol"] == "paper"
        axis.scatter([row["mean"]], [y], s=32, color="white" if hollow else colour, edgecolors=colour, zorder=3)
    return list(part["mean"].dropna())


def training_figure(log: pd.DataFrame) -> str:
    """Draw losses over optimiser steps, and beside them hidden values of held-out donors against four controls.

    Parameters
    ----------
    log
        Lines of ``training.jsonl``: step, loss; where evaluated held_out_loss, held_out_loss_replaced,
        baseline_gene_mean and baseline_tissue_mean.
    """
    figure = Figure(figsize=(9, 2.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    if "loss" in log:
        train = log.dropna(subset=["loss"])
        left.plot(train["step"], train["loss"], color="#8c8c8c", lw=0.8, label="training cells")
    if "held_out_loss" in log:
        held = log.dropna(subset=["held_out_loss"])
        left.plot(held["step"], held["held_out_loss"], "o-", color="#1b7837", ms=4, label="held-out donors")
    left.set_ylabel("masked reconstruction\n(mean squared error)", fontsize=8)
    for column, label, colour, style in HIDDEN_CURVES:
        if column in log:
            line = log.dropna(subset=[column])
            right.plot(line["step"], line[column], style, color=colour, ms=4, lw=1, label=label)
    right.set_ylabel("hidden values of held-out\ndonors (mean squared error)", fontsize=8)
    for axis in (left, right):
        axis.set_xlabel("optimiser step", fontsize=8)
        axis.tick_params(labelsize=8)
        if axis.lines:
            axis.legend(fontsize=8, frameon=False)
        axis.grid(alpha=0.25)
    return svg(figure)
