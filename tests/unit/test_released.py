"""The authors' files, put in place by a person: used where they are, locked, and said where they are not."""

from __future__ import annotations

from pathlib import Path

import pytest

from sclong.errors import ConfigError, InputDataError
from sclong.io.lock import load_lock, require_locked
from sclong.plan.advice import say_what_is_left_out
from sclong.plan.plan import Plan, make_plan
from sclong.plan.released import GENES

HEADS = {
    "norman": "gears_sclong_released",
    "l1000": "deepce_sclong_released",
    "deepcdr": "deepcdr_sclong_released",
    "drug_combination": "deepdds_sclong_released",
    "grn": "grn_deepsem_sclong_released",
    "pancreas": "sclong_released",
}


def plan_with(root: Path, folder: Path, preset: str = "paper") -> Plan:
    settings = {"preset": preset, "released": str(folder), "data_dir": str(folder / "data")}
    return make_plan({**settings, "results_dir": str(folder / "results")}, root)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    for name in ("model.pth", "model.pkl", GENES):
        (tmp_path / name).write_bytes(name.encode())
    return tmp_path


def test_with_the_files_it_is_a_row_of_every_headline_benchmark(root: Path, files: Path) -> None:
    plan = plan_with(root, files)
    assert set(plan.released) == {"weights", "hyperparameters", "genes", "symbols"}
    for benchmark, model in HEADS.items():
        assert model in plan.rows.models_of(benchmark), benchmark
    assert not [row for row in say_what_is_left_out(plan) if row[1] == "sclong_released"]


def test_without_them_a_run_says_in_one_line_what_it_lacks(root: Path, tmp_path: Path) -> None:
    plan = plan_with(root, tmp_path)
    assert not plan.released and plan.config.released is None
    assert all(model not in plan.rows.models_of(benchmark) for benchmark, model in HEADS.items())
    (line,) = [why for _, name, why in say_what_is_left_out(plan) if name == "sclong_released"]
    assert GENES in line and "import_checkpoint" in line


def test_the_demo_has_simulated_genes_and_does_not_use_them(root: Path, files: Path) -> None:
    assert not plan_with(root, files, "demo").released


@pytest.mark.parametrize("damage", ["missing", "empty", "two"])
def test_half_a_release_is_refused(root: Path, files: Path, damage: str) -> None:
    if damage == "two":
        (files / "other.pth").write_bytes(b"x")
    elif damage == "empty":
        (files / "model.pkl").write_bytes(b"")
    else:
        (files / GENES).unlink()
    with pytest.raises(ConfigError, match="one file of each"):
        plan_with(root, files)


def test_files_put_there_by_hand_are_locked(tmp_path: Path, files: Path) -> None:
    lock = tmp_path / "sources.lock.tsv"
    require_locked(lock, files / "model.pth")
    require_locked(lock, files / "model.pth")
    assert list(load_lock(lock)) == ["by-hand/model.pth"]
    (files / "model.pth").write_bytes(b"another")
    with pytest.raises(InputDataError, match="another file than at its first use"):
        require_locked(lock, files / "model.pth")
