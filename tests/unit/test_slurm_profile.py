"""The profile for SLURM: what it finds out by itself, and that what it names is there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
import yte
from snakemake.cli import parse_args, parse_set_resources
from snakemake.profiles import ProfileConfigFileParser
from snakemake_executor_plugin_slurm.partitions import read_partition_file

from sclong.config.load import load_config
from sclong.plan.plan import make_plan


def profile(root: Path, monkeypatch: pytest.MonkeyPatch, *arguments: str, path: str = "/nowhere") -> dict[str, Any]:
    monkeypatch.chdir(root)
    monkeypatch.setenv("PATH", path)
    monkeypatch.setattr(sys, "argv", ["snakemake", *arguments])
    return yte.process_yaml((root / "profiles/slurm/config.yaml").read_text())


@pytest.mark.parametrize(
    ("kept", "age", "command"),
    [
        ("none", 300, "squeue"),
        ("none", 10, "squeue"),
        ("slurmdbd", 300, "squeue"),
        ("slurmdbd", 0, "squeue"),
        ("slurmdbd", 10, "sacct"),
    ],
)
def test_status_is_asked_where_it_is_known(root: Path, monkeypatch, tmp_path: Path, kept, age, command) -> None:
    """Of squeue: a cancelled job is "CANCELLED by UID" for sacct, which the executor does not know for an end."""
    program = tmp_path / "scontrol"
    program.write_text(f"#!/bin/sh\necho 'AccountingStorageType = accounting_storage/{kept}\nMinJobAge = {age} sec'\n")
    program.chmod(0o755)
    found = profile(root, monkeypatch, path=str(tmp_path))
    assert found["slurm-status-command"] == command
    assert found.get("slurm-efficiency-report", False) is (kept == "slurmdbd")


def test_the_profile_can_be_read_without_slurm(root: Path, monkeypatch) -> None:
    found = profile(root, monkeypatch)
    assert found["slurm-status-command"] == "squeue" and "slurm-efficiency-report" not in found


def test_the_table_of_the_paper_is_for_the_paper(root: Path, monkeypatch) -> None:
    demo, paper = (
        profile(root, monkeypatch, "--config", f"preset={preset}")["set-resources"] for preset in ("demo", "paper")
    )
    assert set(demo) == {"pretrain", "pretrain_seed1"} and {"pretrain", "census_part", "find_overlap"} <= set(paper)
    rules = "".join(p.read_text() for p in (root / "workflow/rules").glob("*.smk"))
    assert set(paper) <= {*re.findall(r"^rule (\w+):", rules, flags=re.M), "pretrain", "pretrain_seed1"}
    assert demo["pretrain"] == demo["pretrain_seed1"] and paper["pretrain"] == paper["pretrain_seed1"]
    for rule, asked in paper.items():
        for name in {"mem_mb", "runtime"} & set(asked):
            first, second, last = (eval(asked[name], {"attempt": n}) for n in (1, 2, 21))
            limits = [p.limits for p in read_partition_file(root / "profiles/slurm/partitions.yaml")]
            most = min(limit.max_mem_mb if name == "mem_mb" else limit.max_runtime for limit in limits)
            assert first < second == min(2 * first, most) and last <= most, (rule, name)


@pytest.mark.parametrize(
    ("arguments", "written", "is_paper"),
    [
        (["--config", "preset=paper"], "preset: demo", True),
        (["--config", 'preset="paper"'], "preset: demo", True),
        (["--config=preset=paper"], "preset: demo", True),
        (["all"], "preset: 'paper'", True),
        (["all"], "# preset: paper\npreset: demo", False),
        (["--config", "preset=demo"], "preset: paper", False),
    ],
)
def test_the_preset_is_found_however_it_is_written(
    root: Path, monkeypatch, tmp_path: Path, arguments: list[str], written: str, is_paper: bool
) -> None:
    (tmp_path / "config").mkdir()
    (tmp_path / "config/config.yaml").write_text(f"{written}\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["snakemake", *arguments])
    found = yte.process_yaml((root / "profiles/slurm/config.yaml").read_text())
    assert ("embed" in found["set-resources"]) is is_paper


def test_the_table_with_its_examples_is_what_snakemake_reads(root: Path, monkeypatch, tmp_path: Path) -> None:
    """An expression with a comma is one expression; the commented lines work once the # is gone."""
    monkeypatch.chdir(root)
    monkeypatch.setattr(sys, "argv", ["snakemake", "preset=paper"])
    text = (root / "profiles/slurm/config.yaml").read_text()
    text = re.sub(r"}    # (, \w+: \w+)$", r"\1}", text, flags=re.M)
    text = re.sub(r"^( +)# ((?:gpu_model|gres|predict_norman): .*)$", r"\1\2", text, flags=re.M)
    (tmp_path / "config.yaml").write_text(text)
    with (tmp_path / "config.yaml").open() as file:
        table = parse_set_resources(ProfileConfigFileParser().parse(file)["set-resources"])
    found = {
        f"{rule}:{name}": resource.evaluate({}, input=[], attempt=4, threads=1, rulename=rule, async_run=None).value
        for rule, asked in table.items()
        for name, resource in asked.items()
    }
    wanted = {
        "pretrain:slurm_extra": "--ntasks-per-node=1 --signal=TERM@600",
        "pretrain_seed1:slurm_extra": "--ntasks-per-node=1 --signal=TERM@600",
        "pretrain:gres": "gpu:h100:8",
        "pretrain:gpu_model": "h100",
        "pretrain:mem_mb": 512000,
        "pretrain:runtime": 4320,
        "embed:gpu_model": "h100",
        "embed:runtime": 2880,
        "predict_norman:runtime": 2880,
        "census_part:slurm_partition": "data",
    }
    assert {name: found.get(name) for name in wanted} == wanted


