"""Cell lines: files that carry their expression and other features, and names that must be equal."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest

from sclong.drugs.lines import (
    LineTable,
    near_names,
    read_ccle,
    read_deepdds_tpm,
    read_gdsc,
    read_gdsc_table,
    read_line_csv,
    read_lines_h5ad,
    write_lines,
)
from sclong.errors import InputDataError


def test_names_that_differ_in_case_or_signs_are_said_and_not_matched(tmp_path: Path) -> None:
    assert near_names(["MCF-7", "SW48", "HeLa", "A549"], ["MCF7", "SW480", "HELA", "A549"]) == [
        "HeLa / HELA",
        "MCF-7 / MCF7",
    ]
    (tmp_path / "x.csv").write_text("line,G1\nMCF7,1\n")
    with pytest.raises(InputDataError, match="alike: 'MCF-7 / MCF7'"):
        write_lines(read_line_csv(tmp_path / "x.csv"), {"MCF-7"}, tmp_path)


def test_lines_without_expression_are_named(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("line,G1\nMCF7,1\nSW480,2\n")
    facts = write_lines(read_line_csv(tmp_path / "x.csv"), {"MCF-7", "SW48", "SW480"}, tmp_path)
    assert facts == {
        "lines": 1,
        "genes": 1,
        "lines_without_expression": 2,
        "names_of_lines_without_expression": ["MCF-7", "SW48"],
        "lines_perhaps_spelled_differently": ["MCF-7 / MCF7"],
    }
    assert "lines_perhaps_spelled_differently" not in write_lines(
        read_line_csv(tmp_path / "x.csv"), {"MCF7", "SW48"}, tmp_path
    )


def test_a_published_table(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text(",G1,G2\nACH-1,0.5,1\nACH-2,0,3\n")
    adata = read_line_csv(path)
    assert adata.obs_names.tolist() == ["ACH-1", "ACH-2"]
    np.testing.assert_allclose(adata.X.toarray(), [[0.5, 1], [0, 3]])
    for value in ("-1", "", "high", "inf"):
        path.write_text(f",G1,G2\nACH-1,0.5,1\nACH-2,{value},3\n")
        with pytest.raises(InputDataError, match="line 'ACH-2', 'G1'"):
            read_line_csv(path)
    path.write_text(",G1\nACH-1,1\nACH-1,2\n")
    with pytest.raises(InputDataError, match="'ACH-1' appear twice"):
        read_line_csv(path)


def test_gdsc_lines_get_their_depmap_ids(tmp_path: Path) -> None:
    values = np.array([[-1.0, 0.5], [0.5, 2], [7, 7]], dtype=np.float16)
    np.savez(tmp_path / "x.npz", X=values, lines=["A", "B", "unmapped"], genes=["TP53", "EGFR"])
    (tmp_path / "map.tsv").write_text("depmap_id\tdeepdr_line\nACH-2\tB\nACH-1\tA\nACH-3\t\n")
    table = read_gdsc_table(tmp_path / "x.npz", tmp_path / "map.tsv")
    assert table.lines.tolist() == ["ACH-2", "ACH-1"] and table.names == {"ACH-1", "ACH-2"}
    np.testing.assert_allclose(table.values, [[0.5, 2], [-1, 0.5]])
    np.testing.assert_allclose(read_gdsc(tmp_path / "x.npz", tmp_path / "map.tsv").X.toarray(), [[0, 1.5], [0, 1.5]])


def test_log_tpm_is_taken_as_it_is(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", X=np.array([[0.0, 3.5]], np.float32), lines=["ACH-1"], genes=["TP53", "EGFR"])
    np.testing.assert_allclose(read_ccle(tmp_path / "x.npz").to_df().loc["ACH-1"], [0, 3.5])


def test_a_table_of_lines_comes_back_as_it_was(tmp_path: Path) -> None:
    table = LineTable(np.arange(6, dtype=np.float32).reshape(3, 2), np.array(["a", "b", "c"]), np.array(["x", "y"]))
    table.only({"c", "a", "elsewhere"}).write(tmp_path / "t.npz")
    frame = LineTable.read(tmp_path / "t.npz").frame()
    assert frame.to_dict("index") == {"a": {"x": 0.0, "y": 1.0}, "c": {"x": 4.0, "y": 5.0}}


# ------------------------------------------------------------------------------------ what every reader refuses

READERS = ["h5ad", "csv", "ccle", "gdsc", "tpm"]


def read_as(kind: str, folder: Path, values: np.ndarray, lines: list[str], genes: list[str]) -> object:
    """Write a table as one kind of file has it, and read it."""
    if kind == "h5ad":
        adata = anndata.AnnData(values.astype(np.float32))
        adata.obs_names, adata.var_names = lines, genes
        adata.write_h5ad(folder / "x.h5ad")
        return read_lines_h5ad(folder / "x.h5ad")
    if kind in ("csv", "tpm"):
        second = "transcript_id" + ",T" * len(genes) + "\n" if kind == "tpm" else ""
        rows = [f"{line},{','.join(map(str, row))}\n" for line, row in zip(lines, values, strict=True)]
        (folder / "x.csv").write_text(f"gene_id,{','.join(genes)}\n{second}{''.join(rows)}")
        return (read_line_csv if kind == "csv" else read_deepdds_tpm)(folder / "x.csv")
    np.savez(folder / "x.npz", X=values, lines=lines, genes=genes)
    if kind == "ccle":
        return read_ccle(folder / "x.npz")
    names = pd.DataFrame({"depmap_id": lines, "deepdr_line": lines}).drop_duplicates()
    names.to_csv(folder / "map.tsv", sep="\t", index=False)
    return read_gdsc(folder / "x.npz", folder / "map.tsv")


@pytest.mark.filterwarnings("ignore:Observation names|Variable names")
@pytest.mark.parametrize("kind", READERS)
def test_a_line_or_feature_that_stands_twice_is_named(kind: str, tmp_path: Path) -> None:
    values = np.arange(6.0).reshape(2, 3)
    assert read_as(kind, tmp_path, values, ["A", "B"], ["G0", "G1", "G2"]).shape == (2, 3)  # type: ignore[attr-defined]
    with pytest.raises(InputDataError, match="lines 'A' appear twice"):
        read_as(kind, tmp_path, values, ["A", "A"], ["G0", "G1", "G2"])
    with pytest.raises(InputDataError, match="s 'G0' appear twice"):
        read_as(kind, tmp_path, values, ["A", "B"], ["G0", "G0", "G2"])


@pytest.mark.parametrize("kind", READERS)
@pytest.mark.parametrize("value", [np.nan, np.inf, -1.0])
def test_a_wrong_value_is_named_with_line_and_gene(kind: str, value: float, tmp_path: Path) -> None:
    values = np.ones((3, 3))
    values[1, 2] = value
    arguments = tmp_path, values, ["A", "B", "C"], ["G0", "G1", "G2"]
    if kind == "gdsc" and value == -1:
        read_as(kind, *arguments)  # standardised values may be negative
        return
    with pytest.raises(InputDataError, match=rf"{tmp_path}/x\..*: line 'B', 'G2': {value}"):
        read_as(kind, *arguments)


def test_names_that_are_numbers_stay_as_they_stand(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text(",007,8\n0600,1,2\nNA,3,4\n")
    adata = read_line_csv(tmp_path / "x.csv")
    assert adata.obs_names.tolist() == ["0600", "NA"] and adata.var_names.tolist() == ["007", "8"]


@pytest.mark.parametrize("text", ["line;G0;G1\nA;1;2\n", "G0,G1\nA,1,2\n", "line,G0\n,1\n", "line,G0\n", ""])
def test_what_is_no_table_of_lines_is_said(text: str, tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text(text)
    with pytest.raises(InputDataError, match=r"x\.csv") as error:
        read_line_csv(tmp_path / "x.csv")
    assert any(word in str(error.value) for word in ("separated by", "line 1 has no name"))


def test_what_is_no_npz_of_lines_is_said(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    tables: list[dict[str, object]] = [
        {"data": np.ones((1, 1))},
        {"X": np.ones((2, 1)), "lines": ["A"], "genes": ["G"]},
        {"X": np.array([["high"]]), "lines": ["A"], "genes": ["G"]},
        {"X": np.ones(1), "lines": ["A"], "genes": ["G", "H"]},
    ]
    writers: list[Callable[[], object]] = [
        lambda: path.unlink(missing_ok=True),
        lambda: path.write_text(""),
        lambda: path.write_text("nothing"),
        lambda: path.write_bytes(b"PK\x03\x04 cut short"),
        lambda: np.save(path.open("wb"), np.ones(3)),
        *((lambda table=table: np.savez(path, **table)) for table in tables),  # type: ignore[misc]
    ]
    for write in writers:
        write()
        with pytest.raises(InputDataError, match=r"x\.npz cannot be read"):
            read_ccle(path)


def test_a_map_of_lines_that_fits_nothing_or_has_a_line_twice_is_said(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", X=np.ones((2, 1)), lines=["A", "B"], genes=["G"])
    for rows, message in (("ACH-1\tA\nACH-1\tB\n", "lines 'ACH-1' appear twice"), ("ACH-1\ta\n", "none of its names")):
        (tmp_path / "map.tsv").write_text("depmap_id\tdeepdr_line\n" + rows)
        with pytest.raises(InputDataError, match=rf"map\.tsv: {message}"):
            read_gdsc_table(tmp_path / "x.npz", tmp_path / "map.tsv")
