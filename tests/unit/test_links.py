"""Files that point into other files: nothing but the file that was named is read."""

from __future__ import annotations

from pathlib import Path

import anndata
import h5py
import numpy as np
import pytest
from scipy import sparse

from sclong.cells.h5ad import read_expression
from sclong.cells.links import refuse_links
from sclong.errors import InputDataError


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """A whole file, and a secret beside it."""
    adata = anndata.AnnData(sparse.csr_matrix(np.ones((3, 4), np.float32)))
    adata.var_names = [f"ENSG{i:011d}" for i in range(4)]
    adata.write_h5ad(tmp_path / "x.h5ad")
    (tmp_path / "secret.bin").write_bytes(np.arange(12, dtype=np.float32).tobytes())
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["secret"] = np.arange(12, dtype=np.float32)
    return tmp_path / "x.h5ad", tmp_path


def external_link(file: h5py.File, folder: Path) -> None:
    del file["X/data"]
    file["X/data"] = h5py.ExternalLink(str(folder / "secret.h5"), "/secret")


def external_storage(file: h5py.File, folder: Path) -> None:
    del file["X/data"]
    file.create_dataset("X/data", (12,), "f4", external=[(str(folder / "secret.bin"), 0, 48)])


def virtual(file: h5py.File, folder: Path) -> None:
    del file["X/data"]
    layout = h5py.VirtualLayout((12,), "f4")
    layout[:] = h5py.VirtualSource(str(folder / "secret.h5"), "secret", (12,))
    file.create_virtual_dataset("X/data", layout)


@pytest.mark.parametrize("change", [external_link, external_storage, virtual])
def test_parts_in_other_files_are_refused(files: tuple[Path, Path], change) -> None:
    path, folder = files
    with h5py.File(path, "r+") as file:
        change(file, folder)
    with pytest.raises(InputDataError, match=r"/X/data -> .*"):
        read_expression(path)


def test_links_within_a_file_are_followed_also_in_a_circle(files: tuple[Path, Path]) -> None:
    with h5py.File(files[0], "r+") as file:
        file["uns/again"] = file["uns"]
        file["uns/soft"] = h5py.SoftLink("/X")
        file["uns/nowhere"] = h5py.SoftLink("/not/there")
        refuse_links(files[0], file)