def test_a_job_is_submitted_again_by_snakemake_not_inside_itself(root: Path, monkeypatch) -> None:
    assert profile(root, monkeypatch)["retries"] == 2
    assert not re.search(r"^\s+retries:", "".join(p.read_text() for p in (root / "workflow").rglob("*.smk")), re.M)


def test_partitions_can_be_read(root: Path, monkeypatch) -> None:
    found = read_partition_file(root / profile(root, monkeypatch)["slurm-partition-config"])
    assert {p.name: p.limits.max_gpu > 0 for p in found} == {"cpu": False, "gpu": True}


@pytest.mark.parametrize("preset", ["demo", "small", "paper"])
def test_training_on_several_nodes_fits_every_preset(root: Path, monkeypatch, preset: str) -> None:
    (path,) = profile(root, monkeypatch, f"preset={preset}")["configfile"]
    config = load_config({"preset": preset, **yaml.safe_load((root / path).read_text())}, root)
    assert config.pretrain.nodes == 2
    assert (config.pretrain.processes == 8) is (preset == "paper")


def test_submissions_are_slowed_down_by_an_option_that_snakemake_has(root: Path, monkeypatch) -> None:
    asked = profile(root, monkeypatch)["max-jobs-per-timespan"]
    assert re.fullmatch(r"\d+/\d+[smh]", asked)
    _, arguments = parse_args(["--cores", "1", "--max-jobs-per-timespan", asked])
    assert vars(arguments.max_jobs_per_timespan)


TIMED_OUT = "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation"


@pytest.mark.parametrize(
    ("errors", "there", "code", "printed", "calls"),
    [
        ([], "", 0, "71", 1),
        ([TIMED_OUT, TIMED_OUT], "", 0, "71", 3),
        ([TIMED_OUT], "70|rule_a_wildcards_x", 0, "70", 1),
        ([TIMED_OUT], "69|rule_b", 0, "71", 2),
        ([TIMED_OUT] * 9, "", 1, "", 5),
        (["sbatch: error: invalid partition"], "70|rule_a_wildcards_x", 1, "", 1),
    ],
)
def test_a_submission_without_an_answer_is_asked_again_once(
    root: Path, tmp_path: Path, errors: list[str], there: str, code: int, printed: str, calls: int
) -> None:
    """The script of the profile before programs that answer like SLURM's: an accepted job is not submitted twice."""
    (tmp_path / "errors").write_text("".join(f"{line}\n" for line in errors))
    for name, text in {
        "sbatch": f"""cat >> {tmp_path}/in; echo x >> {tmp_path}/calls
line=$(sed -n "$(wc -l < {tmp_path}/calls)p" {tmp_path}/errors)
[ -z "$line" ] && echo 71 || {{ echo "$line" >&2; exit 1; }}""",
        "squeue": f"echo '{there}'",
    }.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    script = root / "profiles/slurm/bin"
    environment = {"PATH": f"{script}:{tmp_path}:/usr/bin:/bin", "SBATCH_WAIT": "0"}
    call = "sbatch --parsable --job-name run --comment rule_a_wildcards_x --wrap true"
    done = subprocess.run(call, shell=True, env=environment, input="#!/bin/sh\n", capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) == (code, printed)
    assert len((tmp_path / "calls").read_text().split()) == calls
    assert (tmp_path / "in").read_text() == "#!/bin/sh\n" * calls
    assert not code or errors[0] in done.stderr


