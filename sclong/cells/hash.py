"""A name for a cell's counts: equal counts have equal hashes, whatever file the cell came in.

The hash is BLAKE2b (128 bits) over the positions of a cell's non-zero genes and their counts, in the order of a
vocabulary, so that hashes of two data sets can be compared where both are in the same vocabulary.
"""

from __future__ import annotations

import hashlib

import numpy as np
from scipy import sparse


def cell_hashes(counts: sparse.csr_matrix) -> np.ndarray:
    """Return the hash of each cell.

    Parameters
    ----------
    counts : (cells, genes)
        Whole numbers below 2**32.

    Returns
    -------
    (cells, 2) uint64
        The high and the low 64 bits. All cells without counts have one hash.
    """
    counts = sparse.csr_matrix(counts, copy=True)
    counts.eliminate_zeros()
    counts.sort_indices()
    entries = np.empty((counts.nnz, 2), dtype="<u4")  # gene, count, gene, count: one cell is one run of bytes
    entries[:, 0], entries[:, 1] = counts.indices, counts.data
    data, ends = memoryview(entries.tobytes()), counts.indptr.astype(np.int64) * 8
    digests = b"".join(
        hashlib.blake2b(data[start:stop], digest_size=16).digest()
        for start, stop in zip(ends[:-1].tolist(), ends[1:].tolist(), strict=True)
    )
    return np.frombuffer(digests, dtype=">u8").reshape(-1, 2).astype(np.uint64)


def first_of_equals(hashes: np.ndarray) -> np.ndarray:
    """Return which rows are the first with their hash, (cells,) bool.

    Parameters
    ----------
    hashes : (cells, 2) uint64
    """
    order = np.lexsort((hashes[:, 1], hashes[:, 0]))  # stable: equal hashes stay in the order of the cells
    ordered = hashes[order]
    first = np.ones(len(hashes), dtype=bool)
    first[order[1:]] = (ordered[1:] != ordered[:-1]).any(axis=1)
    return first


def among(hashes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return which of `hashes` are in `others`, (cells,) bool; both (n, 2) uint64."""
    if not len(hashes) or not len(others):
        return np.zeros(len(hashes), dtype=bool)
    kind = np.dtype([("high", np.uint64), ("low", np.uint64)])
    one, other = (np.ascontiguousarray(h, dtype=np.uint64).view(kind).ravel() for h in (hashes, others))
    return np.isin(one, other)
