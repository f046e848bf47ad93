"""What kind of file it is, by its content; how kinds other than h5ad are read, or turned into h5ad by the user."""

from __future__ import annotations

import fcntl
import gzip
import importlib
import shutil
import tarfile
import tempfile
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import pandas as pd
from scipy import sparse

from sclong.cells.links import refuse_links
from sclong.cells.mtx import MATRIX, read_mtx
from sclong.cells.structure import check_indices, check_pointers
from sclong.errors import InputDataError, listing, nearest

if TYPE_CHECKING:
    import anndata

UNREADABLE = (
    OSError,
    KeyError,
    ValueError,
    EOFError,
    RuntimeError,
    TypeError,
    IndexError,
    AttributeError,
    NotImplementedError,
    tarfile.TarError,
    zlib.error,
)
HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"
RNA = ("rna", "gex", "RNA", "GEX", "gene_expression", "Gene Expression")
FILTERS = {32015: "zstd", 32001: "blosc", 32026: "blosc2", 32004: "lz4", 32008: "bitshuffle", 307: "bzip2"}
CONVERT = {
    "h5seurat": (
        "a file of SeuratDisk (h5Seurat)",
        'in R: SeuratDisk::Convert("FILE.h5seurat", dest = "h5ad"), then use the h5ad file',
    ),
    "rds": (
        "an R object (rds)",
        'in R: zellkonverter::writeH5AD(as.SingleCellExperiment(readRDS("FILE.rds")), "FILE.h5ad")',
    ),
    "parquet": (
        "a parquet table",
        'anndata.AnnData(pandas.read_parquet("FILE").astype("float32")).write_h5ad("FILE.h5ad"), with cells in rows',
    ),
    "zip": ("a zip archive", "unpack it: unzip FILE, and name what was in it"),
    "tar": (
        "a tar archive",
        "unpack it: tar xf FILE, and name what was in it (in a configuration: format: mtx or csv, and member)",
    ),
    "text": (
        "a table of text",
        'scanpy.read_csv("FILE").write_h5ad("FILE.h5ad") (genes in rows: scanpy.read_csv("FILE").T); in a '
        "configuration: format: csv",
    ),
    "spatialdata": (
        "a store of SpatialData",
        "name the table in it, which is an AnnData: FILE.zarr/tables/NAME (its counts must be of cells, not of spots)",
    ),
    "hdf5": ("an HDF5 file that is none of the kinds that are known", "write it with adata.write_h5ad"),
    "folder": (
        "a folder that is neither a zarr store nor has matrix.mtx",
        "name the file, or the folder of matrix.mtx",
    ),
}


def cannot_read(path: Path, error: BaseException, what: str = "h5ad") -> InputDataError:
    """Return the one error that stands for whatever h5py, scipy, zarr and anndata raise."""
    reason = " ".join(str(error).split())[:200]
    size = f" ({path.stat().st_size:,} bytes)" if path.is_file() else ""
    if "lock file" in reason.lower() and isinstance(error, OSError):
        return InputDataError(
            f"{path}: locked: another program has it open for writing ({reason})",
            "a file that nobody writes",
            "close it there (a notebook?) and try again; where the file system has no locks, set "
            "HDF5_USE_FILE_LOCKING=FALSE",
        )
    missing = _missing_filter(path)
    if missing:
        return InputDataError(
            f"{path}: compressed with {missing}, a filter that this HDF5 library lacks",
            "compression by gzip or lzf, or the plug-in",
            "pip install hdf5plugin (it is found by itself), or write the file again where it can be read: "
            'adata.write_h5ad(..., compression="gzip")',
        )
    return InputDataError(
        f"{path}{size} cannot be read as {what}: {type(error).__name__}: {reason}",
        f"a whole {what} file",
        "copy or fetch the file again if it is cut short or damaged; else read it with anndata and write it again, or "
        "name its true format",
    )


