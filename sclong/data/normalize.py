"""From counts to the values that the model reads, and the checks that counts are counts."""

from __future__ import annotations

from typing import Literal

import numpy as np
from scipy import sparse

from sclong.errors import InputDataError

ValueKind = Literal["counts", "log1p_cp10k", "nonnegative"]


def log1p_cp10k(counts: sparse.spmatrix | np.ndarray) -> sparse.csr_matrix:
    """Return log(1 + 10,000 x / total of the cell), natural logarithm; (cells, genes) float32 CSR.

    A cell without counts stays zero.
    """
    out = sparse.csr_matrix(counts, dtype=np.float32, copy=True)
    totals = np.asarray(out.sum(axis=1, dtype=np.float64)).ravel()
    scale = np.divide(1e4, totals, out=np.zeros_like(totals), where=totals > 0)
    out.data = np.log1p(out.data * np.repeat(scale, np.diff(out.indptr))).astype(np.float32)
    return out


def check_nonnegative(values: sparse.spmatrix | np.ndarray, name: str) -> np.ndarray:
    """Return the stored values of a matrix after checking that all are finite and none is negative.

    Raises
    ------
    InputDataError
        NaN, infinity or a negative value, with how many and the first one.
    """
    data: np.ndarray = np.asarray(values.data if sparse.issparse(values) else values).ravel()
    bad = ~np.isfinite(data)
    if bad.any():
        raise InputDataError(
            f"{name}: {int(bad.sum())} values are NaN or infinite", "finite, non-negative values",
            "find where they come from; do not replace them by zeros blindly",
        )  # fmt: skip
    negative = data < 0
    if negative.any():
        raise InputDataError(
            f"{name}: {int(negative.sum())} negative values, the lowest {float(data.min()):.4g}",
            "raw counts (values below zero mean that the matrix was scaled or is a z-score)",
            "use the raw counts: adata.raw, or a layer named counts",
        )  # fmt: skip
    return data


def check_counts(values: sparse.spmatrix | np.ndarray, name: str) -> None:
    """Check that a matrix holds raw counts.

    Raises
    ------
    InputDataError
        Negative, NaN, infinite or fractional values; says so when they look log-normalised.
    """
    data = check_nonnegative(values, name)
    fractional = data != np.rint(data)
    if not fractional.any():
        return
    share = fractional.mean()
    if looks_logged(values):
        raise InputDataError(
            f"{name}: looks log-normalised already ({share:.0%} of the values are not integers, the largest is "
            f"{data.max():.3g}, and the exponentials of every cell have the same sum)",
            "raw integer counts",
            "use the raw counts (adata.raw, or a layer named counts); logging twice would be silent and wrong",
        )
    raise InputDataError(
        f"{name}: {share:.1%} of the values are not integers (for example {float(data[fractional][0]):.4g}, "
        f"the largest is {data.max():.4g})",
        "raw integer counts",
        "use the raw counts (adata.raw, or a layer); these may be normalised, TPM, or expected counts of a quantifier",
    )


def looks_logged(values: sparse.spmatrix | np.ndarray) -> bool:
    """Say whether a matrix looks like log(1 + normalised counts): small values whose exponentials sum to much the same.

    Natural logarithm and logarithm to base 2 are tried on up to 500 cells.
    """
    rows = sparse.csr_matrix(values)[:500].astype(np.float64)
    if rows.nnz == 0 or rows.data.max() >= 20:
        return False
    for base in (np.e, 2.0):
        back = rows.copy()
        back.data = base**back.data - 1
        totals = np.asarray(back.sum(axis=1)).ravel()
        totals = totals[totals > 0]
        if len(totals) > 1 and totals.std() < 0.05 * totals.mean():
            return True
    return False


def to_model_values(values: sparse.spmatrix | np.ndarray, value_kind: str) -> sparse.csr_matrix:
    """Return what the model reads, (cells, genes) float32 CSR.

    Parameters
    ----------
    values
        Cells by genes.
    value_kind
        "counts": normalised here; "log1p_cp10k": taken as they are; "nonnegative": taken as they are, for example bulk
        expression on a log scale.

    Raises
    ------
    InputDataError
        Values that are not of their kind, or an unknown kind.
    """
    if value_kind == "counts":
        check_counts(values, "expression")
        return log1p_cp10k(values)
    if value_kind in ("log1p_cp10k", "nonnegative"):
        check_nonnegative(values, "expression")
        return sparse.csr_matrix(values, dtype=np.float32)
    raise InputDataError(
        f"value kind {value_kind!r}", "counts, log1p_cp10k or nonnegative", 'set adata.uns["value_kind"]'
    )
