"""The profile for SLURM: what it finds out by itself, and that what it names is there."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
import yte
from snakemake_executor_plugin_slurm.partitions import read_partition_file

from sclong.config import load_config
from sclong.plan import make_plan


def profile(root: Path, monkeypatch: pytest.MonkeyPatch, *arguments: str, path: str = "/nowhere") -> dict[str, Any]:
    monkeypatch.chdir(root)
    monkeypatch.setenv("PATH", path)
    monkeypatch.setattr(sys, "argv", ["snakemake", *arguments])
    return yte.process_yaml((root / "profiles/slurm/config.yaml").read_text())


@pytest.mark.parametrize(
    ("kept", "command"), [("none", "squeue"), ("slurmdbd", "sacct"), (None, "squeue")], ids=["no", "yes", "no SLURM"]
)
def test_status_is_asked_where_it_is_known(root: Path, monkeypatch, tmp_path: Path, kept, command) -> None:
    if kept:
        program = tmp_path / "scontrol"
        program.write_text(f"#!/bin/sh\necho 'AccountingStorageType   = accounting_storage/{kept}'\n")
        program.chmod(0o755)
    found = profile(root, monkeypatch, path=str(tmp_path))
    assert found["slurm-status-command"] == command
    assert found.get("slurm-efficiency-report", False) is (command == "sacct")


def test_the_table_of_the_paper_is_for_the_paper(root: Path, monkeypatch) -> None:
    demo, paper = (
        profile(root, monkeypatch, "--config", f"preset={preset}")["set-resources"] for preset in ("demo", "paper")
    )
    assert set(demo) == {"pretrain"} and {"pretrain", "census_part", "find_overlap"} <= set(paper)
    rules = "".join(p.read_text() for p in (root / "workflow/rules").glob("*.smk"))
    assert set(paper) <= set(re.findall(r"^rule (\w+):", rules, flags=re.M))
    for rule, asked in paper.items():
        for name in {"mem_mb", "runtime"} & set(asked):
            first, second = (eval(asked[name], {"attempt": n}) for n in (1, 2))
            assert second == 2 * first, (rule, name)


def test_a_job_is_submitted_again_by_snakemake_not_inside_itself(root: Path, monkeypatch) -> None:
    assert profile(root, monkeypatch)["retries"] == 2
    assert not re.search(r"^\s+retries:", "".join(p.read_text() for p in (root / "workflow").rglob("*.smk")), re.M)


def test_partitions_can_be_read(root: Path, monkeypatch) -> None:
    found = read_partition_file(root / profile(root, monkeypatch)["slurm-partition-config"])
    assert {p.name: p.limits.max_gpu > 0 for p in found} == {"cpu": False, "gpu": True}


@pytest.mark.parametrize("preset", ["demo", "small", "paper"])
def test_training_on_several_nodes_fits_every_preset(root: Path, monkeypatch, preset: str) -> None:
    (path,) = profile(root, monkeypatch)["configfile"]
    config = load_config({"preset": preset, **yaml.safe_load((root / path).read_text())}, root)
    assert config.pretrain.nodes == 2


def test_models_that_train_on_a_gpu_ask_for_one(root: Path, monkeypatch) -> None:
    """Both the card and its options say so, or neither, in the preset that has GPUs."""
    monkeypatch.chdir(root)
    plan = make_plan({"preset": "paper", "results_dir": "nowhere"})
    asks = {name: (card.device == "gpu", card.options.get("device") == "cuda") for name, card in plan.models.items()}
    assert not {name for name, (card, options) in asks.items() if options and not card}
    assert asks["gears"] == (True, True) and asks["train_mean"] == (False, False)