def refuse_locked(path: Path) -> None:
    """Refuse a file that another program has open for writing, as HDF5's locks say.

    This package reads with HDF5's own locks off, which hang or fail on parallel file systems.

    Raises
    ------
    InputDataError
        Another program holds a lock for writing.
    """
    with open(path, "rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise cannot_read(path, OSError(f"unable to lock file: {error.strerror}")) from None
        except OSError:  # a file system without locks
            return


def _missing_filter(path: Path) -> str | None:
    found: list[str] = []

    def look(_: str, node: Any) -> None:
        if isinstance(node, h5py.Dataset) and not found:
            plist = node.id.get_create_plist()
            for i in range(plist.get_nfilters()):
                code, _, _, name = plist.get_filter(i)
                if not h5py.h5z.filter_avail(code):
                    found.append(FILTERS.get(code) or name.decode(errors="replace") or f"filter {code}")

    with suppress(*UNREADABLE), h5py.File(path, "r") as file:
        file.visititems(look)
    return found[0] if found else None


@contextmanager
def reading(path: Path, what: str = "h5ad") -> Iterator[None]:
    """Turn whatever a damaged file makes libraries raise into one error that names the file."""
    try:
        with warnings.catch_warnings():
            # equal names are summed when genes are aligned
            warnings.filterwarnings("ignore", message="Variable names are not unique|Transforming to str index")
            warnings.filterwarnings("ignore", category=FutureWarning)
            yield
    except UNREADABLE as error:
        raise cannot_read(path, error, what) from error


def find_plugins() -> None:
    """Load further HDF5 filters where the user has installed them."""
    with suppress(ImportError):
        importlib.import_module("hdf5plugin")


def kind_of(path: str | Path) -> str:
    """Return the kind of a file or folder: "h5ad", another that :func:`read_kind` reads, or a key of `CONVERT`.

    Raises
    ------
    InputDataError
        There is no such file, or it is empty or locked.
    """
    path = Path(path)
    if path.is_dir():
        if any((path / name).is_file() for name in (".zgroup", ".zattrs", "zarr.json")):
            return "spatialdata" if (path / "tables").is_dir() and not (path / "obs").is_dir() else "zarr"
        return "mtx" if any(MATRIX.fullmatch(p.name) for p in path.rglob("*") if p.is_file()) else "folder"
    if not path.is_file():
        raise InputDataError(f"{path}: no such file", "an expression file", "check the path")
    name = path.name.lower()
    with reading(path, "expression"), path.open("rb") as file:
        head = file.read(8)
        if not head:
            raise InputDataError(f"{path}: an empty file", "an h5ad file", "fetch it again")
    if head == HDF5_MAGIC:
        return _kind_of_hdf5(path)
    if MATRIX.fullmatch(path.name):
        return "mtx"
    if tarfile.is_tarfile(path):
        return "tar"
    if head[:2] == b"\x1f\x8b":
        if name.endswith((".rds", ".rdata", ".rda")):
            return "rds"
        with reading(path, "gzip"), gzip.open(path) as inner:
            return "gzip" if inner.read(8) == HDF5_MAGIC else "text"
    if head[:4] in (b"PAR1", b"PK\x03\x04"):
        return "parquet" if head[:4] == b"PAR1" else "zip"
    if name.endswith((".csv", ".tsv", ".txt", ".csv.bz2", ".tsv.bz2")):
        return "text"
    raise InputDataError(f"{path}: not an HDF5 file", "an h5ad file", "check the file, or name its format")


def _kind_of_hdf5(path: Path) -> str:
    find_plugins()
    refuse_locked(path)
    with reading(path), h5py.File(path, "r") as file:
        refuse_links(path, file)
        if "obs" in file and "var" in file and "mod" not in file:
            modern = all(isinstance(file[part], h5py.Group) for part in ("obs", "var"))
            return "h5ad" if modern else "old_h5ad"
        if "mod" in file:
            return "h5mu"
        if "row_attrs" in file and "matrix" in file:
            return "loom"
        if _groups_10x(file):
            return "10x_h5"
        return "h5seurat" if "assays" in file else "hdf5"


def read_kind(path: str | Path, kind: str, member: str | None = None) -> anndata.AnnData:
    """Read a file of another kind than h5ad, whole, with all its matrices.

    Parameters
    ----------
    path, kind
        File and what :func:`kind_of` returned.
    member
        Modality of a h5mu file; genome of an old Cell Ranger file; matrix of a folder.

    Raises
    ------
    InputDataError
        A kind that is not read (with the call that converts it); a damaged file; a member that is not there.
    """
    import anndata

    path = Path(path)
    with reading(path, kind):
        if kind == "zarr":
            return anndata.read_zarr(path)
        if kind == "mtx":
            return read_mtx(path, member)
        if kind == "10x_h5":
            return read_10x(path, member)
        if kind == "loom":
            return read_loom(path)
        if kind == "h5mu":
            return _read_modality(path, member)
        if kind == "old_h5ad":
            return anndata.read_h5ad(path)
        if kind == "gzip":
            with tempfile.TemporaryDirectory() as folder:
                plain = Path(folder) / "plain.h5ad"
                with gzip.open(path) as packed, plain.open("wb") as out:
                    shutil.copyfileobj(packed, out)
                inner = _kind_of_hdf5(plain)
                return anndata.read_h5ad(plain) if inner == "h5ad" else read_kind(plain, inner, member)
    what, how = CONVERT[kind]
    inside = ""
    if kind == "hdf5":
        with h5py.File(path, "r") as file:
            inside = f" (it has {listing(file)})"
    raise InputDataError(
        f"{path}: {what}{inside}, without obs and var" if kind == "hdf5" else f"{path}: {what}",
        "h5ad, a zarr store of anndata, Cell Ranger h5 or a folder with matrix.mtx, loom, or h5mu",
        how.replace("FILE", path.stem),
    )


def _groups_10x(file: h5py.File) -> list[str]:
    """Return the groups that hold a matrix of Cell Ranger: "matrix", or one for each genome (version 2)."""
    return [
        name
        for name, node in file.items()
        if isinstance(node, h5py.Group) and {"data", "indices", "indptr", "barcodes"} <= set(node)
    ]


def read_10x(path: Path, member: str | None = None) -> anndata.AnnData:
    """Read an h5 file of Cell Ranger (2 and later) or CellBender: cells x features, with ids, symbols and types."""
    import anndata

    with h5py.File(path, "r") as file:
        name = _one_of(path, _groups_10x(file), member, ("matrix",), "matrices")
        group = file[name]
        n_features, n_cells = (int(n) for n in group["shape"][:])
        indptr, indices, data = (group[part][:] for part in ("indptr", "indices", "data"))
        check_pointers(indptr, len(data), len(indices), n_cells, str(path))
        check_indices(indices, n_features, str(path))
        matrix = sparse.csr_matrix((data.astype(np.float32), indices, indptr), shape=(n_cells, n_features))
        features = group.get("features", group)
        ids, names = ("id", "name") if "id" in features else ("genes", "gene_names")
        var = pd.DataFrame(
            {"gene_ids": features[ids].asstr()[:], "gene_symbols": features[names].asstr()[:]},
            index=features[ids].asstr()[:],
        )
        if "feature_type" in features:
            var["feature_types"] = features["feature_type"].asstr()[:]
        obs = pd.DataFrame(index=group["barcodes"].asstr()[:])
    return anndata.AnnData(matrix, obs=obs, var=var)


def read_loom(path: Path) -> anndata.AnnData:
    """Read a loom file, with its layers: genes stand in its rows, and names in row attributes."""
    import anndata

    def texts(group: h5py.Group) -> pd.DataFrame:
        columns = {}
        for name, node in group.items():
            if isinstance(node, h5py.Dataset) and node.ndim == 1:
                values = node[:]
                columns[name] = np.array([v.decode() if isinstance(v, bytes) else v for v in values])
        return pd.DataFrame(columns)

    with h5py.File(path, "r") as file:
        shape = file["matrix"].shape
        var, obs = texts(file["row_attrs"]), texts(file["col_attrs"])
        var = var if len(var) else pd.DataFrame(index=range(shape[0]))
        obs = obs if len(obs) else pd.DataFrame(index=range(shape[1]))
        layers = {n: sparse.csr_matrix(node[:].T.astype(np.float32)) for n, node in file.get("layers", {}).items() if n}
        matrix = sparse.csr_matrix(file["matrix"][:].T.astype(np.float32))
    for table, columns in ((var, ("Gene", "gene_names", "Name", "var_names")), (obs, ("CellID", "obs_names", "cell"))):
        column = next((c for c in columns if c in table), None)
        table.index = pd.Index(table[column].astype(str) if column else table.index.astype(str))
        table.index.name = None
    return anndata.AnnData(matrix, obs=obs, var=var, layers=layers)


def _read_modality(path: Path, member: str | None) -> anndata.AnnData:
    from anndata.io import read_elem

    with h5py.File(path, "r") as file:
        name = _one_of(path, list(file["mod"]), member, RNA, "modalities")
        return read_elem(file[f"mod/{name}"])


def _one_of(path: Path, names: list[str], member: str | None, usual: tuple[str, ...], what: str) -> str:
    if member is None and len(names) == 1:
        return names[0]
    wanted = [member] if member is not None else list(usual)
    found = [name for name in wanted if name in names]
    if not found:
        like = nearest(member or "", names)
        raise InputDataError(
            f"{path}: no {member!r}; the {what} are {listing(names)}"
            if member
            else f"{path}: the {what} are {listing(names)}",
            "the one that holds gene expression",
            f"name it: --member {like[0] if like else 'NAME'} (in a configuration: member)",
        )
    return found[0]
