from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from sclong.errors import InputDataError
from sclong.io.files import atomic_dir, atomic_path, sha256_tree, write_text
from sclong.io.tables import read_tsv, write_tsv


def test_a_failed_write_leaves_the_old_file_and_no_rest(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    write_text(target, "old")
    with pytest.raises(RuntimeError), atomic_path(target) as tmp:
        tmp.write_text("half")
        raise RuntimeError
    assert target.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_a_killed_write_leaves_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    write_text(target, "old")
    code = (
        "import os, sys; from sclong.io.files import atomic_path\n"
        "with atomic_path(sys.argv[1]) as tmp:\n    tmp.write_text('half'); os._exit(9)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(target)]).returncode == 9
    assert target.read_text() == "old"


def test_a_folder_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    folder = tmp_path / "d"
    with atomic_dir(folder) as tmp:
        (tmp / "one").write_text("1")
    with pytest.raises(RuntimeError), atomic_dir(folder) as tmp:
        (tmp / "two").write_text("2")
        raise RuntimeError
    assert os.listdir(folder) == ["one"]
    with atomic_dir(folder) as tmp:
        (tmp / "three").write_text("3")
    assert os.listdir(folder) == ["three"]
    assert os.listdir(tmp_path) == ["d"]


def test_tree_hash_sees_names_and_bytes(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("x")
    first = sha256_tree(tmp_path)
    (tmp_path / "a").rename(tmp_path / "b")
    second = sha256_tree(tmp_path)
    (tmp_path / "b").write_text("y")
    assert len({first, second, sha256_tree(tmp_path)}) == 3


def test_missing_column_names_the_nearest(tmp_path: Path) -> None:
    write_tsv(pd.DataFrame({"drug_ids": [1]}), tmp_path / "t.tsv")
    with pytest.raises(InputDataError, match="rename 'drug_ids' to 'drug_id'"):
        read_tsv(tmp_path / "t.tsv", ["drug_id"])


def test_strings_that_look_missing_stay_strings(tmp_path: Path) -> None:
    write_tsv(pd.DataFrame({"gene": ["NA", "nan", "NULL"]}), tmp_path / "t.tsv")
    assert read_tsv(tmp_path / "t.tsv")["gene"].tolist() == ["NA", "nan", "NULL"]
