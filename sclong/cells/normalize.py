"""From counts to the values that the model reads, and the checks that counts are counts."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
from scipy import sparse

from sclong.errors import InputDataError

Normalization = Literal["log1p_cp10k", "cp10k", "paper_log"]
NORMALIZATIONS: tuple[str, ...] = get_args(Normalization)
PAPER_MAXIMUM = 10.0
NEAR, NEAR_SHARE, NEAR_MOST = 1e-3, 1e-5, 0.05
"""A value this far from an integer, or this share of it away, and never more than the last, is one but for rounding."""
FEW = 32
"""Most counts are below this: what they become is computed once for each cell and number, not for each gene."""


def normalize_cell(counts: np.ndarray, name: str) -> np.ndarray:
    """Return what the counts of one cell become.

    ==============  ==============================================================================================
    log1p_cp10k     log(1 + 10,000 x / total of the cell), natural logarithm
    cp10k           10,000 x / total of the cell
    paper_log       log(x / 10,000 + 1), then all of a cell times one number, so that its greatest value is 10
    ==============  ==============================================================================================

    The last is the sentence of the paper's Methods taken literally: x are raw counts, because the formula has no total
    of the cell. The maximum is each cell's, because "scaled" is no clipping (values reach 10 only at 220 million
    counts) and a maximum over a corpus would be a number that no file holds. As x / 10,000 is small, values are nearly
    proportional to counts. The published preprocessing code and embedding code say other things; which one made the
    released corpus is not known.

    This is the definition; :func:`normalize_counts` is the fast way to the same bits.

    Parameters
    ----------
    counts : (genes,)
        All counts of the cell, with or without its zeros.
    name
        Name of the normalisation.

    Returns
    -------
    (genes,) float32
        0 for a cell without counts.
    """
    counts = counts.astype(np.float64)
    if not counts.any():
        return np.zeros(len(counts), dtype=np.float32)
    return _transform(counts, _scale(counts.sum(), counts.max(), name), name)


def normalize_counts(counts: sparse.spmatrix | np.ndarray, name: str = "log1p_cp10k") -> sparse.csr_matrix:
    """Return normalised counts, (cells, genes) float32 CSR; see :func:`normalize_cell`.

    Raises
    ------
    InputDataError
        No such normalisation.
    """
    if name not in NORMALIZATIONS:
        raise InputDataError(f"normalisation {name!r}", f"one of {', '.join(NORMALIZATIONS)}", "correct the name")
    out = sparse.csr_matrix(counts, dtype=np.float32, copy=True)
    totals = np.asarray(out.sum(axis=1, dtype=np.float64)).ravel()
    scales_B = np.zeros(len(totals))
    filled = totals > 0
    highest = out.max(axis=1).toarray().ravel() if name == "paper_log" else totals
    scales_B[filled] = _scale(totals[filled], highest[filled].astype(np.float64), name)
    table_BF = _transform(np.arange(FEW), scales_B[:, None], name)

    places = np.repeat(np.arange(0, table_BF.size, FEW), np.diff(out.indptr))  # of each entry's cell in the flat table
    few = (out.data >= 0) & (out.data < FEW) & (out.data == np.rint(out.data))
    others = np.flatnonzero(~few)
    scales = scales_B[places[others] // FEW]
    with np.errstate(invalid="ignore"):
        places += out.data.astype(np.int32)  # nonsense for the others, which are computed apart
    values = table_BF.reshape(-1).take(places, mode="clip")
    values[others] = _transform(out.data[others], scales, name)
    out.data = values
    return out


def _scale(totals: np.ndarray, highest: np.ndarray, name: str) -> np.ndarray:
    """Return the number that belongs to a cell, from the total and the highest of its counts."""
    return PAPER_MAXIMUM / np.log1p(highest / 1e4) if name == "paper_log" else 1e4 / totals


def _transform(counts: np.ndarray, scales: np.ndarray, name: str) -> np.ndarray:
    """Return what counts become in cells with these numbers, float32."""
    counts = counts.astype(np.float64)
    if name == "paper_log":
        return (np.log1p(counts / 1e4) * scales).astype(np.float32)
    per_10k = counts * scales
    return (np.log1p(per_10k) if name == "log1p_cp10k" else per_10k).astype(np.float32)


def log1p_cp10k(counts: sparse.spmatrix | np.ndarray) -> sparse.csr_matrix:
    """Return log(1 + 10,000 x / total of the cell), natural logarithm; (cells, genes) float32 CSR.

    A cell without counts stays zero.
    """
    return normalize_counts(counts, "log1p_cp10k")


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
            f"{name}: {int(bad.sum())} values are NaN or infinite",
            "finite, non-negative values",
            "find where they come from; do not replace them by zeros blindly",
        )
    negative = data < 0
    if negative.any():
        raise InputDataError(
            f"{name}: {int(negative.sum())} negative values, the lowest {float(data.min()):.4g}",
            "raw counts (values below zero mean that the matrix was scaled or is a z-score)",
            "use the raw counts: adata.raw, or a layer named counts",
        )
    return data


def is_almost_integer(data: np.ndarray) -> np.ndarray:
    """Return which values are integers but for what float arithmetic does to them, same shape, bool."""
    near = np.minimum(NEAR + NEAR_SHARE * np.abs(data.astype(np.float64)), NEAR_MOST)
    with np.errstate(invalid="ignore"):  # infinity is none
        return np.asarray(np.abs(data - np.rint(data)) <= near)


def check_counts(values: sparse.spmatrix | np.ndarray, name: str) -> None:
    """Check that a matrix holds raw counts, but for rounding (see :func:`is_almost_integer`).

    Raises
    ------
    InputDataError
        Negative, NaN, infinite or fractional values; says so when they look log-normalised.
    """
    data = check_nonnegative(values, name)
    fractional = ~is_almost_integer(data)
    if not fractional.any():
        return
    share = fractional.mean()
    if has_one_total(values):
        raise InputDataError(
            f"{name}: looks normalised already ({share:.0%} of the values are not integers, and all cells have the "
            "same total)",
            "raw integer counts",
            "use the raw counts (adata.raw, or a layer named counts)",
        )
    if looks_logged(values):
        raise InputDataError(
            f"{name}: looks log-normalised already ({share:.0%} of the values are not integers, the largest is "
            f"{data.max():.3g}, and the exponentials of every cell have the same sum)",
            "raw integer counts",
            "use the raw counts (adata.raw, or a layer named counts); logging twice would be silent and wrong",
        )
    worst = float(data[fractional][np.argmax(np.abs(data[fractional] - np.rint(data[fractional])))])
    raise InputDataError(
        f"{name}: {share:.1%} of the values are not integers (for example {worst:.6g}, the largest is "
        f"{data.max():.4g})",
        "raw integer counts",
        "name the layer that has counts (--layer), or, if these are corrected or expected counts of a quantifier, "
        "round them (--round; in Python round=True); if they are TPM or normalised, neither; values on a log scale go "
        'through adata.uns["value_kind"]',
    )


def has_one_total(values: sparse.spmatrix | np.ndarray) -> bool:
    """Say whether all cells (of the first 500) have the same total, but for rounding, as after normalisation to one."""
    totals = np.asarray(sparse.csr_matrix(values)[:500].sum(axis=1, dtype=np.float64)).ravel()
    totals = totals[totals > 0]
    return len(totals) > 1 and bool(np.ptp(totals) < 1e-4 * totals.mean())


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
        "counts": normalised here; the name of a normalisation: taken as they are, for a model that reads such values;
        "nonnegative": taken as they are, for example bulk expression on a log scale.
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
    if value_kind in (normalization, "nonnegative"):
        check_nonnegative(values, "expression")
        return sparse.csr_matrix(values, dtype=np.float32)
    if value_kind in NORMALIZATIONS:
        raise InputDataError(
            f"values that are normalised already ({value_kind}), for a model that was pretrained on {normalization}",
            "raw counts, which are normalised as in pretraining",
            "use the raw counts (adata.raw, or a layer) and value_kind counts",
        )
    raise InputDataError(
        f"value kind {value_kind!r}",
        f"counts, {', '.join(NORMALIZATIONS)} or nonnegative",
        'set adata.uns["value_kind"]',
    )