def test_the_profile_puts_its_sbatch_before_slurms(root: Path, monkeypatch) -> None:
    profile(root, monkeypatch, path="/a:/b")
    assert os.environ["PATH"] == f"{root / 'profiles/slurm/bin'}:/a:/b"
    yte.process_yaml((root / "profiles/slurm/config.yaml").read_text())
    assert os.environ["PATH"].count("slurm/bin") == 1


def test_models_that_train_on_a_gpu_ask_for_one(root: Path, monkeypatch) -> None:
    """Both the card and its options say so, or neither, in the preset that has GPUs."""
    monkeypatch.chdir(root)
    plan = make_plan({"preset": "paper", "results_dir": "nowhere"})
    asks = {name: (card.device == "gpu", card.options.get("device") == "cuda") for name, card in plan.models.items()}
    assert not {name for name, (card, options) in asks.items() if options and not card}
    assert asks["gears"] == (True, True) and asks["train_mean"] == (False, False)


def in_script(root: Path, etc: Path, line: str) -> int:
    """Run a line after the functions of tests/cluster/slurm, with another folder for /etc/slurm; return its status."""
    functions = (root / "tests/cluster/slurm").read_text().partition('[ "${1:-}" != missing ]')[0]
    text = functions.replace("etc=/etc/slurm", f"etc={etc}") + f"run={etc}\n{line}\n"
    return subprocess.run(["bash", "-c", text], check=False).returncode


@pytest.mark.parametrize(
    ("text", "gone"), [(None, True), ("ClusterName=virtual\n", True), ("ClusterName=virtual2\n", False)]
)
def test_links_of_a_real_cluster_stay(root: Path, tmp_path: Path, text: str | None, gone: bool) -> None:
    etc, other = tmp_path / "etc", tmp_path / "other"
    for folder in (etc, other):
        folder.mkdir()
    if text:
        (other / "slurm.conf").write_text(text)
    (etc / "slurm.conf").symlink_to(other / "slurm.conf")
    (etc / "gres.conf").write_text("of somebody else")
    assert in_script(root, etc, "if is_virtual; then unlink_files; fi") == 0
    assert (etc / "slurm.conf").is_symlink() is not gone
    assert (etc / "gres.conf").is_file()
    (etc / "gres.conf").unlink()
    (etc / "gres.conf").symlink_to(other / "gres.conf")
    assert in_script(root, etc, "if is_virtual; then unlink_files; fi") == 0
    assert (etc / "gres.conf").is_symlink(), "without a slurm.conf of a virtual cluster nothing is touched"


@pytest.mark.parametrize("same", [True, False])
def test_links_of_the_virtual_cluster_go_together(root: Path, tmp_path: Path, same: bool) -> None:
    etc, ours, other = tmp_path / "etc", tmp_path / "ours", tmp_path / "other"
    for folder in (etc, ours, other):
        folder.mkdir()
    (ours / "slurm.conf").write_text("ClusterName=virtual\n")
    (etc / "slurm.conf").symlink_to(ours / "slurm.conf")
    (etc / "gres.conf").symlink_to((ours if same else other) / "gres.conf")
    assert in_script(root, etc, "if is_virtual; then unlink_files; fi") == 0
    assert not (etc / "slurm.conf").is_symlink()
    assert (etc / "gres.conf").is_symlink() is not same


def test_a_process_that_has_the_number_of_a_daemon_lives(root: Path, tmp_path: Path) -> None:
    (tmp_path / "pid").mkdir()
    with subprocess.Popen(["sleep", "60"]) as process:
        (tmp_path / "pid/slurmd-node1").write_text(str(process.pid))
        assert in_script(root, tmp_path, "stop slurmd-node1 munged") == 0
        assert process.poll() is None
        assert in_script(root, tmp_path, f"mv {tmp_path}/pid/slurmd-node1 {tmp_path}/pid/sleep; stop sleep & wait") == 0
        assert process.wait(20) == -15
