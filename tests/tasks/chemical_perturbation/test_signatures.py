"""Signatures as files: DeepCE's tables and AnnData, compounds, gene vectors, gene names, and what can be wrong."""

from __future__ import annotations

import pickle
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest

from sclong.cells.h5ad import read_expression
from sclong.errors import InputDataError
from sclong.seeding import rng
from sclong.tasks.chemical_perturbation.dataset import SignatureContext, Signatures, published_parts
from sclong.tasks.chemical_perturbation.lincs import ID_COLUMNS
from sclong.tasks.chemical_perturbation.lines import newer_names
from sclong.tasks.chemical_perturbation.signatures import read_deepce_signatures, read_gene_vectors
from sclong.tasks.chemical_perturbation.task import TASK

GENES = ["DDR1", "PAX8", "PAPD7", "GAPDH"]
CSV = {"format": "deepce_csv", "smiles_header": False}
COMPOUNDS = {"BRD-0": "CCO", "BRD-1": "c1ccccc1", "BRD-2": "CCN"}


def row(sig: str, pert: str = "BRD-0", values: object = None, **other: str) -> list[object]:
    """Return a line of DeepCE's table that passes the filter, but for what `other` says."""
    ids = {"pert_type": "trt_cp", "cell_id": "A375", "pert_idose": "10.0 um", **other}
    numbers = rng("signature", sig).normal(size=len(GENES)).round(4).tolist() if values is None else values
    return [f"LJP001_A375_24H:{sig}", pert, *ids.values(), *numbers]


def write_csv(path: Path, rows: list[list[object]], genes: list[str] = GENES) -> Path:
    pd.DataFrame(rows, columns=[*ID_COLUMNS, *genes]).to_csv(path, index=False)
    return path


def write_h5ad(path: Path, x: np.ndarray, obs: pd.DataFrame, genes: list[str]) -> Path:
    anndata.AnnData(x.astype(np.float32), obs=obs, var=pd.DataFrame(index=genes)).write_h5ad(path)
    return path


def inputs_of(folder: Path, rows: list[list[object]] | None = None) -> dict[str, object]:
    """Return inputs: one table, compounds without header, two untreated lines."""
    rows = rows or [row("A", "BRD-0"), row("B", "BRD-1"), row("C", "BRD-2")]
    pd.DataFrame(COMPOUNDS.items()).to_csv(folder / "drugs.csv", header=False, index=False)
    lines = pd.DataFrame(index=["A375", "PC3"])
    return {
        "signatures": write_csv(folder / "signatures.csv", rows),
        "drugs": folder / "drugs.csv",
        "expression": write_h5ad(folder / "lines.h5ad", np.ones((2, len(GENES))), lines, GENES),
    }


def prepare(inputs: dict[str, object], out: Path, options: dict[str, object] = CSV) -> dict[str, object]:
    out.mkdir(exist_ok=True)
    return TASK.prepare(inputs, options, out)


# -------------------------------------------------------------------------------------------- DeepCE's three files


def test_published_files_are_filtered_and_keep_their_parts(tmp_path: Path) -> None:
    paths = []
    for part, pert in (("train", "BRD-0"), ("dev", "BRD-1"), ("test", "BRD-2")):
        good = row(f"{part}X", pert)
        rows = [
            good,
            row(f"{part}Y", pert),  # a replicate: of two the first is kept
            good,  # the same once more
            ["LJP001_A375_6H:X", *good[1:]],
            row("U", "BRD-U41416256"),
            row("V", pert, pert_type="ctl_vehicle"),
            row("W", pert, cell_id="JURKAT"),
            row("Z", pert, pert_idose="20.0 um"),
        ]
        paths.append(write_csv(tmp_path / f"{part}.csv", rows))
    facts = prepare({**inputs_of(tmp_path), "signatures": paths}, tmp_path / "out")
    expected = {
        "signatures": 3,
        "genes": 4,
        "rows_read": 24,
        "left_out_by_filter": 15,
        "repeated_rows": 3,
        "replicates_left_out": 3,
        "compounds": 3,
        "structures_in_several_published_parts": 0,
    }
    assert {key: facts[key] for key in expected} == expected
    samples = Signatures.read(tmp_path / "out").samples
    assert list(samples["sample"]) == [f"LJP001_A375_24H:{p}X" for p in ("train", "dev", "test")]
    assert list(samples["dose_um"]) == [10.0] * 3
    split = TASK.split(tmp_path / "out", "published", {}, 1)
    assert list(split["part"]) == ["train", "validation", "test"]
    assert list(split["scenario"]) == ["", "", "test"]


