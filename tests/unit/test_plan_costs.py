"""What a plan costs: figures are counted, or are docs/scale.md's, or are unknown; never made up."""

from __future__ import annotations

import dataclasses
import functools
import json
import re
import subprocess
from pathlib import Path

import pytest

from sclong.config.load import load_config
from sclong.errors import ConfigError
from sclong.plan import costs as plan_costs
from sclong.plan import jobs as plan_jobs
from sclong.plan import training
from sclong.plan.advice import unaudited_error
from sclong.plan.costs import CPU_S_PER_MILLION, Attempts, attempts_of, work_out
from sclong.plan.costs_text import as_json, as_table
from sclong.plan.jobs import Job, dry_run, job_of, parse_settings, settings_for_results, user_config
from sclong.plan.plan import Plan, make_plan

PAPER = {"preset": "paper", "results_dir": "nowhere", "data_dir": "nowhere_data"}


@functools.cache
def plan_of(root: Path, preset: str) -> Plan:
    return make_plan({**PAPER, "preset": preset}, root)


def paper(root: Path, **change: object) -> Plan:
    """The plan of the preset `paper`, its cards read once, with keys changed."""
    return dataclasses.replace(plan_of(root, "paper"), config=load_config({**PAPER, **change}, root))


CELLS = plan_costs.RELEASE_CELLS["2023-12-15"] / 1e6


def census_jobs(parts: int = 64) -> list[Job]:
    return [Job("census_part", 1, 16000, 1440, outputs=[f"part{i}"]) for i in range(parts)]


@pytest.fixture(autouse=True)
def _at_the_root(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root)


# ---------------------------------------------------------------- settings


def test_settings_are_yaml_and_sections_are_laid_over(tmp_path: Path) -> None:
    (tmp_path / "config").mkdir()
    (tmp_path / "config/config.yaml").write_text("preset: small\npretrain: {steps: 3, batch_size: 2}\n")
    config = user_config(["pretrain={steps: 150}", "seeds=[0, 1]", "mirror=/a/b"], tmp_path)
    assert config == {
        "preset": "small",
        "pretrain": {"steps": "150", "batch_size": 2},
        "seeds": ["0", "1"],
        "mirror": "/a/b",
    }


@pytest.mark.parametrize("text", ["preset", "=paper", "pre set=1", "seeds=[0"])
def test_a_setting_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="setting"):
        parse_settings([text])


def test_folder_of_another_preset_is_not_planned_for(tmp_path: Path) -> None:
    (tmp_path / "config").mkdir()
    (tmp_path / "config/config.yaml").write_text("preset: demo\n")
    (tmp_path / "results").mkdir()
    (tmp_path / "results/preset.json").write_text('{"preset": "demo"}')
    assert settings_for_results(["preset=demo"], tmp_path) == (["preset=demo"], None)
    settings, said = settings_for_results(["preset=paper"], tmp_path)
    assert settings == ["preset=paper", "results_dir=results_paper"] and "results_paper" in (said or "")
    given = ["preset=paper", "results_dir=x"]
    assert settings_for_results(given, tmp_path) == (given, None)


# ---------------------------------------------------------------- jobs


def test_gpus_of_a_job_are_those_of_all_its_nodes() -> None:
    several = job_of("pretrain", 8, {"nodes": 2, "gres": "gpu:h100:4", "mem_mb": 16000, "runtime": 60}, ["x"])
    assert (several.gpus, several.nodes, several.mem_mb, several.runtime_min) == (8, 2, 16000, 60)
    one = job_of("embed", 1, {"gpu": 1, "mem_mb": "<TBD>", "slurm_partition": "gpu", "slurm_account": "a"}, [])
    assert (one.gpus, one.mem_mb, one.partition, one.account) == (1, None, "gpu", "a")


