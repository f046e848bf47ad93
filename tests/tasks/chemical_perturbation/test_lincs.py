"""LINCS files: gctx and the tables of both generations to DeepCE's layout, the published filter and replicate rule."""

from __future__ import annotations

import gzip
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest

from sclong.errors import InputDataError
from sclong.seeding import rng
from sclong.tasks.chemical_perturbation.lincs import (
    PUBLISHED_CELLS,
    dose_name,
    middle_replicates,
    passes_published_filter,
    read_gctx,
    read_landmarks,
    read_signature_table,
    write_signature_files,
)
from sclong.tasks.chemical_perturbation.signatures import read_deepce_signatures

N_GENES, N_LANDMARKS = 9, 6
VALUES = rng("values of a gctx").normal(size=(8, N_GENES)).astype(np.float32)
GENES = pd.DataFrame(
    {
        "pr_gene_id": [str(5720 + i) for i in range(N_GENES)],
        "pr_gene_symbol": [f"G{i}" for i in range(N_GENES)],
        "pr_is_lm": ["1", "0", "1", "1", "1", "0", "1", "1", "0"],
    }
)
SIGNATURES = pd.DataFrame(
    [
        ("P1_A375_24H:A01", "BRD-1", "trt_cp", "A375", "10 \N{MICRO SIGN}M"),
        ("P1_A375_24H:A02", "BRD-1", "trt_cp", "A375", "10.0 um"),  # a replicate of the first
        ("P1_MCF7_24H:A03", "BRD-2", "trt_cp", "MCF7", "0.125 uM"),
        ("P1_MCF7_6H:A03", "BRD-2", "trt_cp", "MCF7", "0.12 um"),  # 6 hours
        ("P1_VCAP_24H:A03", "BRD-2", "trt_cp", "VCAP", "0.12 um"),  # another line
        ("P1_A375_24H:V01", "DMSO", "ctl_vehicle", "A375", "-666"),
        ("P1_PC3_24H:A05", "BRD-3", "trt_cp", "PC3", "3330 nM"),
        ("P1_PC3_24H:A06", "BRD-4", "trt_cp", "PC3", "20 uM"),  # another dose
    ],
    columns=["sig_id", "pert_id", "pert_type", "cell_id", "pert_idose"],
)
COMPOUNDS = pd.DataFrame(
    {"pert_id": ["BRD-1", "BRD-2", "BRD-3", "BRD-9"], "canonical_smiles": ["CCO", "CCN", "-666", "CCC"]}
)


def write_gctx(path: Path, values: np.ndarray, signatures: list[str], genes: list[str]) -> Path:
    with h5py.File(path, "w") as file:
        file.attrs["version"] = np.bytes_("GCTX1.0")
        file.attrs["src"] = path.name
        file["/0/DATA/0/matrix"] = values
        file["/0/META/COL/id"] = np.array(signatures, dtype="S")
        file["/0/META/ROW/id"] = np.array(genes, dtype="S")
    return path


def write_files(folder: Path, signatures: pd.DataFrame = SIGNATURES) -> dict[str, Path]:
    shuffled = rng("order of genes").permutation(N_GENES)
    matrix = write_gctx(
        folder / "level5.gctx",
        VALUES[:, shuffled],
        signatures["sig_id"].tolist(),
        GENES["pr_gene_id"][shuffled].tolist(),
    )
    paths = {name: folder / f"{name}.txt.gz" for name in ("signatures", "genes", "compounds")}
    signatures.to_csv(paths["signatures"], sep="\t", index=False, encoding="latin-1")
    GENES.to_csv(paths["genes"], sep="\t", index=False)
    COMPOUNDS.to_csv(paths["compounds"], sep="\t", index=False)
    return {"matrix": matrix, **paths}


def convert(paths: dict[str, Path], out: Path) -> dict[str, object]:
    return write_signature_files(
        [paths["matrix"]], paths["signatures"], paths["genes"], paths["compounds"], out, n_landmarks=N_LANDMARKS
    )