def test_structures_of_a_later_part_are_left_out_of_the_earlier_ones(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A compound by its id, and a salt under another id: of the published parts the last keeps it."""
    inputs = inputs_of(tmp_path)
    table = {**COMPOUNDS, "BRD-3": "CCCC", "BRD-4": "CCCCC", "BRD-5": "OCC.Cl"}  # 5 is a salt of 0
    pd.DataFrame(table.items()).to_csv(inputs["drugs"], header=False, index=False)
    parts = {"train": [0, 1, 2, 3], "dev": [1, 4, 5], "test": [2, 5]}
    paths = [
        write_csv(tmp_path / f"{part}.csv", [row(f"{part}{i}", f"BRD-{i}") for i in numbers])
        for part, numbers in parts.items()
    ]
    facts = prepare({**inputs, "signatures": paths}, tmp_path / "out")
    expected = {
        "structures": 5,
        "structures_in_several_published_parts": 3,
        "published_train_signatures_left_out": 3,
        "published_validation_signatures_left_out": 1,
        "published_compounds_left_out": 4,
        "some_published_compounds_left_out": ["BRD-0", "BRD-1", "BRD-2", "BRD-5"],
    }
    assert {key: facts[key] for key in expected} == expected
    with caplog.at_level("WARNING", logger="sclong"):
        split = TASK.split(tmp_path / "out", "published", {}, 1)
    found = {sample.split(":")[1]: part for sample, part in zip(split["sample"], split["part"], strict=True)}
    assert found == {"train3": "train", "dev1": "validation", "dev4": "validation", "test2": "test", "test5": "test"}
    assert "3 training and 1 validation signatures" in caplog.text and "the first 'BRD-0', 'BRD-1'" in caplog.text
    assert not published_parts(Signatures.read(tmp_path / "out").samples.assign(published_part=""))[0].isna().any()


def test_no_published_part_may_be_empty(tmp_path: Path) -> None:
    paths = [write_csv(tmp_path / f"{i}.csv", [row(str(i), f"BRD-{min(i, 1)}")]) for i in range(3)]
    prepare({**inputs_of(tmp_path), "signatures": paths}, tmp_path / "out")
    with pytest.raises(InputDataError, match="published parts 'validation' have no signatures"):
        TASK.split(tmp_path / "out", "published", {}, 1)


def test_one_table_has_no_parts(tmp_path: Path) -> None:
    assert prepare(inputs_of(tmp_path), tmp_path / "out")["signatures"] == 3
    with pytest.raises(InputDataError, match="no published parts"):
        TASK.split(tmp_path / "out", "published", {}, 1)
    split = TASK.split(tmp_path / "out", "compound", {}, 1)
    assert sorted(split["part"]) == ["test", "train", "validation"]


def test_replicates_stand_in_one_part(tmp_path: Path) -> None:
    """Each file is collapsed on its own; of one compound, line and dose in several files the last part keeps it."""
    paths = [
        write_csv(tmp_path / f"{i}.csv", [row(f"{i}A"), row(f"{i}B"), row(f"{i}C"), row(f"{i}D", f"BRD-{i + 1}")])
        for i in range(3)
    ]
    signatures, counts = read_deepce_signatures(paths)
    assert len(signatures.values) == 6 and counts["replicates_left_out"] == 6
    inputs = inputs_of(tmp_path)
    pd.DataFrame({**COMPOUNDS, "BRD-3": "CCCC"}.items()).to_csv(inputs["drugs"], header=False, index=False)
    prepare({**inputs, "signatures": paths}, tmp_path / "out")
    samples = Signatures.read(tmp_path / "out").samples.set_index("sample")
    split = TASK.split(tmp_path / "out", "published", {}, 1)
    key = samples.loc[split["sample"], ["pert_id", "cell_id", "dose_um"]]
    assert not key.duplicated().any() and split["part"].tolist() == ["train", "validation", "test", "test"]


def test_doses_may_be_written_in_other_ways(tmp_path: Path) -> None:
    """Another way to write a published dose is that dose; another dose, however near, is not."""
    written = ["10 um", "0.12 uM", "370 nM", "10.0 um", "0.125 uM", "9.8 um", "-666"]
    rows = [row(str(i), f"BRD-{i % 3}", pert_idose=dose) for i, dose in enumerate(written)]
    signatures, counts = read_deepce_signatures([write_csv(tmp_path / "x.csv", rows)])
    assert counts["left_out_by_filter"] == 3 and counts["replicates_left_out"] == 1
    assert signatures.samples["dose_um"].tolist() == [10.0, 0.12, 0.37]


@pytest.mark.parametrize(
    ("rows", "genes", "message"),
    [
        ([row("A"), row("A")], GENES, "different signatures have the same id 'LJP001_A375_24H:A'"),
        ([row("A", values=[1, 2, float("nan"), 4])], GENES, "24H:A', gene 'PAPD7'"),
        ([row("A", values=[1, 2, float("inf"), 4])], GENES, "24H:A', gene 'PAPD7'"),
        ([row("A", values=[1, 2, "high", 4])], GENES, "'PAPD7' holds something that is no number"),
        ([row("A")], ["DDR1", "PAX8", "PAX8", "GAPDH"], "'PAX8' appear twice"),
        ([row("A", cell_id="JURKAT")], GENES, "no signature passes the published filter"),
        ([row("A"), row("B", "")], GENES, "1 signatures have no pert_id: 'LJP001_A375_24H:B'"),
    ],
    ids=["id twice", "nan", "inf", "word", "gene twice", "filter", "no compound"],
)
def test_bad_tables_are_named(tmp_path: Path, rows: list, genes: list[str], message: str) -> None:
    if message.startswith("different"):
        rows = [rows[0], [*rows[1][:-1], 99.0]]
    inputs = inputs_of(tmp_path)
    write_csv(tmp_path / "signatures.csv", rows, genes)
    with pytest.raises(InputDataError, match=message):
        prepare(inputs, tmp_path / "out")
    assert not (tmp_path / "out/samples.tsv").exists()


def test_files_that_do_not_fit_together(tmp_path: Path) -> None:
    paths = [write_csv(tmp_path / f"{i}.csv", [row(str(i))]) for i in range(3)]
    with pytest.raises(InputDataError, match="2 signature files"):
        read_deepce_signatures(paths[:2])
    write_csv(paths[2], [row("2")], ["DDR1", "PAX8", "TENT4A", "GAPDH"])
    with pytest.raises(InputDataError, match=r"2\.csv: other genes.*'PAPD7', 'TENT4A'"):
        read_deepce_signatures(paths)
    write_csv(paths[2], [row("2")], GENES[::-1])
    with pytest.raises(InputDataError, match="or another order"):
        read_deepce_signatures(paths)
    pd.DataFrame({"id": [1]}).to_csv(paths[0], index=False)
    with pytest.raises(InputDataError, match="begins with 'id'"):
        read_deepce_signatures(paths)


# -------------------------------------------------------------------------------------------------------- compounds


def test_compounds_without_a_structure_are_dropped_and_named(tmp_path: Path) -> None:
    inputs = inputs_of(tmp_path, [row("A"), row("B", "BRD-1"), row("C", "BRD-2"), row("D", "BRD-8"), row("E", "BRD-9")])
    table = {"BRD-0": "CCO", "BRD-1": "C1CC", "BRD-2": "", "BRD-8": "nonsense(", "BRD-7": "also nonsense"}
    pd.DataFrame(table.items()).to_csv(inputs["drugs"], header=False, index=False)
    facts = prepare(inputs, tmp_path / "out")
    assert facts["dropped_compounds_without_structure"] == ["BRD-2", "BRD-9"]
    assert facts["dropped_compounds_with_invalid_smiles"] == ["BRD-1", "BRD-8"]
    assert facts["signatures"] == 1 and facts["signatures_without_structure"] == 4
    samples = Signatures.read(tmp_path / "out")
    np.testing.assert_allclose(samples.values[0], row("A")[5:], rtol=1e-6)
    pd.DataFrame({"BRD-7": "CCO"}.items()).to_csv(inputs["drugs"], header=False, index=False)
    with pytest.raises(InputDataError, match="no structure for any compound"):
        prepare(inputs, tmp_path / "out")


def test_a_compound_has_one_structure(tmp_path: Path) -> None:
    inputs = inputs_of(tmp_path)
    rows = [("BRD-0", "CCO"), ("BRD-0", "CCO"), ("BRD-1", "C"), ("BRD-2", "C"), ("BRD-7", "C"), ("BRD-7", "CC")]
    pd.DataFrame(rows).to_csv(inputs["drugs"], header=False, index=False)
    assert prepare(inputs, tmp_path / "out")["compounds"] == 3  # what is not asked for does not matter
    pd.DataFrame([*rows, ("BRD-1", "CC")]).to_csv(inputs["drugs"], header=False, index=False)
    with pytest.raises(InputDataError, match="several SMILES: 'BRD-1'"):
        prepare(inputs, tmp_path / "out")


# ---------------------------------------------------------------------------------------------- AnnData, gene names


def h5ad_inputs(tmp_path: Path, ids: list[str], genes: list[str] = GENES) -> dict[str, object]:
    obs = pd.DataFrame({"pert_id": "BRD-0", "cell_id": "A375", "dose_um": 10.0}, index=pd.Index(ids, dtype=str))
    path = write_h5ad(tmp_path / "signatures.h5ad", rng("h5ad").normal(size=(len(ids), len(genes))), obs, genes)
    return {**inputs_of(tmp_path), "signatures": path}


def test_anndata_that_says_something_twice(tmp_path: Path) -> None:
    options = {"smiles_header": False}
    facts = prepare(h5ad_inputs(tmp_path, ["a", "b", "c"]), tmp_path / "out", options)
    assert facts["same_compound_line_and_dose"] == 2
    with (
        pytest.warns(UserWarning, match="not unique"),
        pytest.raises(InputDataError, match="signatures 'a' appear twice"),
    ):
        prepare(h5ad_inputs(tmp_path, ["a", "b", "a"]), tmp_path / "out", options)


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("dose_um", "10 uM", "dose_um '10 uM' of signature 'b'(.|\n)*write 10.0 for '10 uM'"),
        ("dose_um", "x", "dose_um 'x' of signature 'b'(.|\n)*write the dose"),
        ("dose_um", np.nan, "dose_um 'nan' of signature 'b'"),
        ("dose_um", 0.0, "dose_um '0.0' of signature 'b'"),
        ("dose_um", -666.0, "dose_um '-666.0' of signature 'b'"),
        ("cell_id", np.nan, "1 signatures have no cell_id: 'b'"),
        ("pert_id", np.nan, "1 signatures have no pert_id: 'b'"),
        ("pert_id", "", "1 signatures have no pert_id: 'b'"),
    ],
)
def test_anndata_with_a_row_that_says_nothing(tmp_path: Path, column: str, value: object, message: str) -> None:
    inputs = h5ad_inputs(tmp_path, ["a", "b", "c"])
    adata = anndata.read_h5ad(inputs["signatures"])
    adata.obs[column] = [adata.obs[column].iloc[0], value, adata.obs[column].iloc[2]]
    if isinstance(value, str):
        adata.obs[column] = adata.obs[column].astype(str)
    adata.write_h5ad(inputs["signatures"])
    with pytest.raises(InputDataError, match=message):
        prepare(inputs, tmp_path / "out", {"smiles_header": False})


def test_expression_is_of_the_lines_of_the_signatures(tmp_path: Path) -> None:
    inputs = inputs_of(tmp_path, [row("A"), row("B", cell_id="HELA"), row("C", cell_id="MCF7")])

    def lines(names: list[str]) -> Path:
        return write_h5ad(tmp_path / "lines.h5ad", np.ones((len(names), 4)), pd.DataFrame(index=names), GENES)

    lines(["PC3", "A375", "HeLa"])
    facts = prepare(inputs, tmp_path / "out")
    expected = {
        "signatures": 3,
        "cell_lines": 3,
        "lines_with_expression": 1,
        "lines_without_expression": 2,
        "names_of_lines_without_expression": ["HELA", "MCF7"],
        "lines_perhaps_spelled_differently": ["HELA / HeLa"],
        "genes": 4,
    }
    assert {key: facts[key] for key in expected} == expected
    assert anndata.read_h5ad(tmp_path / "out/expression.h5ad").obs_names.tolist() == ["A375"]
    lines(["PC3", "a375"])
    with pytest.raises(InputDataError, match=r"none of the 3 cell lines.*alike: 'A375 / a375'"):
        prepare(inputs, tmp_path / "out")
    with pytest.warns(UserWarning, match="not unique"):
        lines(["A375", "PC3", "A375"])
    with (
        pytest.warns(UserWarning, match="not unique"),
        pytest.raises(InputDataError, match="lines 'A375' appear twice"),
    ):
        prepare(inputs, tmp_path / "out")


def test_ids_become_symbols(tmp_path: Path) -> None:
    inputs = inputs_of(tmp_path)
    lines = pd.DataFrame(index=["A375", "PC3"])
    write_h5ad(tmp_path / "lines.h5ad", np.ones((2, 4)), lines, [f"ENSG{i}.3" for i in range(4)])
    with pytest.raises(InputDataError, match="nothing in common"):
        prepare(inputs, tmp_path / "out")
    table = pd.DataFrame({"gene_id": ["ENSG0", "ENSG1", "ENSG2"], "gene_name": ["DDR1", "PAX8", "DDR1"]})
    table.to_csv(tmp_path / "genes.csv", index=False)
    facts = prepare({**inputs, "annotation": tmp_path / "genes.csv"}, tmp_path / "out")
    assert facts["genes_with_expression"] == 2
    names = anndata.read_h5ad(tmp_path / "out/expression.h5ad").var_names
    assert list(names) == ["DDR1", "PAX8", "ENSG2.3", "ENSG3.3"]  # a symbol twice; no symbol


HGNC = pd.DataFrame(
    {
        "Approved symbol": ["TENT4A", "DDR1", "NEW1", "NEW2", "NEW3", "PAX9"],
        "Previous symbols": ["PAPD7, POLS", "CAK", "OLD", "OLD", "", "PAX8"],
        "Alias symbols": ["LAK-1", "PAPD7", "", "", "SHY", ""],
    }
)


def test_newer_names_are_found_in_hgnc(tmp_path: Path) -> None:
    HGNC.to_csv(tmp_path / "hgnc.tsv", sep="\t", index=False)
    have = ["TENT4A", "DDR1", "PAX8", "NEW1", "NEW2", "NEW3", "PAX9"]
    found = newer_names(["PAPD7", "DDR1", "PAX8", "OLD", "SHY", "GONE"], have, tmp_path / "hgnc.tsv")
    assert found == {"TENT4A": "PAPD7", "NEW3": "SHY"}  # OLD is two genes; PAX8 is there itself; DDR1 is asked for
    inputs = inputs_of(tmp_path)
    write_h5ad(tmp_path / "lines.h5ad", np.ones((1, 2)), pd.DataFrame(index=["A375"]), ["TENT4A", "GAPDH"])
    facts = prepare({**inputs, "hgnc": tmp_path / "hgnc.tsv"}, tmp_path / "out")
    assert facts["genes_renamed_by_hgnc"] == 1 and facts["genes_with_expression"] == 2
    assert list(read_expression(tmp_path / "out/expression.h5ad", layer="X").var_names) == ["PAPD7", "GAPDH"]


# ----------------------------------------------------------------------------------------------------- gene vectors


def write_vectors(path: Path, genes: list[str], last: object = 0.5) -> Path:
    pd.DataFrame([[g, i, last] for i, g in enumerate(genes)]).to_csv(path, header=False, index=False)
    return path


def test_gene_vectors_come_in_the_order_of_the_signatures(tmp_path: Path) -> None:
    path = write_vectors(tmp_path / "vectors.csv", GENES[::-1])
    prepare({**inputs_of(tmp_path), "gene_vectors": path}, tmp_path / "out")
    (problem,) = TASK.problems(tmp_path / "out", TASK.split(tmp_path / "out", "compound", {}, 1))
    np.testing.assert_array_equal(problem.context.gene_vectors, [[3, 0.5], [2, 0.5], [1, 0.5], [0, 0.5]])
    assert problem.context.gene_vectors.dtype == np.float32
    prepare(inputs_of(tmp_path), tmp_path / "out")
    assert Signatures.read(tmp_path / "out").gene_vectors is None
    with pytest.raises(InputDataError, match=r"gene vectors of shape \(4,\)"):
        SignatureContext(gene_vectors=np.zeros(4, np.float32))


@pytest.mark.parametrize(
    ("genes", "last", "message"),
    [
        ([*GENES[:3], "ACTB"], 0.5, r"1 of them \('ACTB'\).*1 others \('GAPDH'\)"),
        (GENES[:3], 0.5, "the signatures have 4 genes, .* has 3"),
        ([*GENES, "DDR1"], 0.5, "the same genes"),
        (GENES, "x", "not finite"),
    ],
    ids=["other gene", "fewer", "twice", "word"],
)
def test_gene_vectors_of_other_genes_are_refused(tmp_path: Path, genes: list[str], last: object, message: str) -> None:
    with pytest.raises(InputDataError, match=message):
        read_gene_vectors(write_vectors(tmp_path / "vectors.csv", genes, last), GENES)


# -------------------------------------------------------------------------------------------------------- real data


def write_pickle(path: Path, lines: dict[str, np.ndarray], protocol: int = 3) -> Path:
    path.write_bytes(pickle.dumps({np.str_(name): values for name, values in lines.items()}, protocol=protocol))
    return path


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_expression_may_be_a_pickle_of_arrays_as_published(tmp_path: Path, protocol: int) -> None:
    """The layout of TranSiGen's modz_x1.pickle: cell line -> (1, genes) float64, genes in a table beside it."""
    values = {"A375": np.array([[1.0, 2.0, 3.0, 4.0]]), "PC3": np.array([[4.0, 3.0, 2.0, 1.5]])}
    inputs = inputs_of(tmp_path, [row("A"), row("B", cell_id="PC3")])
    inputs["expression"] = write_pickle(tmp_path / "x1.pickle", values, protocol)
    inputs["expression_genes"] = tmp_path / "genes.csv"
    pd.DataFrame({"gene_id": range(4), "gene_symbol": GENES[::-1]}).to_csv(inputs["expression_genes"], index=False)
    assert prepare(inputs, tmp_path / "out")["lines_with_expression"] == 2
    found = anndata.read_h5ad(tmp_path / "out/expression.h5ad").to_df()
    for line, row_of_line in values.items():
        np.testing.assert_allclose(found.loc[line, GENES[::-1]], row_of_line[0], rtol=1e-6)


class Harmful:
    def __reduce__(self) -> tuple:
        return (print, ("run",))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (pickle.dumps({"A375": Harmful()}), "names builtins.print, which may run code"),
        (pickle.dumps([1, 2]), "cannot be read"),
        (b"no pickle", "cannot be read"),
        (pickle.dumps({"A375": np.array([1.0])}), "cell line 'A375' has 1 values"),
        (pickle.dumps({}), "no cell line"),
        (pickle.dumps({"A375": np.array([1.0, np.nan, 1, 1])}), "A375"),
        (pickle.dumps({"A375": np.array([1, "a", [], {}], dtype=object)}), "cannot be read"),
    ],
)
def test_a_pickle_runs_nothing_and_must_fit(
    tmp_path: Path, content: bytes, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    inputs = inputs_of(tmp_path, [row("A")])
    inputs["expression"], inputs["expression_genes"] = tmp_path / "x1.pickle", tmp_path / "genes.csv"
    inputs["expression"].write_bytes(content)
    pd.DataFrame({"gene_symbol": GENES}).to_csv(inputs["expression_genes"], index=False)
    with pytest.raises(InputDataError, match=message):
        prepare(inputs, tmp_path / "out")
    assert "run" not in capsys.readouterr().out.split()


@pytest.mark.mirror
def test_real_gene_vectors_compounds_lines_and_names(tmp_path: Path, mirror: Path) -> None:
    """DeepCE's gene vectors and compounds, LINCS' untreated lines, HGNC: names of 978 landmarks meet."""
    vectors = pd.read_csv(mirror / "deepce/gene_vector.csv", header=None, index_col=0)
    genes = vectors.index.tolist()
    drugs = pd.read_csv(mirror / "deepce/drugs_smiles.csv", header=None)
    some = drugs.iloc[::200, 0].tolist()
    x = rng("real names").normal(size=(len(some), 978)).round(3)
    rows = [row(str(i), pert, x[i].tolist()) for i, pert in enumerate(some)]
    with np.load(mirror / "lincs_basal/lincs_basal_expression_165lines.npz", allow_pickle=False) as basal:
        lines = write_h5ad(
            tmp_path / "lines.h5ad", basal["X"], pd.DataFrame(index=basal["lines"]), basal["genes"].tolist()
        )
    inputs = {
        "signatures": write_csv(tmp_path / "signatures.csv", rows, genes),
        "drugs": mirror / "deepce/drugs_smiles.csv",
        "expression": lines,
        "gene_vectors": mirror / "deepce/gene_vector.csv",
    }
    facts = prepare(inputs, tmp_path / "out")
    assert facts["signatures"] == len(some) and facts["lines_with_expression"] == 1
    assert facts["genes_with_expression"] == 959
    found = Signatures.read(tmp_path / "out")
    np.testing.assert_allclose(found.gene_vectors, vectors.to_numpy(), rtol=1e-5)
    facts = prepare({**inputs, "hgnc": mirror / "hgnc/hgnc_entries.tsv"}, tmp_path / "out")
    assert facts["genes_with_expression"] == 959 + facts["genes_renamed_by_hgnc"] > 970
