"""Untreated expression of L1000 lines as TranSiGen's authors publish it: a pickled dictionary of numpy arrays."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sclong.errors import InputDataError, listing
from sclong.io.tables import read_tsv

if TYPE_CHECKING:
    import anndata

ALLOWED = {"dtype", "ndarray", "_reconstruct", "scalar"}
"""What of numpy such a file may name; a pickle that names anything else could run code, and is not read."""


class _ArraysOnly(pickle.Unpickler):
    """Reads dictionaries of strings and arrays, and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        if name not in ALLOWED or module not in ("numpy", "numpy.core.multiarray", "numpy._core.multiarray"):
            raise pickle.UnpicklingError(f"it names {module}.{name}")
        if module == "numpy":
            return getattr(np, name)
        return getattr(np._core.multiarray if hasattr(np, "_core") else np.core.multiarray, name)  # type: ignore[attr-defined]


def read_transigen_lines(path: Path, genes: Path) -> anndata.AnnData:
    """Read untreated profiles of lines (log2 intensity of LINCS level 3).

    Parameters
    ----------
    path
        Pickle of name of the line -> (1, genes) float64.
    genes
        Comma-separated table whose column ``gene_symbol`` names the genes in the arrays' order.

    Returns
    -------
    AnnData
        Lines x genes, float32.

    Raises
    ------
    InputDataError
        Something else than arrays in the file, arrays that the genes do not fit, a value that is negative or missing, a
        gene that appears twice.
    """
    import anndata
    import pandas as pd
    from scipy import sparse

    symbols = read_tsv(genes, ["gene_symbol"], sep=",", dtype=str)["gene_symbol"]
    expected = f"a dictionary of lines, each with {len(symbols)} numbers from 0 up"
    action = "use TranSiGen's modz_x1.pickle with its landmark_geneinfo.csv, or an .h5ad of lines x genes"
    try:
        with open(path, "rb") as handle:
            found = _ArraysOnly(handle).load()
    except (pickle.UnpicklingError, EOFError, AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise InputDataError(f"{path}: {error}", expected, action) from None
    if not isinstance(found, dict) or not found:
        raise InputDataError(f"{path}: holds {type(found).__name__} of no lines", expected, action)
    for line, values in found.items():
        if np.size(values) != len(symbols) or np.asarray(values).dtype.kind != "f":
            raise InputDataError(f"{path}: line {str(line)!r} has {np.size(values)} values", expected, action)
    matrix = np.stack([np.ravel(values) for values in found.values()]).astype(np.float32)
    wrong = ~(np.isfinite(matrix) & (matrix >= 0)).all(axis=1)
    if wrong.any():
        line = list(found)[int(wrong.argmax())]
        raise InputDataError(f"{path}: line {str(line)!r} has a value that is negative or missing", expected, action)
    twice = symbols[symbols.duplicated()]
    if len(twice):
        raise InputDataError(f"{genes}: {listing(twice)} appears twice", "each gene once", action)
    return anndata.AnnData(
        sparse.csr_matrix(matrix),
        obs=pd.DataFrame(index=[str(line) for line in found]),
        var=pd.DataFrame(index=symbols.astype(str).tolist()),
    )