@pytest.mark.parametrize("generation", ["geo", "clue"])
def test_public_files_become_signature_files(tmp_path: Path, generation: str) -> None:
    paths = write_files(tmp_path)
    if generation == "clue":
        SIGNATURES.rename(columns={"cell_id": "cell_iname"}).to_csv(
            paths["signatures"], sep="\t", index=False, encoding="utf-8"
        )
        space = np.where(GENES["pr_is_lm"] == "1", "landmark", "inferred")
        GENES.set_axis(["gene_id", "gene_symbol", "feature_space"], axis=1).assign(feature_space=space).to_csv(
            paths["genes"], sep="\t", index=False
        )
    facts = convert(paths, tmp_path / "out")
    assert facts == {
        "signatures_in_table": 8,
        "pass_the_filter": 4,
        "written": 4,
        "not_in_the_matrices": 0,
        "compounds": 3,
        "compounds_without_smiles": 1,
    }
    table = read_signature_table(tmp_path / "out/signatures.csv")
    assert table["sig_id"].tolist() == [SIGNATURES["sig_id"][i] for i in (0, 1, 2, 6)]
    assert table["pert_idose"].tolist() == ["10.0 um", "10.0 um", "0.12 um", "3.33 um"]
    landmarks = [g for g, lm in zip(GENES["pr_gene_symbol"], GENES["pr_is_lm"], strict=True) if lm == "1"]
    assert table.columns[5:].tolist() == landmarks
    expected = VALUES[[0, 1, 2, 6]][:, (GENES["pr_is_lm"] == "1").to_numpy()]
    np.testing.assert_allclose(table[landmarks].to_numpy(), expected, rtol=1e-6)
    drugs = pd.read_csv(tmp_path / "out/drugs.tsv", sep="\t")
    assert drugs.to_dict("list") == {"drug_id": ["BRD-1", "BRD-2"], "smiles": ["CCO", "CCN"]}
    signatures, counts = read_deepce_signatures([tmp_path / "out/signatures.csv"])
    assert counts == {"rows_read": 4, "left_out_by_filter": 0, "repeated_rows": 0, "replicates_left_out": 1}
    assert set(signatures.samples["published_part"]) == {""} and len(signatures.values) == 3


def test_gctx_is_read_in_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_files(tmp_path)["matrix"]
    genes = GENES["pr_gene_id"].tolist()[::-2]
    wanted = {SIGNATURES["sig_id"][i] for i in (7, 1, 2)} | {"elsewhere"}
    for rows in (1000, 2):
        monkeypatch.setattr("sclong.tasks.chemical_perturbation.lincs.ROWS_AT_ONCE", rows)
        values, found = read_gctx(path, genes, wanted)
        assert found == [SIGNATURES["sig_id"][i] for i in (1, 2, 7)]
        np.testing.assert_array_equal(values, VALUES[[1, 2, 7]][:, ::-2])


# Written by cmapPy 4.0.1 (GCToo, write_gctx.write; numpy 1.26.4, pandas 2.1.4, h5py 3.16.0), then gzip: with the
# values below, genes as rows, and one column of metadata for genes and for signatures.
CMAPPY_GENES = ["5720", "466", "6009", "2309", "387"]
CMAPPY_SIGNATURES = ["P1_A375_24H:A01", "P1_A375_24H:A02", "P1_PC3_24H:A05"]
CMAPPY_VALUES = np.arange(15).reshape(5, 3) * 1.25 - 7


def test_a_file_of_cmappy_is_read(tmp_path: Path, root: Path) -> None:
    path = tmp_path / "x.gctx"
    path.write_bytes(gzip.decompress((root / "tests/golden/cmappy.gctx.gz").read_bytes()))
    values, found = read_gctx(path, CMAPPY_GENES, CMAPPY_SIGNATURES)
    assert found == CMAPPY_SIGNATURES
    np.testing.assert_array_equal(values, CMAPPY_VALUES.T)
    values, found = read_gctx(path, ["387", "466"], CMAPPY_SIGNATURES[2:])
    assert found == CMAPPY_SIGNATURES[2:]
    np.testing.assert_array_equal(values, CMAPPY_VALUES[[4, 1], 2:].T)


