"""Pictures of the corpus, as SVG text."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sclong.corpus.summary import BIN
from sclong.report.figures import svg

SHOWN = 15
COLOUR = "#3b75af"


def corpus_figure(cells: pd.DataFrame, genes: pd.DataFrame) -> str:
    """Draw cells by source, tissue and assay, genes per cell, and cells per gene.

    Parameters
    ----------
    cells, genes
        The tables that :func:`~sclong.corpus.summary.summarise_corpus` wrote.

    Returns
    -------
    str
        SVG element.
    """
    groups = {name: cells[cells["group"] == name] for name in ("source", "tissue", "assay")}
    rows = max(min(len(group), SHOWN) for group in groups.values())
    figure = Figure(figsize=(10, 3.2 + 0.2 * rows), layout="constrained")
    top, bottom = np.asarray(figure.subfigures(2, 1, height_ratios=[0.6 + 0.2 * rows, 2.6]))
    for axis, (name, group) in zip(top.subplots(1, 3), groups.items(), strict=True):
        _bars(axis, group, name)
    left, right = bottom.subplots(1, 2)
    histogram = cells[cells["group"] == "genes_per_cell"]
    edges = histogram["name"].astype(float).to_numpy()
    left.bar(edges, histogram["cells"], width=BIN, align="edge", color=COLOUR)
    left.set_xlabel("detected genes of a cell", fontsize=8)
    left.set_ylabel("cells", fontsize=8)
    share = np.sort(genes["cells"].to_numpy() / max(histogram["cells"].sum(), 1))[::-1]
    right.plot(np.arange(1, len(share) + 1), 100 * share, color=COLOUR)
    never = int((genes["cells"] == 0).sum())
    right.set_xlabel(f"genes of the vocabulary, most detected first ({never:,} of {len(genes):,} never)", fontsize=8)
    right.set_ylabel("% of cells", fontsize=8)
    for axis in (left, right):
        axis.tick_params(labelsize=7)
        axis.grid(alpha=0.25)
    return svg(figure)


def _bars(axis: Axes, group: pd.DataFrame, name: str) -> None:
    shown = group.head(SHOWN)
    names = shown["name"].fillna("not said").astype(str)
    labels = [label if len(label) < 26 else f"{label[:24]}…" for label in names]
    axis.barh(range(len(shown))[::-1], shown["cells"], color=COLOUR)
    axis.set_yticks(range(len(shown))[::-1], labels, fontsize=7)
    more = f", {SHOWN} of {len(group)}" if len(group) > SHOWN else ""
    axis.set_title(f"cells by {name}{more}", fontsize=9)
    axis.tick_params(axis="x", labelsize=7)
    axis.grid(axis="x", alpha=0.25)
