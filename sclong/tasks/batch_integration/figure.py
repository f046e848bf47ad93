"""Batch integration, step figure: UMAP of each embedding, with cells coloured by batch, and by cell type."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from sclong.benchmark.names import align
from sclong.benchmark.predictions import read_predictions
from sclong.config.cards import ModelCard
from sclong.report.drawing import Drawing
from sclong.report.figures import svg
from sclong.seeding import rng
from sclong.tasks.batch_integration.dataset import read_labels

FITTED = "the cells of the data set itself"
MAX_CELLS = 1000
COLUMNS = 3


def figure(drawing: Drawing) -> str:
    """Draw the embedding of each model with its first seed; titles say what the model has seen (:func:`row_note`).

    Returns
    -------
    str
        SVG element: controls first, then models that never saw these cells, then those fitted to them. Empty where
        there are no predictions.
    """
    if not drawing.predictions:
        return ""
    labels = read_labels(drawing.dataset)
    order, cards = ["control", "zero-shot", "fitted to these cells"], drawing.models
    embeddings = {}
    for name in sorted(drawing.predictions, key=lambda name: (order.index(row_note(cards[name])), name)):
        predictions = read_predictions(drawing.predictions[name])
        what = f"predictions of {name!r}: cells"
        rows = align(predictions.sample, labels.index, what, "make the predictions again")
        embeddings[f"{cards[name].title} ({row_note(cards[name])})"] = predictions.values[rows]
    return umap_figure(embeddings, labels["batch"].to_numpy(str), labels["cell_type"].to_numpy(str))


def row_note(card: ModelCard) -> str:
    """Say what a model of a batch integration table has seen: "control", "zero-shot" or "fitted to these cells".

    "fitted to these cells" are the models whose card says ``trained_on: the cells of the data set itself``.
    """
    if card.role in ("floor", "ceiling"):
        return "control"
    return "fitted to these cells" if card.trained_on.startswith(FITTED) else "zero-shot"


def umap_figure(
    embeddings: Mapping[str, np.ndarray],
    batch: Sequence[str] | np.ndarray,
    label: Sequence[str] | np.ndarray,
    *,
    seed: int = 0,
    max_cells: int = MAX_CELLS,
) -> str:
    """Draw every embedding twice: coloured by batch and by cell type.

    Parameters
    ----------
    embeddings
        Title of the row -> (cells, d) float.
    batch, label : (cells,)
        Of each cell, in the order of the embeddings.
    seed
        Of UMAP, and of the choice of cells.
    max_cells
        Only this many cells, drawn at random, the same for all embeddings.

    Returns
    -------
    str
        SVG element; the points are pixels inside it, so that its size does not grow with the cells.
    """
    batch, label = np.asarray(batch, dtype=str), np.asarray(label, dtype=str)
    chosen = np.sort(rng("umap cells", seed).permutation(len(batch))[:max_cells])
    n_rows = -(-len(embeddings) // COLUMNS)
    canvas = Figure(figsize=(3.4 * COLUMNS, 1.85 * n_rows + 0.9), layout="constrained", dpi=110)
    axes = canvas.subplots(n_rows, 2 * COLUMNS, squeeze=False)
    for axis in axes.ravel():
        axis.set_axis_off()
    colours = [_colours(values) for values in (batch, label)]
    for place, (title, embedding) in enumerate(embeddings.items()):
        xy = plane(np.asarray(embedding)[chosen], seed)
        row, column = divmod(place, COLUMNS)
        for side, (values, palette) in enumerate(zip((batch, label), colours, strict=True)):
            axis = axes[row, 2 * column + side]
            axis.scatter(xy[:, 0], xy[:, 1], s=3, c=[palette[v] for v in values[chosen]], linewidths=0, rasterized=True)
            axis.set_title(title if side == 0 else "", fontsize=7, loc="left")
    legends: tuple[tuple[dict[str, str], str, Literal["outside lower left", "outside lower right"]], ...] = (
        (colours[0], "batch", "outside lower left"),
        (colours[1], "cell type", "outside lower right"),
    )
    for palette, name, where in legends:
        handles = [Line2D([], [], marker="o", ls="", ms=4, color=c, label=v) for v, c in palette.items()]
        canvas.legend(
            handles=handles,
            title=f"{name} ({'left' if name == 'batch' else 'right'} panels)",
            loc=where,
            ncols=3,
            fontsize=6,
            title_fontsize=7,
            frameon=False,
        )
    return svg(canvas)


def plane(embedding: np.ndarray, seed: int) -> np.ndarray:
    """Lay cells out in the plane: UMAP, 15 neighbours; (cells, 2) float64.

    An embedding with fewer than 16 different points has no neighbourhoods to show: its points are put on a circle, in
    their order, with their cells scattered a little around them.
    """
    values = np.asarray(embedding, dtype=np.float32)
    points, point = np.unique(values, axis=0, return_inverse=True)
    if len(points) < 16:
        angle = 2 * np.pi * point.ravel() / len(points)
        scatter = rng("umap scatter", seed).normal(0, 0.05, (len(values), 2))
        return np.column_stack([np.cos(angle), np.sin(angle)]) + scatter
    from umap import UMAP

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="n_jobs value|.*force_all_finite.*|Graph is not fully connected")
        layout = UMAP(n_neighbors=15, random_state=seed, n_jobs=1).fit_transform(_narrow(values))
    return np.asarray(layout, dtype=np.float64)


def _narrow(values: np.ndarray) -> np.ndarray:
    """Leading 50 principal components of wide embeddings: neighbours in thousands of dimensions are slow to find."""
    if values.shape[1] <= 50 or len(values) <= 50:
        return values
    from sklearn.decomposition import PCA

    return np.asarray(PCA(50, svd_solver="randomized", random_state=0).fit_transform(values))


def _colours(values: np.ndarray) -> dict[str, str]:
    """Give each value a colour, in the order of sorted values."""
    from matplotlib.colors import to_hex

    names = sorted(set(values.tolist()))
    palette = colormaps["tab10" if len(names) <= 10 else "tab20"]
    return {name: to_hex(palette(i % palette.N)) for i, name in enumerate(names)}
