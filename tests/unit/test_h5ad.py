"""Reading expression matrices."""

from __future__ import annotations

import bz2
import gzip
import io
import tarfile
from pathlib import Path

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from sclong.cells.h5ad import read_expression
from sclong.cells.reader import open_reader
from sclong.errors import InputDataError

COUNTS = np.array([[0, 3, 1], [5, 0, 2]], dtype=np.float32)
IDS = ["ENSG00000000001", "ENSG00000000002", "ENSG00000000003"]
SYMBOLS = ["ALPHA", "BETA", "GAMMA"]


def adata(values: object = COUNTS, names: list[str] = SYMBOLS, **var: list[str]) -> ad.AnnData:
    return ad.AnnData(values, pd.DataFrame(index=["c1", "c2"]), pd.DataFrame(var, index=names))


def write(data: ad.AnnData, folder: Path) -> Path:
    data.write_h5ad(folder / "x.h5ad")
    return folder / "x.h5ad"


@pytest.mark.parametrize("make", [np.asarray, sparse.csr_matrix, sparse.csc_matrix])
@pytest.mark.parametrize("dtype", ["float32", "int32", "float64"])
def test_any_matrix_becomes_csr_float32(tmp_path: Path, make, dtype: str) -> None:
    out = read_expression(write(adata(make(COUNTS.astype(dtype))), tmp_path))
    assert sparse.isspmatrix_csr(out.X)
    assert out.X.dtype == np.float32
    np.testing.assert_array_equal(out.X.toarray(), COUNTS)


def test_counts_are_found_in_raw_with_the_genes_of_raw(tmp_path: Path) -> None:
    data = adata(np.log1p(COUNTS))
    data.raw = adata(COUNTS)
    out = read_expression(write(data[:, :2].copy(), tmp_path))
    assert out.uns["counts_from"] == "raw"
    assert out.var_names.tolist() == SYMBOLS
    np.testing.assert_array_equal(out.X.toarray(), COUNTS)


def test_counts_are_found_in_a_layer(tmp_path: Path) -> None:
    data = adata(np.log1p(COUNTS))
    data.layers["scaled"] = COUNTS - 0.5
    data.layers["umi"] = COUNTS
    path = write(data, tmp_path)
    assert read_expression(path).uns["counts_from"] == "layers['umi']"
    out = read_expression(path, layer="X")
    np.testing.assert_allclose(out.X.toarray(), np.log1p(COUNTS))
    with pytest.raises(InputDataError, match=r"no 'umis'(.|\n)*write layer: umi"):
        read_expression(path, layer="umis")


def test_without_counts_it_is_x(tmp_path: Path) -> None:
    assert read_expression(write(adata(np.log1p(COUNTS)), tmp_path)).uns["counts_from"] == "X"


@pytest.mark.parametrize(
    ("names", "var", "expected"),
    [
        (IDS, {"symbol": SYMBOLS}, IDS),
        (SYMBOLS, {"gene_ids": IDS}, IDS),
        (["0", "1", "2"], {"feature_name": SYMBOLS, "stable_id": IDS}, IDS),
        (["0", "1", "2"], {"feature_name": SYMBOLS, "my_ids": IDS}, IDS),
        (SYMBOLS, {"nearest_gene": IDS}, SYMBOLS),  # a column of ids that does not say that it names the gene
        (SYMBOLS, {"gene_ids": SYMBOLS, "ensembl_id": IDS}, IDS),
        (SYMBOLS, {"gene_ids": ["GeneID:1", "GeneID:2", "GeneID:3"]}, ["GeneID:1", "GeneID:2", "GeneID:3"]),
        (SYMBOLS, {"gene_ids": SYMBOLS}, SYMBOLS),
        (SYMBOLS, {"mouse": [i.replace("ENSG", "ENSMUSG") for i in IDS]}, SYMBOLS),
    ],
)
def test_gene_names_are_ids_where_there_are_ids(
    tmp_path: Path, names: list[str], var: dict[str, list[str]], expected: list[str]
) -> None:
    path = write(adata(COUNTS, names, **var), tmp_path)
    out = read_expression(path)
    assert out.var_names.tolist() == expected
    if expected is names:
        assert out.uns["genes_from"] == "var_names"
        assert "original_name" not in out.var
    else:
        assert out.var[out.uns["genes_from"]].tolist() == expected
        assert out.var["original_name"].tolist() == names
    with open_reader(path) as cells:
        assert cells.genes == expected  # the reader of large files follows the same rule


def test_names_as_they_stand(tmp_path: Path) -> None:
    path = write(adata(COUNTS, SYMBOLS, gene_ids=IDS), tmp_path)
    assert read_expression(path).var_names.tolist() == IDS
    out = read_expression(path, gene_column="var_names")
    assert (out.var_names.tolist(), out.uns["genes_from"]) == (SYMBOLS, "var_names")


def test_the_named_column_of_gene_names(tmp_path: Path) -> None:
    path = write(adata(COUNTS, IDS, symbol=SYMBOLS), tmp_path)
    assert read_expression(path, gene_column="symbol").var_names.tolist() == SYMBOLS
    with pytest.raises(InputDataError, match=r"no column 'symbols'(.|\n)*write gene_column: symbol"):
        read_expression(path, gene_column="symbols")


