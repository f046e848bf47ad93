"""The commands plan, doctor and lincs: what they hand on, what they print, how they end."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sclong import cli, doctor
from sclong.doctor import Finding
from sclong.plan import jobs as plan_jobs
from sclong.plan.jobs import DryRun, Job
from sclong.tasks.chemical_perturbation import lincs


@pytest.fixture
def asked(root: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple]:
    """Stand in for Snakemake; remember what it is asked."""
    monkeypatch.chdir(root)
    calls: list[tuple] = []

    def dry_run(settings, profile, targets) -> DryRun:
        calls.append((list(settings), profile, list(targets)))
        keys = plan_jobs.parse_settings(settings)
        return DryRun(keys, [Job("predict_norman", 1, 2000, 60), Job("embed", 8, 4000, 240)])

    monkeypatch.setattr(plan_jobs, "dry_run", dry_run)
    monkeypatch.setattr(plan_jobs, "settings_for_results", lambda settings: (list(settings), None))
    return calls


def test_plan_takes_settings_as_snakemake_does(asked: list[tuple], capsys: pytest.CaptureFixture) -> None:
    assert cli.main(["plan", "preset=demo", "results_dir=r"]) == 0
    assert cli.main(["plan", "--config", "preset=demo", "results_dir=r", "--target", "r/x.tsv"]) == 0
    demo = ["preset=demo", "results_dir=r"]
    assert asked == [(demo, None, ["all"]), (demo, None, ["r/x.tsv"])]
    assert "preset demo, results in r/" in capsys.readouterr().out


def test_preset_paper_is_planned_for_slurm(asked: list[tuple]) -> None:
    assert cli.main(["plan", "preset=paper", "results_dir=r"]) == 0
    assert cli.main(["plan", "preset=paper", "results_dir=r", "--profile", "none"]) == 0
    assert cli.main(["plan", "preset=demo", "results_dir=r", "--profile", "mine"]) == 0
    assert [profile for _, profile, _ in asked] == ["slurm", None, "mine"]


def test_plan_for_machines_is_json_alone(asked: list[tuple], capsys: pytest.CaptureFixture) -> None:
    assert cli.main(["plan", "preset=demo", "results_dir=r", "--json"]) == 0
    read = json.loads(capsys.readouterr().out)
    assert {rule["kind"]: rule["jobs"] for rule in read["rules"]} == {"embed": 1, "predict": 1}


def test_an_error_of_the_configuration_has_three_parts(asked: list[tuple], capsys: pytest.CaptureFixture) -> None:
    assert cli.main(["plan", "preset=papre"]) == 1
    said = capsys.readouterr().err
    assert "sclong plan: preset 'papre'" in said and "what to do: preset: paper" in said


@pytest.mark.parametrize("level, status", [("ok", 0), ("warning", 0), ("error", 1)])
def test_doctor_fails_on_errors_alone(
    asked: list[tuple], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, level: str, status: int
) -> None:
    finding = Finding("disk", level, "found", "expected", "do this")  # type: ignore[arg-type]
    monkeypatch.setattr(doctor, "diagnose", lambda *_: [finding])
    assert cli.main(["doctor", "preset=demo", "results_dir=r"]) == status
    out = capsys.readouterr().out
    assert ("do this" in out) == (level != "ok") and out.startswith(level)


def test_lincs_hands_its_files_on(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    seen: list[tuple] = []
    monkeypatch.setattr(lincs, "write_signature_files", lambda *files: seen.append(files) or {"pass_the_filter": 1234})
    tables = ["--signatures", "s", "--genes", "g", "--compounds", "c", "--output", "o"]
    assert cli.main(["lincs", "a.gctx", "b.gctx", *tables]) == 0
    assert seen == [([Path("a.gctx"), Path("b.gctx")], Path("s"), Path("g"), Path("c"), Path("o"))]
    assert capsys.readouterr().out == "o: pass the filter: 1,234\n"
