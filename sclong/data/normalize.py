"""From counts to the values that the model reads, and the checks that counts are counts."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
from scipy import sparse

from sclong.errors import InputDataError

ValueKind = Literal["counts", "log1p_cp10k", "nonnegative"]
Normalization = Literal["log1p_cp10k", "cp10k", "paper_log"]
PAPER_MAXIMUM = 10.0


def normalize_cell(counts: np.ndarray, values: np.ndarray, name: str) -> np.ndarray:
    """Return what counts of one cell become.

    ==============  ==============================================================================================
    log1p_cp10k     log(1 + 10,000 x / total of the cell), natural logarithm
    cp10k           10,000 x / total of the cell
    paper_log       log(x / 10,000 + 1), then all of a cell times one number, so that its greatest value is 10
    ==============  ==============================================================================================

    The last is the sentence of the paper's Methods taken literally, x being raw counts and the scale that of each cell.
    As x / 10,000 is small, it is nearly proportional to counts. The published preprocessing code and embedding code say
    other things; which one made the released corpus is not known.

    Parameters
    ----------
    counts : (detected,)
        All counts of the cell.
    values : (k,)
        Counts to transform: those of the cell, or each that may occur.
    name
        Name of the normalisation.

    Returns
    -------
    (k,) float32
        0 for a cell without counts.
    """
    if name == "paper_log":
        greatest = np.log1p(counts.max() / 1e4) if len(counts) else 0.0
        return (np.log1p(values / 1e4) * (PAPER_MAXIMUM / greatest if greatest > 0 else 0.0)).astype(np.float32)
    total = float(counts.sum(dtype=np.float64))
    per_10k = values * (1e4 / total if total > 0 else 0.0)
    return (np.log1p(per_10k) if name == "log1p_cp10k" else per_10k).astype(np.float32)


def normalize_counts(counts: sparse.spmatrix | np.ndarray, name: str = "log1p_cp10k") -> sparse.csr_matrix:
    """Return normalised counts, (cells, genes) float32 CSR; see :func:`normalize_cell`.

    Raises
    ------
    InputDataError
        No such normalisation.
    """
    if name not in get_args(Normalization):
        raise InputDataError(
            f"normalisation {name!r}", f"one of {', '.join(get_args(Normalization))}", "correct the name"
        )
    if name == "log1p_cp10k":
        return log1p_cp10k(counts)
    out = sparse.csr_matrix(counts, dtype=np.float32, copy=True)
    for start, stop in zip(out.indptr[:-1], out.indptr[1:], strict=True):
        cell = out.data[start:stop].astype(np.float64)
        out.data[start:stop] = normalize_cell(cell, cell, name)
    return out


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


def to_model_values(
    values: sparse.spmatrix | np.ndarray, value_kind: str, normalization: str = "log1p_cp10k"
) -> sparse.csr_matrix:
    """Return what the model reads, (cells, genes) float32 CSR.

    Parameters
    ----------
    values
        Cells by genes.
    value_kind
        "counts": normalised here; "log1p_cp10k": taken as they are, by models that read such values; "nonnegative":
        taken as they are, for example bulk expression on a log scale.
    normalization
        What the model was pretrained on.

    Raises
    ------
    InputDataError
        Values that are not of their kind, an unknown kind, or values normalised otherwise than the model's.
    """
    if value_kind == "counts":
        check_counts(values, "expression")
        return normalize_counts(values, normalization)
    if value_kind == "log1p_cp10k" and normalization != "log1p_cp10k":
        raise InputDataError(
            f"values that are normalised already (log1p_cp10k), for a model that was pretrained on {normalization}",
            "raw counts, which are normalised as in pretraining", "use the raw counts: adata.raw, or a layer",
        )  # fmt: skip
    if value_kind in ("log1p_cp10k", "nonnegative"):
        check_nonnegative(values, "expression")
        return sparse.csr_matrix(values, dtype=np.float32)
    raise InputDataError(
        f"value kind {value_kind!r}", "counts, log1p_cp10k or nonnegative", 'set adata.uns["value_kind"]'
    )
