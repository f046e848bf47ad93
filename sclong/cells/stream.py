"""A data set as a stream of cells: whatever its format, its counts come in pieces of bounded size, from any row on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pandas as pd
from scipy import sparse


@dataclass(frozen=True)
class CellStream:
    """The cells of one data set, in a fixed order, without holding them in memory.

    A stream may lean on an open file or connection: read it before that is closed.

    Attributes
    ----------
    genes : (genes,)
        Names of the columns.
    var : (genes, any)
        What else is known of the columns, in the same order (for example symbols beside ids); may have no column.
    n_cells
        Rows of the data set: what ``pieces(0)`` gives in all.
    counts_from
        Where the counts stand in the source (a layer, a matrix), for the manifest.
    pieces
        ``pieces(start)`` gives the rows from row `start` (0 .. n_cells) on, in order: raw counts, (k, genes) CSR
        float32, and their obs, k rows. The rows and their order are the same on each call, so that
        ``pieces(start)`` continues where an earlier reading ended; where one piece ends and the next begins may
        depend on `start`. Rows before `start` are not read where the format allows it. k is never 0.
    """

    genes: list[str]
    var: pd.DataFrame
    n_cells: int
    counts_from: str
    pieces: Callable[[int], Iterator[tuple[sparse.csr_matrix, pd.DataFrame]]]
