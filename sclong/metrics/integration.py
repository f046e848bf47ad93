"""Scores of an integrated cell embedding: is biology kept, are batches mixed. Each lies in 0..1, higher is better.

The definitions follow scib (Luecken et al. 2022, Nature Methods 19:41) where they say so, on scikit-learn alone.

**What an embedding without content scores.** A constant embedding has no batch structure at all, so `batch_asw` is 1,
its maximum. That is what the definition says, and why it is never read alone: the same embedding has `celltype_asw` 0.5
and `nmi` 0. All its cells are neighbours, so `graph_connectivity` is 1, and its `ilisi` is that of the whole data set.
Random numbers score likewise; with few cell types their `graph_connectivity` is high too.

**What perfect biology scores.** An embedding that holds the cell type and nothing else has every biology score and
`batch_asw` at 1. Its `ilisi` is the mixing of batches *within the cell types*: 1 only where every type has equally many
cells in every batch. That is the most any embedding can reach without mixing types.

Cells at one and the same point are neighbours of each other at distance 0, and the last place among the k neighbours is
shared when several cells of one point stand for it; neither depends on the order of the cells.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse
from scipy.sparse.csgraph import connected_components

BIOLOGY = ("celltype_asw", "nmi", "graph_connectivity")
BATCH = ("batch_asw", "ilisi")
CHUNK_CELLS = 4096


def batch_asw(embedding: np.ndarray, batch: np.ndarray, celltype: np.ndarray) -> float:
    r"""Batch silhouette within cell types, as scib's ``silhouette_batch``.

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
    scores = []
    for name in np.unique(celltype):
        rows = np.flatnonzero(celltype == name)
        batches = np.unique(batch[rows])
        if 1 < len(batches) < len(rows):
            scores.append(1.0 - np.abs(_silhouettes(embedding[rows], batch[rows])).mean())
    return float(np.mean(scores)) if scores else float("nan")


def celltype_asw(embedding: np.ndarray, celltype: np.ndarray) -> float:
    r"""Cell-type silhouette scaled to 0..1, :math:`(\bar s + 1) / 2`, as scib's ``silhouette``.

    A constant embedding scores 0.5, one point per type scores 1.

    Parameters
    ----------
    embedding : (cells, d) float
    celltype : (cells,)
        At least two different labels.
    """
    return float((_silhouettes(embedding, celltype).mean() + 1.0) / 2.0)


def nmi(embedding: np.ndarray, celltype: np.ndarray, *, seed: int = 0) -> float:
    """Agreement of k-means clusters with the cell types: normalised mutual information, arithmetic mean.

    The number of clusters is the number of cell types (scib searches a Leiden resolution instead), ten starts, fixed
    seed. A constant embedding has one cluster and scores 0.

    Parameters
    ----------
    embedding : (cells, d) float
    celltype : (cells,)
    seed
        Of k-means.
    """
    from sklearn.cluster import KMeans
    from sklearn.metrics import normalized_mutual_info_score

    shifted = _from_first(embedding)
    if not shifted.any():
        return 0.0
    clusters = min(len(np.unique(celltype)), len(np.unique(shifted, axis=0)))
    found = KMeans(clusters, n_init=10, random_state=seed).fit_predict(shifted)
    return float(normalized_mutual_info_score(celltype, found))


def graph_connectivity(embedding: np.ndarray, celltype: np.ndarray, *, k: int = 15) -> float:
    """Share of each type's cells in its largest component of the neighbour graph, mean over types, as in scib.

    Parameters
    ----------
    embedding : (cells, d) float
    celltype : (cells,)
    k
        Nearest neighbours of a cell (Euclidean, without itself) that it is joined with.
    """
    hoods = _neighbourhoods(embedding, k)
    scores = []
    for name in np.unique(celltype):
        cells_at = np.bincount(hoods.point[celltype == name], minlength=hoods.n_points)
        points = np.flatnonzero(cells_at)
        _, component = connected_components(hoods.graph[points][:, points], directed=False)
        scores.append(np.bincount(component, weights=cells_at[points]).max() / cells_at.sum())
    return float(np.mean(scores))


