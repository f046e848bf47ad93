"""Matrix Market files with their lists: folders, archives, files with a prefix."""

from __future__ import annotations

import gzip
import tarfile
from pathlib import Path

import numpy as np
import pytest

from sclong.cells.h5ad import read_expression
from sclong.errors import InputDataError

COUNTS = np.array([[1, 0, 3], [0, 5, 2]])  # cells x features; the last is no gene
MATRIX = "%%MatrixMarket matrix coordinate integer general\n3 2 4\n1 1 1\n3 1 3\n2 2 5\n3 2 2\n"
FEATURES = "ENSG00000000001\tA\tGene Expression\nENSG00000000002\tB\tGene Expression\nCD3\tCD3\tAntibody Capture\n"
FILES = {"matrix.mtx": MATRIX, "features.tsv": FEATURES, "barcodes.tsv": "AAA-1\nCCC-1\n"}


def put(folder: Path, prefix: str = "", zipped: bool = True, **changed: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in {**FILES, **{k.replace("_", "."): v for k, v in changed.items()}}.items():
        content = text.encode()
        path = folder / f"{prefix}{name}{'.gz' if zipped else ''}"
        path.write_bytes(gzip.compress(content, mtime=0) if zipped else content)
    return folder


def check(path: Path, **options: str) -> None:
    adata = read_expression(path, "mtx", **options)
    assert adata.X.toarray().tolist() == COUNTS[:, :2].tolist()
    assert adata.var_names.tolist() == ["ENSG00000000001", "ENSG00000000002"]
    assert adata.var["gene_symbols"].tolist() == ["A", "B"]
    assert adata.obs_names.tolist() == ["AAA-1", "CCC-1"]


@pytest.mark.parametrize("zipped", [True, False])
def test_a_folder(tmp_path: Path, zipped: bool) -> None:
    check(put(tmp_path / "x", zipped=zipped))


def test_a_file_with_a_prefix_beside_others(tmp_path: Path) -> None:
    put(tmp_path / "x", "GSM1_")
    put(tmp_path / "x", "GSM2_", barcodes_tsv="one\n")
    check(tmp_path / "x" / "GSM1_matrix.mtx.gz")


def test_an_archive_of_several(tmp_path: Path) -> None:
    put(tmp_path / "x" / "a")
    put(tmp_path / "x" / "b")
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        archive.add(tmp_path / "x", arcname="x")
    check(tmp_path / "x.tar", member="x/b/matrix.mtx.gz")
    with pytest.raises(InputDataError, match=r"(?s)2 matrices.*write member: "):
        read_expression(tmp_path / "x.tar", "mtx")
    with pytest.raises(InputDataError, match=r"(?s)no member.*write member: x/a/matrix.mtx.gz"):
        read_expression(tmp_path / "x.tar", "mtx", member="x/a/matrix.mtx")


def test_lists_of_another_length(tmp_path: Path) -> None:
    with pytest.raises(InputDataError, match="has 3 genes and 2 cells, the lists beside it 3 and 1"):
        read_expression(put(tmp_path / "x", barcodes_tsv="one\n"), "mtx")


def test_a_missing_list_and_no_matrix(tmp_path: Path) -> None:
    (put(tmp_path / "x") / "barcodes.tsv.gz").unlink()
    with pytest.raises(InputDataError, match="0 files barcodes"):
        read_expression(tmp_path / "x", "mtx")
    (tmp_path / "x" / "matrix.mtx.gz").unlink()
    with pytest.raises(InputDataError, match="0 matrices"):
        read_expression(tmp_path / "x", "mtx")


def test_a_truncated_matrix(tmp_path: Path) -> None:
    path = put(tmp_path / "x") / "matrix.mtx.gz"
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(InputDataError, match="cannot be read as mtx"):
        read_expression(tmp_path / "x", "mtx")
