"""Scores of an integrated cell embedding: is biology kept, are batches mixed. Each lies in 0..1, higher is better.

The definitions are those of scib-metrics 0.5.10 (`Benchmarker`, exact neighbours, without kBET), on numpy and
scikit-learn alone: nothing is compiled. `batch_asw_scib` is the paper's only score, ``silhouette_batch`` of scib 1.1.7;
scib-metrics has a function of that name which is equal, but its `Benchmarker` reports BRAS, here
`batch_asw_scib_metrics`. Tests compare every score with both libraries where they are installed.

**What an embedding without content scores.** A constant embedding has no batch structure at all: both batch ASW, `pcr`
and `graph_connectivity` are 1, their maximum, and `ilisi` is that of the whole data set. The definitions say so, and
that is why they are never read alone: the same embedding has `celltype_asw` 0.5, `nmi` and `ari` 0. Random numbers
score likewise.

**What perfect biology scores.** An embedding that holds the cell type and nothing else has every biology score, both
batch ASW and `graph_connectivity` at 1. Its `ilisi` is the mixing of batches *within the cell types*, and its `pcr` is
what differences of composition between batches leave: the most any embedding can reach without mixing types.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from sclong.tasks.batch_integration.neighbours import Neighbours, clisi, graph_connectivity, ilisi
from sclong.tasks.batch_integration.task import BATCH, BIOLOGY


def batch_asw_scib(embedding: np.ndarray, batch: np.ndarray, celltype: np.ndarray) -> float:
    r"""Batch silhouette within cell types, as scib's ``silhouette_batch``: the paper's score.

    .. math:: \frac{1}{|T|} \sum_{t \in T} \frac{1}{|C_t|} \sum_{i \in C_t} \left(1 - |s_i|\right)

    with s the silhouette of the batch labels among the cells of type t, Euclidean. Types in one batch only, or with no
    two cells in one batch, are left out.

    Parameters
    ----------
    embedding : (cells, d) float
    batch, celltype : (cells,)
        Labels of any kind.

    Returns
    -------
    float
        1 is perfect mixing (or no structure whatever: a constant embedding); NaN when no type can be judged.
    """
    return _mean_over_types(embedding, batch, celltype, label_silhouettes)


def batch_asw_scib_metrics(embedding: np.ndarray, batch: np.ndarray, celltype: np.ndarray) -> float:
    """Batch silhouette within cell types, as the `Benchmarker` of scib-metrics reports it: BRAS.

    As :func:`batch_asw_scib`, with cosine distances, and with the mean distance to the cells of all other batches
    where the silhouette has the nearest batch (Rautenstrauch and Ohler 2025): several batches that stay apart in pairs
    do not count as mixed.

    Parameters
    ----------
    embedding : (cells, d) float
    batch, celltype : (cells,)
        Labels of any kind.
    """
    return _mean_over_types(embedding, batch, celltype, _cosine_silhouettes)


def label_silhouettes(embedding: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the Euclidean silhouette of each cell, (cells,) float64; 0 throughout for a constant embedding."""
    from sklearn.metrics import silhouette_samples

    return np.asarray(silhouette_samples(_from_first(embedding), labels))


def celltype_asw(silhouettes: np.ndarray) -> float:
    r"""Cell-type silhouette scaled to 0..1, :math:`(\bar s + 1) / 2`; a constant embedding scores 0.5.

    Parameters
    ----------
    silhouettes : (cells,)
        Of the cell types (:func:`label_silhouettes`).
    """
    return float((silhouettes.mean() + 1.0) / 2.0)


def isolated_labels(silhouettes: np.ndarray, batch: np.ndarray, celltype: np.ndarray) -> float:
    """Scaled silhouette of the cell types that are in the fewest batches, mean over these types.

    Where all types are in equally many batches, all count, and the score differs from `celltype_asw` by weighing types
    instead of cells.

    Parameters
    ----------
    silhouettes : (cells,)
        Of the cell types (:func:`label_silhouettes`).
    batch, celltype : (cells,)
        Labels of any kind.
    """
    names = np.unique(celltype)
    batches = np.array([len(np.unique(batch[celltype == name])) for name in names])
    isolated = names[batches == batches.min()]
    return float(np.mean([(silhouettes[celltype == name].mean() + 1.0) / 2.0 for name in isolated]))


def nmi_ari(embedding: np.ndarray, celltype: np.ndarray, *, seed: int = 0) -> tuple[float, float]:
    """Agreement of k-means clusters with the cell types: normalised mutual information, adjusted Rand index.

    The number of clusters is the number of cell types, as in scib-metrics (scib searches a Leiden resolution instead);
    ten starts, fixed seed. A constant embedding has one cluster and scores 0.

    Parameters
    ----------
    embedding : (cells, d) float
    celltype : (cells,)
    seed
        Of k-means.
    """
    from sklearn.cluster import KMeans
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

    shifted = _from_first(embedding)
    if not shifted.any():
        return 0.0, 0.0
    clusters = min(len(np.unique(celltype)), len(np.unique(shifted, axis=0)))
    found = KMeans(clusters, n_init=10, random_state=seed).fit_predict(shifted)
    return float(normalized_mutual_info_score(celltype, found)), float(adjusted_rand_score(celltype, found))


def batch_variance(values: np.ndarray, batch: np.ndarray) -> float:
    """Share of the variance of `values` (cells, d) that lies between the means of the batches, 0..1.

    It is principal component regression on all components (Buettner et al. 2019): the sum of the components' R2 on the
    batch, weighted by their variances, does not depend on the axes.
    """
    shifted = _from_first(values)
    centred = shifted - shifted.mean(axis=0)
    total = float((centred**2).sum())
    groups = [centred[batch == name] for name in np.unique(batch)]
    between = sum(len(group) * float((group.mean(axis=0) ** 2).sum()) for group in groups)
    return between / total if total > 0 else 0.0