@pytest.mark.slow
def test_dry_run_counts_what_snakemake_would_do(root: Path, tmp_path: Path) -> None:
    settings = [f"results_dir={tmp_path}/r", "benchmarks=[norman]", "models=[no_change,truth]", "seeds=[0]"]
    run = dry_run([*settings, f"data_dir={tmp_path}/d"], root=root)
    rules = [job.rule for job in run.jobs]
    assert rules.count("pretrain") == rules.count("score_norman") == 1 and rules.count("corpus_part") == 3
    assert run.config["benchmarks"] == ["norman"] and "all" not in rules
    predict = next(job for job in run.jobs if job.rule == "predict_norman")
    assert predict.runtime_min == 120, "hours of a card, by default 2"
    pretrain = next(job for job in run.jobs if job.rule == "pretrain")
    assert pretrain.mem_mb == 4000 and pretrain.runtime_min == 30 and pretrain.gpus == 0
    assert not (tmp_path / "r").exists()
    costs = work_out(make_plan(run.config, root), run.jobs)
    assert sum(rule.jobs for rule in costs.rules) == len(run.jobs) == costs.figure("jobs").value


def test_a_dry_run_that_fails_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    failed = subprocess.CompletedProcess([], 1, stdout="WorkflowError\nthe reason\n", stderr="Using profile x\n")
    monkeypatch.setattr(plan_jobs.subprocess, "run", lambda *_, **__: failed)
    with pytest.raises(plan_jobs.DryRunError, match="the reason") as error:
        dry_run(["preset=demo"])
    assert "Using profile" not in str(error.value)


# ---------------------------------------------------------------- costs


def test_rates_and_sizes_are_those_of_the_page(root: Path) -> None:
    page = (root / "docs/scale.md").read_text()
    for rule, rate in CPU_S_PER_MILLION.items():
        row = next(line for line in page.splitlines() if f"`{rule}`" in line or f"({rule})" in line)
        assert row.split("|")[2].strip() == str(rate)
    assert f"{plan_costs.SHARD_BYTES_PER_CELL / 1000} kB per cell" in page
    assert f"{plan_costs.CENSUS_BYTES_PER_CELL / 1000} kB per cell" in page
    assert all(f"{peak / 1e12:.0f}" in page for peak in training.GPU_FLOPS.values())
    assert all(re.search(rf"^\| {share:.0%}".replace("%", " %"), page, re.M) for share in training.MFU)
    releases = (root / "docs/census.md").read_text()
    assert all(f"| {version} | {cells:,} |" in releases for version, cells in plan_costs.RELEASE_CELLS.items())


def test_hours_are_the_rates_times_the_cells(root: Path) -> None:
    jobs = [*census_jobs(), *[Job("find_overlap", 8, 16000, 240)] * 4, Job("go_graph", 1, 2000, 30)]
    rules = {rule.kind: rule for rule in work_out(paper(root), jobs).rules}
    assert rules["census_part"].cpu_hours == pytest.approx(183 * CELLS / 3600)
    assert rules["find_overlap"].cpu_hours == pytest.approx(4 * 324 * CELLS / 3600)
    assert rules["go_graph"].cpu_hours is None
    half = work_out(paper(root), census_jobs(32)).rules[0]
    assert half.cpu_hours == pytest.approx(183 * CELLS / 2 / 3600)


def test_training_is_that_of_the_page(root: Path) -> None:
    one = {"steps": 35379, "batch_size": 1024, "micro_batch_size": 1, "nodes": 1, "processes": 1}
    costs = work_out(paper(root, pretrain=one), [Job("pretrain", 8, 16000, 1440, gpus=1)])
    days = [costs.figure(f"days of training at {share:.0%} of the GPUs").value for share in training.MFU]
    assert days == pytest.approx(
        [73, 36, 24], rel=0.02
    )  # one pass over the default release: the table of docs/scale.md
    assert costs.rules[0].gpu_hours == pytest.approx(days[1] * 24)


def test_the_peak_is_that_of_the_precision_that_is_set(root: Path) -> None:
    plan = paper(root)
    float32 = dataclasses.replace(plan, architecture=plan.architecture.model_copy(update={"precision": "float32"}))
    exact = paper(root, pretrain={"tf32": False})
    exact = dataclasses.replace(exact, architecture=float32.architecture)
    told = paper(root, pretrain={"peak_tflops": 312})
    assert [training.peak_flops(p) / 1e12 for p in (plan, float32, exact, told)] == [790, 395, 67, 312]
    hours = [training.gpu_hours(p, 0.4) or 0 for p in (plan, float32, exact)]
    assert hours[1] / hours[0] == pytest.approx(2) and hours[2] / hours[0] == pytest.approx(790 / 67)
    rests_on = [work_out(p, [Job("pretrain", gpus=1)]).rules[0].rests_on for p in (plan, float32, exact)]
    assert [name in text for name, text in zip(("bfloat16", "tf32", "float32"), rests_on, strict=True)] == [True] * 3


