"""Scores of an integrated embedding that look at nearest neighbours: graph connectivity, iLISI, cLISI.

The definitions are those of scib-metrics 0.5.10 with exact neighbours, the cell itself counted among its k.

Where several cells lie at one point (a constant embedding, the cell type itself), "the k nearest" is not defined by
distances, and a library takes them in the order of the rows. Here such cells share the last places among the k, each
with the same part of them, so that no score depends on the order of the cells.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse
from scipy.sparse.csgraph import connected_components

CHUNK_POINTS = 4096
TOLERANCE, STEPS = 1e-5, 50


@dataclass(frozen=True)
class Neighbours:
    """Nearest neighbours of cells, held between the distinct points at which cells lie.

    Attributes
    ----------
    point : (cells,) int
        The point at which each cell lies.
    nearest : (points, m) int
        Points by distance, itself first.
    distance : (points, m) float64
        Euclidean.
    k
        Neighbours of a cell, the cell itself among them; never more than there are cells.
    """

    point: np.ndarray
    nearest: np.ndarray
    distance: np.ndarray
    k: int

    @classmethod
    def of(cls, embedding: np.ndarray, k: int = 90) -> Neighbours:
        """Find the k nearest neighbours of each row of `embedding`, (cells, d) float."""
        from sklearn.neighbors import NearestNeighbors

        values = np.asarray(embedding, dtype=np.float64)
        points, point = np.unique(values - values[0], axis=0, return_inverse=True)
        m = min(k, len(points))
        distance, nearest = NearestNeighbors(n_neighbors=m).fit(points).kneighbors(points)
        nearest, distance = _itself_first(nearest, distance)
        return cls(point.ravel(), nearest, distance, min(k, len(values)))

    def at(self, k: int) -> Neighbours:
        """Return the nearest `k` of them."""
        m = min(k, self.nearest.shape[1])
        return Neighbours(self.point, self.nearest[:, :m], self.distance[:, :m], min(k, self.k))

    @property
    def size(self) -> np.ndarray:
        """How many cells lie at each point, (points,) int."""
        return np.bincount(self.point, minlength=len(self.nearest))

    def places(self) -> np.ndarray:
        """How many of the k places go to the cells of each neighbouring point, (points, m) float64."""
        size = self.size[self.nearest]
        return np.clip(self.k - (np.cumsum(size, axis=1) - size), 0, size).astype(np.float64)


def graph_connectivity(neighbours: Neighbours, celltype: np.ndarray) -> float:
    """Share of each type's cells in its largest strongly connected component of the neighbour graph, mean over types.

    scib-metrics takes 15 neighbours (``neighbours.at(15)``) and the directed graph; scib the undirected one, whose
    components are never smaller.

    Parameters
    ----------
    neighbours
        Of the embedding.
    celltype : (cells,)
        Labels of any kind.
    """
    n_points, m = neighbours.nearest.shape
    joined = neighbours.places().ravel() > 0
    rows, columns = np.repeat(np.arange(n_points), m)[joined], neighbours.nearest.ravel()[joined]
    graph = sparse.csr_matrix((np.ones(len(rows)), (rows, columns)), shape=(n_points, n_points))
    scores = []
    for name in np.unique(celltype):
        cells_at = np.bincount(neighbours.point[celltype == name], minlength=n_points)
        points = np.flatnonzero(cells_at)
        _, component = connected_components(graph[points][:, points], connection="strong")
        scores.append(np.bincount(component, weights=cells_at[points]).max() / cells_at.sum())
    return float(np.mean(scores))


def ilisi(neighbours: Neighbours, batch: np.ndarray) -> float:
    r"""Mixing of batches: :math:`(\mathrm{median}_i\,\mathrm{LISI}_i - 1) / (B - 1)` over B batches.

    0: the median cell sees one batch only; 1: all batches equally. See :func:`lisi`.

    Parameters
    ----------
    neighbours
        Of the embedding; scib-metrics takes 90.
    batch : (cells,)
        At least two different labels.
    """
    n_labels = len(np.unique(batch))
    return float((np.median(lisi(neighbours, batch)) - 1.0) / (n_labels - 1))


def clisi(neighbours: Neighbours, celltype: np.ndarray) -> float:
    r"""Purity of cell types: :math:`(T - \mathrm{median}_i\,\mathrm{LISI}_i) / (T - 1)` over T types.

    1: the median cell sees its own type only. See :func:`lisi`.

    Parameters
    ----------
    neighbours
        Of the embedding; scib-metrics takes 90.
    celltype : (cells,)
        At least two different labels.
    """
    n_labels = len(np.unique(celltype))
    return float((n_labels - np.median(lisi(neighbours, celltype))) / (n_labels - 1))


def lisi(neighbours: Neighbours, labels: np.ndarray) -> np.ndarray:
    r"""Local inverse Simpson index of labels around each cell (Korsunsky et al. 2019, Nature Methods 16:1289).

    :math:`1 / \sum_b p_b^2`, where :math:`p_b` is the weight of label b among the cell's neighbours without the cell
    itself. Neighbours are weighted by :math:`\exp(-\beta d)`; :math:`\beta` is such that the weights' perplexity is a
    third of k.

    Parameters
    ----------
    neighbours
        Of the embedding.
    labels : (cells,)
        Labels of any kind.

    Returns
    -------
    (cells,) float64
        1 (one label only) to the number of labels.
    """
    names, code = np.unique(labels, return_inverse=True)
    cells_at_PL = np.zeros((len(neighbours.nearest), len(names)))
    np.add.at(cells_at_PL, (neighbours.point, code), 1.0)
    size = neighbours.size
    places_PM = neighbours.places()
    places_PM[:, 0] -= 1.0  # the cell itself is at the first point
    others_PM = size[neighbours.nearest].astype(np.float64)
    others_PM[:, 0] -= 1.0
    weight_PM = _kernel(neighbours.distance, places_PM, max(neighbours.k // 3, 1))
    total_P = (weight_PM * places_PM).sum(axis=1)
    each_PM = weight_PM * np.divide(places_PM, others_PM, out=np.zeros_like(places_PM), where=others_PM > 0)
    around_PL = np.empty_like(cells_at_PL)
    for start in range(0, len(around_PL), CHUNK_POINTS):
        some = slice(start, start + CHUNK_POINTS)
        around_PL[some] = np.einsum("pm,pml->pl", each_PM[some], cells_at_PL[neighbours.nearest[some]])
    p_CL = around_PL[neighbours.point]
    p_CL[np.arange(len(code)), code] -= each_PM[neighbours.point, 0]
    p_CL /= total_P[neighbours.point, None]
    return 1.0 / (p_CL**2).sum(axis=1)


def _kernel(distance: np.ndarray, places: np.ndarray, perplexity: float) -> np.ndarray:
    r"""Return :math:`\exp(-\beta d)` up to a factor per row, with beta found by doubling and halving from 1.

    `places` says how many neighbours stand at each distance; both (points, m). Where no beta gives the perplexity
    (more neighbours than that at the smallest distance), those at the smallest distance share the weight.
    """
    nearest = np.where(places > 0, distance, np.inf).min(axis=1, keepdims=True)
    beyond = np.where(places > 0, distance - nearest, 0.0)
    beta, low, high = (np.full((len(distance), 1), value) for value in (1.0, -np.inf, np.inf))
    for _ in range(STEPS):
        weight = np.exp(-beta * beyond) * places
        total = weight.sum(axis=1, keepdims=True)
        entropy = np.log(total) + beta * (beyond * weight).sum(axis=1, keepdims=True) / total
        too_wide = entropy - np.log(perplexity)
        going = np.abs(too_wide) >= TOLERANCE
        if not going.any():
            break
        low, high = np.where(too_wide > 0, beta, low), np.where(too_wide > 0, high, beta)
        middle = (low + high) / 2
        beta = np.where(going, np.where(np.isinf(high), beta * 2, np.where(np.isinf(low), beta / 2, middle)), beta)
    return np.exp(-beta * beyond)


def _itself_first(nearest: np.ndarray, distance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Put each point before its neighbours, where rounding put it elsewhere or left it out."""
    own = np.arange(len(nearest))[:, None]
    order = np.argsort(nearest != own, axis=1, kind="stable")
    nearest, distance = np.take_along_axis(nearest, order, axis=1), np.take_along_axis(distance, order, axis=1)
    nearest[:, 0], distance[:, 0] = own[:, 0], 0.0
    return nearest, distance