def pcr(before: np.ndarray, embedding: np.ndarray, batch: np.ndarray) -> float:
    """Share of the variance between batches that the embedding has removed, 0 where it has added some.

    Parameters
    ----------
    before : (cells, components) float
        The data before integration: leading principal components of normalised expression (scib: 50).
    embedding : (cells, d) float
    batch : (cells,)
    """
    had, has = batch_variance(before, batch), batch_variance(embedding, batch)
    return max(0.0, (had - has) / had) if had > 0 else float(has == 0)


def compact(embedding: np.ndarray) -> np.ndarray:
    """Return coordinates of the cells with the same distances and norms, (cells, <= distinct cells) float64.

    An embedding with more dimensions than distinct cells is turned into the space that the cells span; equal cells
    stay exactly equal.
    """
    values = np.asarray(embedding, dtype=np.float64)
    if values.shape[1] <= len(values):
        return values
    points, point = np.unique(values, axis=0, return_inverse=True)
    if values.shape[1] <= len(points):
        return values
    return np.asarray(np.linalg.qr(points.T, mode="r")).T[point.ravel()]


def integration_scores(
    embedding: np.ndarray, batch: np.ndarray, celltype: np.ndarray, before: np.ndarray, *, seed: int = 0
) -> dict[str, float]:
    """Return every score by name (``METRICS`` of the module ``task``), with the aggregates.

    ``biology`` and ``batch_mixing`` are the means over ``BIOLOGY`` and ``BATCH`` of that module;
    ``overall = 0.6 * biology + 0.4 * batch_mixing``, scib's weights. `batch_asw_scib` is in none of them.

    Parameters
    ----------
    embedding : (cells, d) float
    batch, celltype : (cells,)
    before : (cells, components) float
        As for :func:`pcr`.
    seed
        Of the k-means behind `nmi` and `ari`.
    """
    cells = compact(embedding)
    silhouettes = label_silhouettes(cells, celltype)
    neighbours = Neighbours.of(cells, 90)
    nmi, ari = nmi_ari(cells, celltype, seed=seed)
    scores = {
        "batch_asw_scib": batch_asw_scib(cells, batch, celltype),
        "isolated_labels": isolated_labels(silhouettes, batch, celltype),
        "nmi": nmi,
        "ari": ari,
        "celltype_asw": celltype_asw(silhouettes),
        "clisi": clisi(neighbours, celltype),
        "batch_asw_scib_metrics": batch_asw_scib_metrics(cells, batch, celltype),
        "ilisi": ilisi(neighbours, batch),
        "graph_connectivity": graph_connectivity(neighbours.at(15), celltype),
        "pcr": pcr(before, cells, batch),
    }
    return scores | aggregates(scores)


def aggregates(scores: dict[str, float]) -> dict[str, float]:
    """Return `biology`, `batch_mixing` and `overall` of the scores they are made of."""
    biology, mixing = (float(np.mean([scores[m] for m in names])) for names in (BIOLOGY, BATCH))
    return {"biology": biology, "batch_mixing": mixing, "overall": 0.6 * biology + 0.4 * mixing}


def _from_first(embedding: np.ndarray) -> np.ndarray:
    """Embedding seen from its first cell, float64: distances stay, and a constant becomes exactly zero."""
    values = np.asarray(embedding, dtype=np.float64)
    return values - values[0]


def _mean_over_types(
    embedding: np.ndarray,
    batch: np.ndarray,
    celltype: np.ndarray,
    silhouettes: Callable[[np.ndarray, np.ndarray], np.ndarray],
) -> float:
    """Mean over types of the mean over cells of 1 - |silhouette of the batch among the type's cells|."""
    scores = []
    for name in np.unique(celltype):
        rows = np.flatnonzero(celltype == name)
        if 1 < len(np.unique(batch[rows])) < len(rows):
            scores.append(1.0 - np.abs(silhouettes(embedding[rows], batch[rows])).mean())
    return float(np.mean(scores)) if scores else float("nan")


def _cosine_silhouettes(embedding: np.ndarray, batch: np.ndarray) -> np.ndarray:
    """Silhouettes by cosine distance, against the mean distance to the cells of all other batches; (cells,) float64.

    A sum of cosine distances to many cells is one product with the sum of their unit vectors. Cells at the origin have
    no direction: they are at distance 0 from each other and 1 from all others. A cell alone in its batch has 0.
    """
    values = np.asarray(embedding, dtype=np.float64)
    norm = np.linalg.norm(values, axis=1, keepdims=True)
    unit = np.column_stack([np.divide(values, norm, out=np.zeros_like(values), where=norm > 0), norm == 0])
    names, code, size = np.unique(batch, return_inverse=True, return_counts=True)
    sums = np.stack([unit[code == b].sum(axis=0) for b in range(len(names))])
    distance_CB = np.maximum(size - unit @ sums.T, 0.0)
    own = distance_CB[np.arange(len(code)), code]
    within = own / np.maximum(size[code] - 1, 1)
    other = (distance_CB.sum(axis=1) - own) / (len(code) - size[code])
    larger = np.maximum(within, other)
    tiny = 1e-12  # what rounding leaves of the distance 0
    return np.where((larger > tiny) & (size[code] > 1), (other - within) / np.maximum(larger, tiny), 0.0)
