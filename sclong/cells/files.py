"""Files of cells as streams: h5ad a block at a time, other formats read whole and handed out in pieces."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pandas as pd
from scipy import sparse

from sclong.cells.h5ad import Format, read_expression
from sclong.cells.kinds import kind_of
from sclong.cells.reader import open_reader
from sclong.cells.stream import CellStream
from sclong.runlog import LOGGER

PIECE_CELLS = 10_000


def open_cells(
    path: str | Path,
    format: Format = "h5ad",
    *,
    member: str | None = None,
    transpose: bool = False,
    layer: str | None = None,
    gene_column: str | None = None,
    round: bool = False,
) -> CellStream:
    """Return the cells of a file as a stream.

    Parameters
    ----------
    path, format, member, transpose, layer, gene_column, round
        As :func:`sclong.cells.h5ad.read_expression`.

    Returns
    -------
    CellStream
        Of an h5ad file ``obs`` is held whole, the matrix a block at a time; files of other formats are held whole.

    Raises
    ------
    InputDataError
        What :func:`~sclong.cells.h5ad.read_expression` refuses.
    """
    if format == "h5ad" and kind_of(path) == "h5ad":
        return _stream_h5ad(Path(path), layer, gene_column, round)
    adata = read_expression(
        path, format, member=member, transpose=transpose, layer=layer, gene_column=gene_column, round=round
    )

    def pieces(start: int) -> Iterator[tuple[sparse.csr_matrix, pd.DataFrame]]:
        for first in range(start, adata.n_obs, PIECE_CELLS):
            rows = slice(first, min(first + PIECE_CELLS, adata.n_obs))
            yield adata.X[rows], adata.obs.iloc[rows]

    return CellStream(list(adata.var_names), adata.var, adata.n_obs, adata.uns["counts_from"], pieces)


def _stream_h5ad(path: Path, layer: str | None, gene_column: str | None, round: bool) -> CellStream:
    with open_reader(path, layer, gene_column, round=round) as file:
        genes, var, n_cells, counts_from = file.genes, file.var, file.n_cells, file.layer
        LOGGER.info("%s: %s", path, file.describe())
        obs = file.obs()

    def pieces(start: int) -> Iterator[tuple[sparse.csr_matrix, pd.DataFrame]]:
        with open_reader(path, layer, gene_column, round=round) as file:
            first = 0
            for block in file.blocks():
                last = first + block.shape[0]
                if last > start:
                    skip = max(start - first, 0)
                    yield block[skip:], obs.iloc[first + skip : last]
                first = last

    return CellStream(genes, var, n_cells, counts_from, pieces)
