"""Cell lines: files that carry their expression and other features, and names that must be equal."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sclong.data.lines import LineTable, near_names, read_ccle, read_gdsc, read_gdsc_table, read_line_csv, write_lines
from sclong.errors import InputDataError


def test_names_that_differ_in_case_or_signs_are_said_and_not_matched(tmp_path: Path) -> None:
    assert near_names(["MCF-7", "SW48", "HeLa", "A549"], ["MCF7", "SW480", "HELA", "A549"]) == [
        "HeLa / HELA", "MCF-7 / MCF7"
    ]  # fmt: skip
    (tmp_path / "x.csv").write_text("line,G1\nMCF7,1\n")
    with pytest.raises(InputDataError, match="alike: 'MCF-7 / MCF7'"):
        write_lines(read_line_csv(tmp_path / "x.csv"), {"MCF-7"}, tmp_path)


def test_lines_without_expression_are_named(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("line,G1\nMCF7,1\nSW480,2\n")
    facts = write_lines(read_line_csv(tmp_path / "x.csv"), {"MCF-7", "SW48", "SW480"}, tmp_path)
    assert facts == {
        "lines": 1, "genes": 1, "lines_without_expression": 2, "names_of_lines_without_expression": ["MCF-7", "SW48"],
        "lines_perhaps_spelled_differently": ["MCF-7 / MCF7"],
    }  # fmt: skip
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
    with pytest.raises(InputDataError, match="'ACH-1' stand twice"):
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