def test_ids_may_be_numbers_and_no_signature_may_be_asked_for(tmp_path: Path) -> None:
    path = write_gctx(tmp_path / "x.gctx", VALUES[:2, :2], ["a", "b"], ["1", "2"])
    with h5py.File(path, "a") as file:
        del file["/0/META/ROW/id"]
        file["/0/META/ROW/id"] = np.array([10, 20])
    values, found = read_gctx(path, ["20"], [])
    assert values.shape == (0, 1) and found == []
    np.testing.assert_array_equal(read_gctx(path, ["20"], ["b"])[0], VALUES[1:2, 1:2])


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("10 \N{MICRO SIGN}M", "10.0 um"),
        ("10 \u00c2\u00b5M", "10.0 um"),
        ("9.8 uM", "10.0 um"),
        ("0.04 um", "0.04 um"),
        ("40 nM", "0.04 um"),
        ("1.25 uM", "1.25 um"),
        ("1 mM", "1000.0 um"),
        ("-666", ""),
        ("", ""),
        ("10 ng/ml", ""),
        ("0 uM", ""),
        ("5 pM", ""),
        ("1.2.3 uM", ""),
        (".04 um", "0.04 um"),
    ],
)
def test_doses_get_the_published_names(written: str, name: str) -> None:
    assert dose_name(written) == name


def test_how_near_a_published_dose_must_be() -> None:
    assert [dose_name("9.8 uM", t) for t in (0.05, 1e-6)] == ["10.0 um", "9.8 um"]
    assert dose_name("120 nM", 1e-6) == "0.12 um"


def test_filter_as_published() -> None:
    table = SIGNATURES.assign(pert_idose="10.0 um")
    assert np.flatnonzero(passes_published_filter(table)).tolist() == [0, 1, 2, 6, 7]
    left_out = table.assign(pert_id="BRD-U41416256")
    assert not passes_published_filter(left_out).any()
    assert all(passes_published_filter(table.iloc[:1].assign(cell_id=c)).all() for c in PUBLISHED_CELLS)


def test_the_middle_replicate_is_kept() -> None:
    low, middle, high = np.zeros(5), np.ones(5), np.full(5, 2.0)
    values = np.array([high, low, middle, [9, 9, 9, 9, 9]])
    np.testing.assert_array_equal(middle_replicates(values, ["a", "a", "a", "b"]), [2, 3])


def test_replicates_are_ranked_gene_by_gene_as_published() -> None:
    values = rng("replicates").normal(size=(40, 30))
    group = rng("groups of replicates").integers(9, size=40)
    expected = []
    for g in np.unique(group):
        rows = np.flatnonzero(group == g)
        rank = values[rows].argsort(0).argsort(0).mean(1)  # the published rule, written out
        expected.append(rows[np.argmin((rank - (len(rows) - 1) / 2) ** 2)])
    np.testing.assert_array_equal(middle_replicates(values, group), np.sort(expected))


def broken(paths: dict[str, Path], how: str) -> None:
    if how == "not hdf5":
        paths["matrix"].write_bytes(b"gzip?")
    elif how == "no matrix":
        with h5py.File(paths["matrix"], "a") as file:
            del file["/0/DATA/0/matrix"]
    elif how == "shape":
        with h5py.File(paths["matrix"], "a") as file:
            del file["/0/META/COL/id"]
            file["/0/META/COL/id"] = np.array(["a"], dtype="S")
    elif how == "gene":
        GENES.assign(pr_gene_id=["9", *GENES["pr_gene_id"][1:]]).to_csv(paths["genes"], sep="\t", index=False)
    elif how == "landmarks":
        GENES.assign(pr_is_lm="1").to_csv(paths["genes"], sep="\t", index=False)
    elif how == "column":
        GENES.drop(columns="pr_is_lm").to_csv(paths["genes"], sep="\t", index=False)
    elif how == "nothing":
        SIGNATURES.assign(cell_id="JURKAT").to_csv(paths["signatures"], sep="\t", index=False, encoding="latin-1")
    elif how == "twice":
        both = pd.concat([SIGNATURES, SIGNATURES.iloc[:1].assign(pert_id="BRD-7")])
        both.to_csv(paths["signatures"], sep="\t", index=False, encoding="latin-1")
    elif how == "nan":
        with h5py.File(paths["matrix"], "a") as file:
            file["/0/DATA/0/matrix"][6] = np.nan


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("not hdf5", "cannot be read as gctx"),
        ("no matrix", "cannot be read as gctx"),
        ("shape", r"a matrix \(8, 9\) for 1 signatures and 9 genes"),
        ("gene", "1 of 6 landmark genes are not in it: '9'"),
        ("landmarks", "9 landmark genes"),
        ("column", "no column 'pr_is_lm or is_lm or feature_space'"),
        ("nothing", "none of 0 signatures"),
        ("twice", "appear twice: 'P1_A375_24H:A01'"),
        ("nan", "'P1_PC3_24H:A05', gene 'G0': no finite value"),
    ],
)
def test_bad_files_are_named(tmp_path: Path, how: str, message: str) -> None:
    paths = write_files(tmp_path)
    broken(paths, how)
    with pytest.raises(InputDataError, match=message):
        convert(paths, tmp_path / "out")
    assert not (tmp_path / "out/signatures.csv").exists()


