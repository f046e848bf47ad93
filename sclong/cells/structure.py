"""What a sparse matrix says of itself is checked before it is used: compiled code does not look where it reads."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import sparse

from sclong.errors import InputDataError

WRITE_AGAIN = (
    "write the file again from the original; concatenating beyond 2**31 values needs a recent anndata, whose indptr "
    "has 64 bits"
)


def check_pointers(indptr: np.ndarray, n_values: int, n_indices: int, n_major: int, where: str) -> None:
    """Check the row (or column) pointers of a compressed matrix.

    Parameters
    ----------
    indptr : (major + 1,) int
        Where each row (CSR) or column (CSC) begins.
    n_values, n_indices
        Lengths of ``data`` and ``indices``.
    n_major
        Rows (CSR) or columns (CSC) that the matrix has.
    where
        How the matrix is called in messages.

    Raises
    ------
    InputDataError
        They do not fit; says which does not.
    """
    found = None
    if len(indptr) != n_major + 1:
        found = f"indptr has {len(indptr):,} numbers for {n_major:,} rows (of CSC: columns)"
    elif n_values != n_indices:
        found = f"{n_values:,} values and {n_indices:,} indices"
    elif indptr[0] != 0 or indptr[-1] != n_values:
        found = f"indptr goes from {indptr[0]:,} to {indptr[-1]:,}, and there are {n_values:,} values"
    elif (np.diff(indptr) < 0).any():
        first = int(np.argmax(np.diff(indptr) < 0))
        found = f"indptr falls from {indptr[first]:,} to {indptr[first + 1]:,} at row {first:,}"
    if found:
        raise InputDataError(
            f"{where}: damaged sparse matrix: {found}", "0, rising to the number of values", WRITE_AGAIN
        )


def check_indices(indices: np.ndarray, n_minor: int, where: str) -> None:
    """Check that indices point into the matrix.

    Raises
    ------
    InputDataError
        An index below 0 or beyond the last column (of CSC: row).
    """
    if len(indices) and (indices.min() < 0 or indices.max() >= n_minor):
        wrong = indices[(indices < 0) | (indices >= n_minor)]
        raise InputDataError(
            f"{where}: damaged sparse matrix: {len(wrong):,} indices are outside 0 to {n_minor - 1:,}, "
            f"for example {wrong[0]:,}",
            "indices of columns (of CSC: rows) that there are",
            WRITE_AGAIN,
        )


def check_held(matrix: Any, where: str) -> None:
    """Check a sparse matrix in memory; other kinds of matrices pass.

    Raises
    ------
    InputDataError
        As :func:`check_pointers` and :func:`check_indices`.
    """
    if sparse.issparse(matrix) and matrix.format in ("csr", "csc"):
        major, minor = matrix.shape if matrix.format == "csr" else matrix.shape[::-1]
        check_pointers(np.asarray(matrix.indptr), len(matrix.data), len(matrix.indices), major, where)
        check_indices(matrix.indices, minor, where)


def check_shape(shape: tuple[int, ...], n_cells: int, n_genes: int, where: str) -> None:
    """Check that a matrix has a row for each cell and a column for each gene.

    Raises
    ------
    InputDataError
        It does not, or there is no cell or gene.
    """
    if n_cells == 0 or n_genes == 0:
        raise InputDataError(f"{where}: {n_cells} cells, {n_genes} genes", "a matrix with content", "check the file")
    if tuple(shape) != (n_cells, n_genes):
        size = " x ".join(f"{n:,}" for n in shape)
        raise InputDataError(
            f"{where}: the matrix is {size}; obs has {n_cells:,} rows, its var {n_genes:,}",
            "a row for each cell and a column for each gene",
            "write the file again",
        )