def test_cell_ranger_file_without_its_antibodies(tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    matrix = sparse.csc_matrix(COUNTS.T.astype(np.int32))
    with h5py.File(path, "w") as file:
        group = file.create_group("matrix")
        for name in ("data", "indices", "indptr"):
            group[name] = getattr(matrix, name)
        group["shape"] = matrix.shape
        group["barcodes"] = np.array([b"c1", b"c2"])
        group["features/id"] = np.array([i.encode() for i in IDS])
        group["features/name"] = np.array([b"ALPHA", b"CD3", b"GAMMA"])
        group["features/feature_type"] = np.array([b"Gene Expression", b"Antibody Capture", b"Gene Expression"])
    out = read_expression(path, "10x_h5")
    assert out.var_names.tolist() == [IDS[0], IDS[2]]
    assert out.obs_names.tolist() == ["c1", "c2"]
    np.testing.assert_array_equal(out.X.toarray(), COUNTS[:, [0, 2]])
    np.testing.assert_array_equal(read_expression(path).X.toarray(), COUNTS[:, [0, 2]])  # the content says its kind


TABLE = "cell,ALPHA,BETA,GAMMA\nc1,0,3,1\nc2,5,0,2\n"
TURNED = "gene,c1,c2\nALPHA,0,5\nBETA,3,0\nGAMMA,1,2\n"


@pytest.mark.parametrize(
    ("name", "content", "transpose"),
    [
        ("x.csv", TABLE.encode(), False),
        ("x.csv.gz", gzip.compress(TURNED.encode(), mtime=0), True),
        ("x.tsv", TABLE.replace(",", "\t").encode(), False),
        ("x.tsv.bz2", bz2.compress(TURNED.replace(",", "\t").encode()), True),
        ("x.csv", TURNED.removeprefix("gene,").encode(), True),  # as R writes it: no name above the row names
    ],
)
def test_tables(tmp_path: Path, name: str, content: bytes, transpose: bool) -> None:
    (tmp_path / name).write_bytes(content)
    out = read_expression(tmp_path / name, "csv", transpose=transpose)
    assert (out.obs_names.tolist(), out.var_names.tolist()) == (["c1", "c2"], SYMBOLS)
    np.testing.assert_array_equal(out.X.toarray(), COUNTS)


def test_equal_gene_names_of_a_table_stay_equal(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("cell,ALPHA,ALPHA\nc1,1,2\n")
    assert read_expression(tmp_path / "x.csv", "csv").var_names.tolist() == ["ALPHA", "ALPHA"]


def test_member_of_an_archive(tmp_path: Path) -> None:
    content = TURNED.replace(",", "\t").encode()
    with tarfile.open(tmp_path / "x.tar.bz2", "w:bz2") as archive:
        info = tarfile.TarInfo("data/counts.tsv")
        info.size = len(content)
        archive.addfile(info, io.BytesIO(content))
    out = read_expression(tmp_path / "x.tar.bz2", "csv", member="data/counts.tsv", transpose=True)
    np.testing.assert_array_equal(out.X.toarray(), COUNTS)
    with pytest.raises(InputDataError, match=r"no member 'counts\.tsv'(.|\n)*write member: data/counts\.tsv"):
        read_expression(tmp_path / "x.tar.bz2", "csv", member="counts.tsv")


@pytest.mark.mirror
@pytest.mark.parametrize(
    ("file", "options", "shape", "first"),
    [
        ("heart_kanemaru_1k/human_val.h5ad", {}, (1000, 32583), "ENSG00000243485"),
        (
            "balf_liao2020_C144/GSM4339772_C144_filtered_feature_bc_matrix.h5",
            {"format": "10x_h5"},
            (3716, 33539),
            "ENSG00000243485",
        ),
        ("tcells_wu2020_200/wu2020_200_v0_11.h5ad", {}, (200, 30727), "GeneID:100505874"),
        (
            "breast_chung2017/chung-park-2017.tar.bz2",
            {"format": "csv", "member": "counts.tsv", "transpose": True},
            (563, 23438),
            "WASH7P",
        ),
    ],
)
def test_real_files(mirror: Path, file: str, options: dict, shape: tuple[int, int], first: str) -> None:
    out = read_expression(mirror / file, **options)
    assert (out.shape, out.var_names[0]) == (shape, first)
    assert np.array_equal(out.X.data, np.rint(out.X.data))


def test_files_are_not_locked() -> None:
    """Lustre and NFS may refuse locks; what the user has set stays."""
    import os
    import subprocess
    import sys

    for said, expected in ((None, "FALSE"), ("TRUE", "TRUE")):
        environment = {k: v for k, v in os.environ.items() if k != "HDF5_USE_FILE_LOCKING"}
        environment |= {"HDF5_USE_FILE_LOCKING": said} if said else {}
        program = "import os, sclong; print(os.environ['HDF5_USE_FILE_LOCKING'])"
        done = subprocess.run(
            [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
        )
        assert done.stdout.strip() == expected