def test_the_preset_ends_within_its_attempts_and_is_warned_in_time(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the profile has it: 16 GPUs; even at the lowest utilisation; the warning covers a pass and a save."""
    monkeypatch.setattr("sys.argv", ["sclong", "plan", "preset=paper"])
    attempts, plan = attempts_of("slurm", root), paper(root)
    config, job = plan.config.pretrain, Job("pretrain", 8, 16000, 1440, gpus=16)
    assert config.nodes * config.processes >= 16
    costs = work_out(plan, [job], attempts)
    assert not [note for note in costs.notes if "pretrain needs" in note or "SLURM ask" in note]
    allowed = sum(limited.runtime_min or 0 for limited in attempts.all_of(job)) / 60 / 24
    assert costs.figure(f"days of training at {training.MFU[0]:.0%} of the GPUs").value < allowed
    late = Attempts(2, {"pretrain": {"slurm_extra": "'--signal=TERM@30'"}})
    (note,) = [note for note in work_out(plan, [job], late).notes if "SLURM ask" in note]
    assert "30 s before" in note and "--signal=TERM@SECONDS" in note


@pytest.mark.parametrize("version", plan_costs.RELEASE_CELLS)
def test_a_plan_counts_the_cells_of_its_release(root: Path, version: str) -> None:
    plan = paper(root, corpus={"census": {"version": version, "parts": 64}})
    cells = plan_costs.RELEASE_CELLS[version]
    read = work_out(plan, census_jobs()).figure("Census to read")
    assert read.value == cells * plan_costs.CENSUS_BYTES_PER_CELL and f"{cells:,}" in read.rests_on


def test_a_release_that_is_not_listed_is_not_counted(root: Path) -> None:
    plan = paper(root, corpus={"census": {"version": "2026-01-05", "parts": 64}})
    assert work_out(plan, census_jobs()).figure("Census to read").value is None


@pytest.mark.parametrize(
    "change", [{"census": {"tissues": ["blood"]}}, {"sources": [{"name": "a", "input": "file:a"}]}]
)
def test_a_corpus_that_nobody_counted_is_unknown(root: Path, change: dict) -> None:
    costs = work_out(paper(root, corpus=change), [*census_jobs(), Job("shards", 1, 16000, 240)])
    assert {rule.cpu_hours for rule in costs.rules} == {None}
    assert costs.figure("disk of the corpus").value is None and "not counted" in costs.figure("Census to read").rests_on
    assert "unknown" in as_table(costs)


def test_a_corpus_that_is_there_is_counted(root: Path, tmp_path: Path) -> None:
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus/manifest.tsv").write_text("source\tcells_kept\na\t1000\nb\t500\nc\t\n")
    costs = work_out(paper(root, results_dir=str(tmp_path)), [Job("shards", 1, 16000, 240)])
    assert costs.figure("disk of the corpus").value == 1500 * 9800


def test_bytes_to_fetch_are_those_of_the_rows_that_are_not_here(root: Path, tmp_path: Path) -> None:
    plan = paper(root, mirror=str(tmp_path))
    first, second = [s for s in plan.sources.values() if s.kind == "https"][:2]
    (tmp_path / first.id).mkdir()
    (tmp_path / first.id / first.file).write_text("x")
    jobs = [Job("fetch", outputs=[plan.paths.fetched("sources", s.id, s.file)]) for s in (first, second)]
    costs = work_out(plan, jobs)
    assert costs.figure("files to copy from the mirror").value == first.bytes
    assert costs.figure("files to fetch over the network").value == second.bytes


def test_largest_request_of_a_kind_is_shown_and_kinds_are_put_together(root: Path) -> None:
    plan = plan_of(root, "demo")
    jobs = [Job("predict_norman", 1, 2000, 120), Job("predict_grn", 4, 8000, 60), Job("split_norman", 1, 1000, 30)]
    rules = {rule.kind: rule for rule in work_out(plan, jobs).rules}
    assert rules.keys() == {"predict", "split"}
    assert (rules["predict"].jobs, rules["predict"].threads, rules["predict"].mem_gb) == (2, 4, 8.0)
    assert rules["predict"].limit_h == 2.0


def test_notes_say_what_cannot_work(root: Path) -> None:
    plan = dataclasses.replace(
        paper(root, pretrain={"micro_batch_size": None, "nodes": 1, "processes": 1}),
        blocked={"norman": "its files are not here"},
    )
    costs = work_out(plan, [Job("pretrain", 8, 16000, 1440, gpus=1)], Attempts(2))
    notes = "\n".join(costs.notes)
    assert "the run refuses to start: files of" in notes and "norman" in notes
    assert "pretrain needs" in notes and "6.0 in all" in notes
    assert "set pretrain.micro_batch_size" in notes and "H200: " in notes
    many = {"nodes": 32, "processes": 8, "parallel": "ddp", "micro_batch_size": 1}
    fine = "\n".join(
        work_out(paper(root, pretrain=many), [Job("pretrain", 8, 16000, 1440, gpus=256)], Attempts(2)).notes
    )
    assert "pretrain needs" not in fine and "micro_batch_size" not in fine


def test_the_paper_does_not_train_on_a_corpus_that_nobody_audited(root: Path) -> None:
    plan = paper(root)
    lacking = dataclasses.replace(plan.corpus, not_excluded={"norman": "needs data/norman.h5ad"})
    audited = dataclasses.replace(plan.corpus, not_excluded={})
    for corpus, refused in ((lacking, True), (audited, False)):
        here = dataclasses.replace(plan)
        here.__dict__["corpus"] = corpus
        error = unaudited_error(here)
        assert (error is not None) == refused
    assert error is None
    here.__dict__["corpus"] = lacking
    error = unaudited_error(here)
    assert error and "norman: needs data/norman.h5ad" in error.found
    assert "exclude_benchmarks: [grn, pancreas, scmixology]" in error.action
    small = dataclasses.replace(here, config=load_config({"preset": "small", "results_dir": "nowhere"}, root))
    small.__dict__["corpus"] = lacking
    assert unaudited_error(small) is None


def test_json_and_table_have_everything(root: Path) -> None:
    costs = work_out(paper(root), [*census_jobs(2), Job("pretrain", 8, 16000, 1440, gpus=2)])
    read = json.loads(as_json(costs))
    assert read["preset"] == "paper" and {r["kind"] for r in read["rules"]} == {"census_part", "pretrain"}
    assert all(figure["rests_on"] for figure in read["figures"])
    table = as_table(costs)
    for figure in costs.figures:
        assert figure.name in table
    assert all(rule.rests_on for rule in costs.rules if rule.cpu_hours is not None or rule.gpu_hours is not None)


def test_nodes_are_shown_and_a_partition_where_one_is_known(root: Path) -> None:
    jobs = [Job("pretrain", 8, 16000, 1440, gpus=4, nodes=2), Job("embed", 1, 16000, 240)]
    lines = as_table(work_out(paper(root), jobs)).splitlines()
    assert re.search(r"limit h +nodes +GPUs", lines[2]) and "partition" not in lines[2]
    assert re.match(r"pretrain +1 +8 +16\.0 +24\.0 +2 +4 ", lines[4])
    assert "partition" in as_table(work_out(paper(root), [dataclasses.replace(jobs[0], partition="big")]))


def test_attempts_are_those_of_the_profile(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["sclong", "plan", "preset=paper"])
    attempts = attempts_of("slurm", root)
    said = re.search(r"^retries: (\d+)", (root / "profiles/slurm/config.yaml").read_text(), re.M)
    assert said and attempts.retries == int(said[1])
    assert "embed" in attempts.table and attempts_of("profiles/slurm", root) == attempts
    assert attempts_of(None, root) == attempts_of("no_such_profile", root) == Attempts()


@pytest.mark.parametrize(
    "said, asked", [({}, 4320), ({"runtime": "min(attempt * 1440, 2880)"}, 2880), ({"runtime": "input.size_mb"}, 4320)]
)
def test_a_later_attempt_asks_for_what_the_table_says(said: dict, asked: int) -> None:
    first = Job("pretrain", 8, 16000, 1440)
    last = Attempts(2, {"pretrain": said}).all_of(first)[-1]
    assert (last.runtime_min, last.mem_mb, last.threads) == (asked, 48000, 8)
    assert Attempts(2).all_of(Job("a"))[-1] == Job("a")