# ------------------------------------------------------------------------------------------------------- real data


@pytest.mark.mirror
def test_real_signatures_go_through(tmp_path: Path, mirror: Path) -> None:
    """272 level 5 signatures of three drugs, as cmapR ships them: written as gctx, filtered, collapsed."""
    folder = mirror / "cmapr_signatures"
    rows = pd.read_csv(folder / "cmapR_ds_rows.tsv.gz", sep="\t", dtype=str, encoding="latin-1")
    matrix = pd.read_csv(folder / "cmapR_ds_mat.tsv.gz", sep="\t", index_col=0)
    assert matrix.shape == (978, 272) and matrix.index.tolist() == rows["id"].tolist()
    values = matrix.to_numpy(np.float32).T
    write_gctx(tmp_path / "level5.gctx", values, matrix.columns.tolist(), rows["pr_gene_id"].tolist())
    rows.to_csv(tmp_path / "genes.txt", sep="\t", index=False)
    columns = pd.read_csv(folder / "cmapR_ds_cols.tsv.gz", sep="\t", dtype=str, encoding="latin-1")
    columns["pert_idose"] = columns["pert_idose"].str.replace("<b5>", "\N{MICRO SIGN}")  # as R prints that byte
    columns.rename(columns={"id": "sig_id"}).to_csv(
        tmp_path / "signatures.txt", sep="\t", index=False, encoding="latin-1"
    )
    pd.DataFrame({"pert_id": columns["pert_id"].unique(), "canonical_smiles": "CCO"}).to_csv(
        tmp_path / "compounds.txt", sep="\t", index=False
    )
    facts = write_signature_files(
        [tmp_path / "level5.gctx"],
        tmp_path / "signatures.txt",
        tmp_path / "genes.txt",
        tmp_path / "compounds.txt",
        tmp_path / "out",
    )
    kept = columns["pert_idose"] == "10 \N{MICRO SIGN}M"  # the others, 0.1, 0.5, 1 and 3, are no published doses
    expected = columns[kept & (columns["pert_itime"] == "24 h") & columns["cell_id"].isin(PUBLISHED_CELLS)]
    assert facts["written"] == facts["pass_the_filter"] == len(expected) > 0
    signatures, counts = read_deepce_signatures([tmp_path / "out/signatures.csv"])
    pairs = expected.groupby(["pert_id", "cell_id"]).ngroups
    assert len(signatures.values) == pairs and counts["replicates_left_out"] == len(expected) - pairs > 0
    symbols = rows.set_index("id")["pr_gene_symbol"]
    real = matrix.set_axis(symbols[matrix.index], axis=0)[signatures.samples["sample"]].T
    np.testing.assert_allclose(signatures.values, real[signatures.genes].to_numpy(), rtol=1e-5)


@pytest.mark.mirror
def test_real_landmarks(mirror: Path, tmp_path: Path) -> None:
    real = pd.read_csv(mirror / "transigen/landmark_geneinfo.csv", dtype=str)
    real.to_csv(tmp_path / "geneinfo_beta.txt", sep="\t", index=False)
    landmarks = read_landmarks(tmp_path / "geneinfo_beta.txt")
    assert len(landmarks) == 978 and landmarks["symbol"].tolist() == real["gene_symbol"].tolist()