def ilisi(embedding: np.ndarray, batch: np.ndarray, *, k: int = 90) -> float:
    r"""Mixing of batches among nearest neighbours: inverse Simpson index, scaled, mean over cells.

    .. math:: \frac{1}{n} \sum_i \frac{\left(\sum_b p_{ib}^2\right)^{-1} - 1}{B - 1}

    with p the batch composition of cell i's k nearest neighbours, all with equal weight (LISI, Korsunsky et al. 2019,
    weighs them by a perplexity kernel; scib takes the median). 0: every cell sees one batch only; 1: all B batches
    equally. See the module's head for what a constant embedding and perfect cell types score.

    Parameters
    ----------
    embedding : (cells, d) float
    batch : (cells,)
        At least two different labels.
    k
        Number of neighbours, without the cell itself; all other cells when there are fewer.
    """
    hoods = _neighbourhoods(embedding, k)
    names, code = np.unique(batch, return_inverse=True)
    cells_at = np.zeros((hoods.n_points, len(names)))
    np.add.at(cells_at, (hoods.point, code), 1.0)
    wanted = min(k, len(batch) - 1)
    total = 0.0
    for start in range(0, len(batch), CHUNK_CELLS):
        cells = np.arange(start, min(start + CHUNK_CELLS, len(batch)))
        around_CPB = cells_at[hoods.nearest[hoods.point[cells]]]
        around_CPB[np.arange(len(cells)), 0, code[cells]] -= 1.0  # the cell itself is at the first point
        size_CP = around_CPB.sum(axis=2)
        room_CP = np.clip(wanted - (np.cumsum(size_CP, axis=1) - size_CP), 0.0, size_CP)
        share_CP = np.divide(room_CP, size_CP, out=np.zeros_like(room_CP), where=size_CP > 0)
        p_CB = (around_CPB * share_CP[:, :, None]).sum(axis=1) / wanted
        total += float((1.0 / (p_CB**2).sum(axis=1) - 1.0).sum())
    return total / len(batch) / (len(names) - 1)


def overall(scores: dict[str, float]) -> float:
    """Return ``0.6 * mean(biology) + 0.4 * mean(batch)``, scib's weights, over :data:`BIOLOGY` and :data:`BATCH`."""
    return float(0.6 * np.mean([scores[m] for m in BIOLOGY]) + 0.4 * np.mean([scores[m] for m in BATCH]))


def integration_scores(
    embedding: np.ndarray, batch: np.ndarray, celltype: np.ndarray, *, seed: int = 0
) -> dict[str, float]:
    """Return every score of this module by name, `overall` included.

    Parameters
    ----------
    embedding : (cells, d) float
    batch, celltype : (cells,)
    seed
        Of the k-means behind `nmi`.
    """
    scores = {
        "batch_asw": batch_asw(embedding, batch, celltype),
        "celltype_asw": celltype_asw(embedding, celltype),
        "nmi": nmi(embedding, celltype, seed=seed),
        "graph_connectivity": graph_connectivity(embedding, celltype),
        "ilisi": ilisi(embedding, batch),
    }
    return scores | {"overall": overall(scores)}


def _from_first(embedding: np.ndarray) -> np.ndarray:
    """Embedding seen from its first cell, float64: distances stay, and a constant becomes exactly zero."""
    values = np.asarray(embedding, dtype=np.float64)
    return values - values[0]


def _silhouettes(embedding: np.ndarray, labels: np.ndarray) -> np.ndarray:
    from sklearn.metrics import silhouette_samples

    return np.asarray(silhouette_samples(_from_first(embedding), labels))


@dataclass(frozen=True)
class _Neighbourhoods:
    """Nearest neighbours between distinct points.

    point : (cells,) the point at which each cell lies.
    nearest : (points, m) points by distance, itself first.
    graph : (points, points) csr, joins each point with those of its cells' k nearest neighbours.
    """

    point: np.ndarray
    nearest: np.ndarray
    graph: sparse.csr_matrix

    @property
    def n_points(self) -> int:
        return len(self.nearest)


def _neighbourhoods(embedding: np.ndarray, k: int) -> _Neighbourhoods:
    from sklearn.neighbors import NearestNeighbors

    points, point = np.unique(_from_first(embedding), axis=0, return_inverse=True)
    point = point.ravel()
    m = min(k + 1, len(points))
    nearest = NearestNeighbors(n_neighbors=m).fit(points).kneighbors(points, return_distance=False)
    nearest = _itself_first(nearest)
    size = np.bincount(point)[nearest]
    before = np.cumsum(size, axis=1) - size - 1  # cells nearer than this point's, without the cell itself
    joined = before < k
    rows = np.repeat(np.arange(len(points)), m)[joined.ravel()]
    columns = nearest.ravel()[joined.ravel()]
    graph = sparse.csr_matrix((np.ones(len(rows)), (rows, columns)), shape=(len(points), len(points)))
    return _Neighbourhoods(point, nearest, graph)


def _itself_first(nearest: np.ndarray) -> np.ndarray:
    """Put each point before its neighbours, where rounding put it elsewhere or left it out."""
    own = np.arange(len(nearest))[:, None]
    order = np.argsort(nearest != own, axis=1, kind="stable")
    out = np.take_along_axis(nearest, order, axis=1)
    out[:, 0] = own[:, 0]
    return out
