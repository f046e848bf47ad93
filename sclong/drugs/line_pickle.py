"""Expression of cell lines from a pickle of numpy arrays (TranSiGen's modz_x1.pickle); nothing in it is run."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from sclong.drugs.lines import line_adata
from sclong.errors import InputDataError
from sclong.io.tables import read_tsv

if TYPE_CHECKING:
    import anndata

LARGEST_BYTES = 1 << 28
EXPECTED = "a pickle of a dict: name of a cell line -> numpy array of numbers"


def _array(*_: object) -> np.ndarray:
    """Return the empty array that a pickle fills afterwards; what it asks for besides does not count."""
    return np.empty(0, dtype=np.int8)


def _scalar(dtype: np.dtype[Any], content: bytes) -> Any:
    """Return one number or text from its bytes."""
    if dtype.hasobject or not isinstance(content, bytes):
        raise pickle.UnpicklingError("a numpy scalar of objects")
    return np.frombuffer(content, dtype=dtype, count=1)[0]


def _encode(text: str, encoding: str) -> bytes:
    """Return the bytes that protocol 2 writes as text."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"bytes in the encoding {encoding!r}")
    return text.encode("latin1")


def _frombuffer(buffer: bytes, dtype: np.dtype[Any], shape: tuple[int, ...], order: Literal["C", "F"]) -> np.ndarray:
    """Return the array that protocol 5 writes as one buffer."""
    return np.frombuffer(buffer, dtype=dtype).reshape(shape, order=order)


class _NumpyUnpickler(pickle.Unpickler):
    """Unpickles built-in values and numpy arrays; every other name in the file is refused.

    Arrays are made by functions of this module; numpy fills them from bytes, and an array of objects could hold only
    what is allowed here.
    """

    def find_class(self, module: str, name: str) -> Callable[..., Any] | type:
        """Return what an allowed name stands for.

        Raises
        ------
        pickle.UnpicklingError
            Any other name.
        """
        core = module.replace("numpy._core", "numpy.core")
        allowed: dict[tuple[str, str], Callable[..., Any] | type] = {
            ("numpy", "dtype"): np.dtype,
            ("numpy", "ndarray"): np.ndarray,
            ("numpy.core.multiarray", "_reconstruct"): _array,
            ("numpy.core.multiarray", "scalar"): _scalar,
            ("numpy.core.numeric", "_frombuffer"): _frombuffer,
            ("_codecs", "encode"): _encode,
        }
        if (core, name) not in allowed:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which may run code; nothing of it was run")
        return allowed[core, name]


def read_line_pickle(path: Path, genes: Path) -> anndata.AnnData:
    """Read cell lines x genes on a log scale, as AnnData.

    Parameters
    ----------
    path
        Pickle of a dict: cell line -> (1, genes) or (genes,) array.
    genes
        Comma-separated table with a column gene_symbol: the genes in the order of the arrays.

    Raises
    ------
    InputDataError
        Another kind of file, a name in it that is not numpy's, arrays of another length than the table of genes, values
        that are missing, infinite or negative, or a name that appears twice.
    """
    try:
        if path.stat().st_size > LARGEST_BYTES:
            raise pickle.UnpicklingError(f"{path.stat().st_size} bytes")
        with open(path, "rb") as file:
            found = _NumpyUnpickler(file).load()
        rows = {str(line): np.asarray(values, dtype=np.float64).ravel() for line, values in found.items()}
    except (OSError, EOFError, AttributeError, TypeError, ValueError, IndexError, pickle.UnpicklingError) as error:
        text = " ".join(str(error).split())[:200]
        raise InputDataError(
            f"{path} cannot be read: {text}", EXPECTED, "fetch it again, or write an h5ad of lines x genes"
        ) from error
    names = read_tsv(genes, ["gene_symbol"], sep=",", dtype=str)["gene_symbol"]
    wrong = {line: len(values) for line, values in rows.items() if len(values) != len(names)}
    if not rows or wrong:
        line = next(iter(wrong), "")
        raise InputDataError(
            f"{path}: {f'cell line {line!r} has {wrong[line]} values' if wrong else 'no cell line'}",
            f"{len(names)} values, one for each gene of {genes}",
            "give the table of genes that belongs to the file",
        )
    return line_adata(path, pd.DataFrame(np.stack(list(rows.values())), list(rows), names.to_numpy(dtype=str)))
