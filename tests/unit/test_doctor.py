"""The doctor's checks, each with what the outside world said; SLURM's lines are those of a real test cluster."""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from http.server import BaseHTTPRequestHandler, HTTPServer, ThreadingHTTPServer
from pathlib import Path

import pytest

from sclong.config.load import load_config
from sclong.config.sections import CensusConfig
from sclong.corpus import census_access
from sclong.doctor import Finding, Tools, as_text, diagnose
from sclong.doctor import findings as findings_module
from sclong.doctor.census import check_census
from sclong.doctor.findings import Answer, Case, Head, ask_head, run_program
from sclong.doctor.machine import check_disk, check_file_system, check_gpus, check_packages
from sclong.doctor.network import check_hashes, check_mirror
from sclong.doctor.slurm import check_slurm, misfit, parse_minutes, parse_partitions, profile_partitions
from sclong.errors import FetchError
from sclong.plan.costs import Attempts, work_out
from sclong.plan.jobs import Job
from sclong.plan.plan import Plan, make_plan

SINFO = "cpu*|up|1-00:00:00|2|2|6000|gpu:h100:2\ngpu|up|1-00:00:00|2|2|6000|gpu:h100:2\ndata|up|30:00|1|2|6000|(null)\n"
NO_ACCOUNTS = Answer(1, "", "You are not running a supported accounting_storage plugin\n")
PING = "Slurmctld(primary) at vm is UP\n"
SMI = "NVIDIA H100 80GB HBM3, 550.54.15, 81559 MiB\nNVIDIA H100 80GB HBM3, 550.54.15, 81559 MiB\n"
SMI_TITLE = "| NVIDIA-SMI 550.54.15   Driver Version: 550.54.15   CUDA Version: 12.4 |\n"
CPU_TORCH = {"version": "2.13.0+cpu", "cuda": None, "gpus": [], "nccl": None}
H100 = ["NVIDIA H100 80GB HBM3", 85_000_000_000]
GPU_TORCH = {"version": "2.13.0", "cuda": "12.6", "gpus": [H100, H100], "nccl": [2, 27, 5]}
PRETRAIN = Job("pretrain", 8, 16000, 1440, gpus=1)
TWO_GPUS = {"pretrain": {"processes": 2, "parallel": "ddp", "micro_batch_size": 1}}


class World:
    """An outside world that says what it is told, and remembers what it was asked."""

    def __init__(self, now: float = 1000.0, **programs: Answer | Callable[[Sequence[str]], Answer]) -> None:
        self.programs, self.time, self.asked = programs, now, []  # type: ignore[var-annotated]
        self.heads: dict[str, Head | OSError] = {}

    def run(self, command: Sequence[str]) -> Answer:
        self.asked.append(list(command))
        said = self.programs.get("python" if command[0] == sys.executable else command[0].replace("-", "_"))
        return said(command) if callable(said) else said or Answer(None, err=f"no program {command[0]}")

    def head(self, url: str) -> Head:
        self.asked.append([url])
        said = self.heads.get(url.split("/")[2], Head(200))
        if isinstance(said, OSError):
            raise said
        return said

    @property
    def tools(self) -> Tools:
        return Tools(self.run, self.head, lambda: self.time)


def torch_says(facts: dict) -> Answer:
    return Answer(0, json.dumps(facts) + "\n")


def smi(command: Sequence[str]) -> Answer:
    return Answer(0, SMI if len(command) > 1 else SMI_TITLE)


def slurm(**more: Answer) -> World:
    def sinfo(command: Sequence[str]) -> Answer:
        return Answer(0, "slurm-wlm 22.05.8\n" if "--version" in command else SINFO)

    def scontrol(command: Sequence[str]) -> Answer:
        return Answer(0, PING if "ping" in command else "AccountingStorageType = accounting_storage/none\n")

    programs = {
        "sinfo": sinfo,
        "scontrol": scontrol,
        "sacctmgr": NO_ACCOUNTS,
        "squeue": Answer(0, "RUNNING\nPENDING\n"),
    }
    return World(**{**programs, **more})  # type: ignore[arg-type]


@functools.cache
def base(root: Path) -> Plan:
    return make_plan({"preset": "paper", "results_dir": "nowhere", "data_dir": "nowhere_data"}, root)


@pytest.fixture
def case(root: Path, tmp_path: Path) -> Callable[..., Case]:
    def make(world: World, jobs: Sequence[Job] = (), partitions: dict | None = None, **change: object) -> Case:
        keys = {"preset": "paper", "results_dir": str(tmp_path / "r"), "data_dir": str(tmp_path / "d"), **change}
        plan = dataclasses.replace(base(root), config=load_config(keys, root))
        return Case(plan, jobs, work_out(plan, jobs), world.tools, {}, partitions or {}, root)

    return make


def levels(found: Sequence[Finding]) -> dict[str, str]:
    return {finding.check: finding.level for finding in found}


def only(found: Sequence[Finding], check: str) -> Finding:
    (finding,) = [finding for finding in found if finding.check == check]
    return finding


# ---------------------------------------------------------------- GPUs


def test_without_gpu_jobs_nothing_is_asked(case: Callable[..., Case]) -> None:
    world = World()
    assert levels(check_gpus(case(world, [Job("split_x")]))) == {"GPUs": "ok"} and not world.asked


def test_gpus_as_asked_for_are_fine(case: Callable[..., Case]) -> None:
    found = check_gpus(case(World(nvidia_smi=smi, python=torch_says(GPU_TORCH)), [PRETRAIN], **TWO_GPUS))
    assert levels(found) == {"torch": "ok", "driver": "ok", "GPUs": "ok", "NCCL": "ok", "GPU memory": "ok"}
    assert "550.54.15" in only(found, "driver").found and "2.27.5" in only(found, "NCCL").found


@pytest.mark.parametrize(
    "facts, check, said",
    [
        pytest.param(CPU_TORCH, "torch", "built without CUDA", id="torch for the CPU"),
        pytest.param({**GPU_TORCH, "cuda": "13.0"}, "driver", "for CUDA 12.4 at most", id="driver too old"),
        pytest.param({**GPU_TORCH, "gpus": []}, "driver", "torch sees none", id="GPUs are hidden"),
        pytest.param({**GPU_TORCH, "gpus": [H100]}, "GPUs", "1 visible", id="fewer GPUs than processes"),
        pytest.param({**GPU_TORCH, "nccl": None}, "NCCL", "no NCCL", id="no NCCL"),
        pytest.param({**GPU_TORCH, "gpus": [["T4", 16e9]] * 2}, "GPU memory", "the training needs", id="small GPUs"),
    ],
)
def test_what_is_wrong_with_gpus_is_an_error(case: Callable[..., Case], facts: dict, check: str, said: str) -> None:
    found = check_gpus(case(World(nvidia_smi=smi, python=torch_says(facts)), [PRETRAIN], **TWO_GPUS))
    finding = only(found, check)
    assert finding.level == "error" and said in finding.found and finding.expected and finding.action


def test_no_gpu_is_an_error_but_on_a_login_node(case: Callable[..., Case]) -> None:
    alone = check_gpus(case(World(python=torch_says(GPU_TORCH)), [PRETRAIN]))
    assert only(alone, "driver").level == "error" and "cpu" in only(alone, "driver").action
    login = check_gpus(case(slurm(python=torch_says(GPU_TORCH)), [PRETRAIN]))
    assert only(login, "driver").level == "warning" and "srun" in only(login, "driver").action


def test_torch_that_does_not_start_is_an_error(case: Callable[..., Case]) -> None:
    assert levels(check_gpus(case(World(python=Answer(1, "", "ImportError")), [PRETRAIN]))) == {"torch": "error"}


# ---------------------------------------------------------------- disk, file system, clock, packages


def test_disk_is_compared_with_the_plan(case: Callable[..., Case]) -> None:
    assert levels(check_disk(case(World(), [Job("split_x")]))) == {"disk": "ok"}
    shards = case(World(), [Job("shards", 1, 16000, 240)])
    figures = [
        dataclasses.replace(f, value=1e18) if f.name == "disk of the corpus" else f for f in shards.costs.figures
    ]
    full = dataclasses.replace(shards, costs=dataclasses.replace(shards.costs, figures=figures))
    assert only(check_disk(full), "disk").level == "error"


def test_writing_leaves_nothing_and_clocks_are_compared(case: Callable[..., Case], tmp_path: Path) -> None:
    import time

    ready = case(World(), [PRETRAIN])
    found = check_file_system(dataclasses.replace(ready, tools=dataclasses.replace(ready.tools, now=time.time)))
    assert levels(found)["clock"] == "ok" and "MB/s" in only(found, "write speed").found
    assert "s for a training checkpoint" in only(found, "write speed").found
    assert list(tmp_path.iterdir()) == []
    behind = check_file_system(case(World(now=time.time() - 100), []))
    assert only(behind, "clock").level == "warning" and "ahead of" in only(behind, "clock").found


def test_slow_disk_is_a_warning(case: Callable[..., Case], monkeypatch: pytest.MonkeyPatch) -> None:
    from sclong.doctor import machine

    ticks = iter([0.0, 64.0])  # 1 MB/s
    monkeypatch.setattr(machine.time, "perf_counter", lambda: next(ticks))
    finding = only(check_file_system(case(World(), [PRETRAIN])), "write speed")
    assert finding.level == "warning" and "1 MB/s" in finding.found and "600 s" in finding.expected


def test_save_time_is_that_of_the_profile(root: Path) -> None:
    from sclong.doctor.machine import SAVE_S

    assert f"--signal=TERM@{SAVE_S}" in (root / "profiles/slurm/config.yaml").read_text()


def test_a_folder_that_cannot_be_written_is_an_error(
    case: Callable[..., Case], monkeypatch: pytest.MonkeyPatch
) -> None:
    from sclong.doctor import machine

    def full(**_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(machine.tempfile, "NamedTemporaryFile", full)
    assert "No space left" in only(check_file_system(case(World())), "write").found


@pytest.mark.parametrize(
    "kind, level", [("nfs", "ok"), ("lustre", "ok"), ("ext2/ext3", "warning"), ("tmpfs", "warning")]
)
def test_results_of_a_cluster_belong_on_a_shared_file_system(case: Callable[..., Case], kind: str, level: str) -> None:
    assert levels(check_file_system(case(slurm(stat=Answer(0, kind + "\n")))))["shared folder"] == level


def test_versions_are_compared_with_the_pins(case: Callable[..., Case], monkeypatch: pytest.MonkeyPatch) -> None:
    from sclong.doctor import machine

    monkeypatch.setattr(machine.metadata, "version", lambda name: "0.1")
    (finding,) = check_packages(case(World()))
    assert finding.level == "warning" and "torch 0.1 (pinned 2.13.0)" in finding.found


# ---------------------------------------------------------------- network


def fetches(plan: Plan, n: int) -> list[Job]:
    rows = [s for s in plan.sources.values() if s.kind == "https"][:n]
    return [Job("fetch", outputs=[plan.paths.fetched("sources", s.id, s.file)]) for s in rows]


def test_hosts_of_the_plans_files_are_asked(case: Callable[..., Case]) -> None:
    world = World(now=1_000_000.0)
    plain = case(world)
    ready = dataclasses.replace(plain, jobs=[*fetches(plain.plan, 1), Job("census_part")])
    world.heads["census.cellxgene.cziscience.com"] = OSError("Name or service not known")
    world.heads["raw.githubusercontent.com"] = Head(200, clock=1_000_500.0)
    found = check_mirror(ready)
    assert [f.level for f in found] == ["ok", "error", "warning"]
    assert "Name or service" in found[1].found and "mirror" in found[1].action
    assert found[2].check == "clock" and "500.0 s ahead" in found[2].found


def test_a_file_that_is_gone_is_a_warning(case: Callable[..., Case]) -> None:
    world = World()
    plain = case(world)
    world.heads["raw.githubusercontent.com"] = Head(404)
    (finding,) = check_mirror(dataclasses.replace(plain, jobs=fetches(plain.plan, 1)))
    assert finding.level == "warning" and "404" in finding.found


@pytest.mark.parametrize(
    "wall", [Head(202, start=b""), Head(200, start=b""), Head(200, start=b"<!DOCTYPE html>"), Head(204, start=b"")]
)
def test_a_wall_is_told_by_the_first_bytes(case: Callable[..., Case], wall: Head) -> None:
    world = World()
    plain = case(world)
    world.heads["raw.githubusercontent.com"] = wall
    (finding,) = check_mirror(dataclasses.replace(plain, jobs=fetches(plain.plan, 1)))
    assert finding.level == "error" and "in place of the file" in finding.found
    assert "curl --fail --location" in finding.action


def test_files_without_a_published_hash_are_listed(case: Callable[..., Case]) -> None:
    plain = case(World())

    def jobs(*keys: str) -> list[Job]:
        return [Job("fetch", outputs=[plain.plan.paths.fetched("sources", *key.split("/"))]) for key in keys]

    pinned, trusted = "gears_norman/perturb_processed.h5ad", "gears_adamson/perturb_processed.h5ad"
    (finding,) = check_hashes(dataclasses.replace(plain, jobs=jobs(pinned)))
    assert finding.level == "ok" and "each of 1 files" in finding.found
    (finding,) = check_hashes(dataclasses.replace(plain, jobs=jobs(pinned, trusted)))
    assert finding.level == "warning" and trusted in finding.found and pinned not in finding.found
    assert "sources.lock.tsv" in finding.action


def test_the_first_bytes_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    class Ask(BaseHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            """Say nothing."""

        def do_GET(self) -> None:
            span = self.headers["Range"]
            self.send_response(206)
            self.end_headers()
            self.wfile.write(span.encode())

    monkeypatch.setenv("no_proxy", "*")
    with HTTPServer(("127.0.0.1", 0), Ask) as server:
        threading.Thread(target=server.handle_request, daemon=True).start()
        found = ask_head(f"http://127.0.0.1:{server.server_port}/file.bin")
    assert (found.status, found.start) == (206, b"bytes=0-255")


def test_offline_asks_nobody(case: Callable[..., Case]) -> None:
    world = World()
    offline = case(world, offline=True)
    assert levels(check_mirror(dataclasses.replace(offline, jobs=fetches(offline.plan, 3)))) == {"network": "ok"}
    assert not world.asked


def test_a_mirror_that_is_not_there_is_an_error(case: Callable[..., Case], tmp_path: Path) -> None:
    gone = case(World())
    config = gone.plan.config.model_copy(update={"mirror": str(tmp_path / "gone")})
    broken = dataclasses.replace(gone, plan=dataclasses.replace(gone.plan, config=config))
    assert only(check_mirror(broken), "mirror").level == "error"


def test_a_web_server_is_asked(free_server: str) -> None:
    answer = ask_head(free_server + "/there")
    assert answer.status == 200 and answer.clock is not None
    assert ask_head(free_server + "/gone").status == 404
    with pytest.raises(OSError):
        ask_head("http://127.0.0.1:1/")


@pytest.fixture
def free_server():
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/there" else 404)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


# ---------------------------------------------------------------- SLURM


def test_without_slurm_it_says_so(case: Callable[..., Case]) -> None:
    (finding,) = check_slurm(case(World()))
    assert finding.level == "ok" and "no SLURM here" in finding.found


def test_partitions_are_read_as_sinfo_prints_them() -> None:
    there = parse_partitions(
        SINFO + "mixed|up|infinite|4|64|512000+|gpu:a100:4(S:0-1)\nmixed|down|1:00|1|8|1|gpu:2,fs:1\n"
    )
    assert (there["cpu"].minutes, there["cpu"].nodes, there["cpu"].gpus) == (1440.0, 2, 2)
    assert (there["data"].minutes, there["data"].gpus) == (30.0, 0)
    mixed = there["mixed"]
    assert (mixed.up, mixed.minutes, mixed.nodes, mixed.cpus, mixed.gpus) == (True, math.inf, 5, 64, 4)
    assert mixed.memory_mb == 512000


@pytest.mark.parametrize(
    "text, minutes", [("2-12", 3600), ("90", 90), ("12:00:30", 720.5), ("7d", 10080), ("36h", 2160)]
)
def test_times_are_minutes(text: str, minutes: float) -> None:
    assert parse_minutes(text) == minutes


def test_jobs_that_fit_are_fine(case: Callable[..., Case]) -> None:
    jobs = [Job("split_x", 1, 2000, 30), Job("pretrain", 2, 6000, 1440, gpus=4, nodes=2)]
    found = check_slurm(case(slurm(), jobs, {"cpu": {"max_runtime": "24h"}, "gpu": {"max_gpu": 2}}))
    assert levels(found) == {"SLURM": "ok", "limits": "ok", "account": "ok"}
    assert "2 jobs of yours" in only(found, "SLURM").found


@pytest.mark.parametrize(
    "job, said",
    [
        pytest.param(Job("a", 1, 100, 2880), "2880 min of 1440", id="time"),
        pytest.param(Job("a", 1, 9000, 10), "9000 MB of 6000", id="memory"),
        pytest.param(Job("a", 16, 100, 10), "16 cores of 2", id="cores"),
        pytest.param(Job("a", 1, 100, 10, gpus=8), "8 GPUs of 2", id="GPUs"),
        pytest.param(Job("a", 1, 100, 10, nodes=3), "3 nodes of 2", id="nodes"),
        pytest.param(Job("a", 1, 100, 60, partition="data"), "60 min of 30", id="its own partition"),
    ],
)
def test_a_job_beyond_all_limits_is_an_error(case: Callable[..., Case], job: Job, said: str) -> None:
    finding = only(check_slurm(case(slurm(), [job], {"cpu": {}, "gpu": {}})), "limits")
    assert finding.level == "error" and said in finding.found and finding.found.startswith("a: ")
    assert misfit(job, parse_partitions(SINFO)[job.partition or "cpu"])


def test_rules_that_run_here_are_no_jobs(case: Callable[..., Case]) -> None:
    jobs = [Job("fetch", 1, 100_000, 60), Job("census_list", 1, 100_000, 9999)]
    assert only(check_slurm(case(slurm(), jobs)), "limits").level == "ok"


@pytest.mark.parametrize("table, fits", [({}, False), ({"a": {"runtime": "min(attempt * 600, 1440)"}}, True)])
def test_a_later_attempt_beyond_all_limits_is_a_warning(case: Callable[..., Case], table: dict, fits: bool) -> None:
    ready = case(slurm(), [Job("a", 1, 2000, 600), Job("b", 1, 100, 10)], {"cpu": {}})
    found = check_slurm(dataclasses.replace(ready, attempts=Attempts(2, table)))
    assert only(found, "limits").level == "ok" and ("later attempts" not in levels(found)) is fits
    if not fits:
        finding = only(found, "later attempts")
        assert finding.level == "warning" and finding.found == "a, attempt 3: 1800 min of 1440 in cpu"


def test_partitions_of_the_profile_are_compared(case: Callable[..., Case]) -> None:
    said = {"cpu": {"max_runtime": "48h", "max_mem_mb": 6000}, "long": {}}
    found = [f for f in check_slurm(case(slurm(), [], said)) if f.check == "partition"]
    assert [f.level for f in found] == ["warning", "error"]
    assert "max_runtime 48h, is 1440" in found[0].found and "max_mem_mb" not in found[0].found
    assert "long does not exist" in found[1].found and "cpu, data, gpu" in found[1].expected


def test_partitions_of_the_real_profile_are_found(root: Path) -> None:
    assert {"cpu", "gpu"} <= profile_partitions("slurm", root).keys()
    assert profile_partitions(None, root) == {} and profile_partitions("default", root) == {}


@pytest.mark.parametrize(
    "listed, wanted, level, said",
    [
        pytest.param("lab||\nlab|gpu|\n", None, "ok", "account lab", id="one"),
        pytest.param("lab||\nother||\n", None, "warning", "belongs to lab, other", id="several, none named"),
        pytest.param("lab||\nother||\n", "other", "ok", "account other", id="several, one named"),
        pytest.param("lab||\n", "else", "error", "account else", id="named, not mine"),
        pytest.param("", None, "error", "no account", id="none"),
    ],
)
def test_accounts(case: Callable[..., Case], listed: str, wanted: str | None, level: str, said: str) -> None:
    found = check_slurm(case(slurm(sacctmgr=Answer(0, listed)), [Job("a", 1, 1, 1, account=wanted)]))
    assert only(found, "account").level == level and said in only(found, "account").found


@pytest.mark.parametrize(
    "listed, account, said",
    [
        ("lab||\n", None, None),
        ("lab||1-00:00:00\n", None, None),
        ("lab||10:00:00\n", None, "a, attempt 2: 1200 min of 600"),
        ("lab||10:00\nother||\n", "other", None),
        ("lab||10:00\nother||\n", "lab", "a, attempt 1: 600 min of 10"),
    ],
)
def test_longest_job_of_an_account(
    case: Callable[..., Case], listed: str, account: str | None, said: str | None
) -> None:
    ready = case(slurm(sacctmgr=Answer(0, listed)), [Job("a", 1, 1, 600, account=account)])
    found = check_slurm(dataclasses.replace(ready, attempts=Attempts(1)))
    assert [f.found for f in found if f.check == "MaxWall"] == ([said] if said else [])


def test_a_controller_that_is_down_is_an_error(case: Callable[..., Case]) -> None:
    found = check_slurm(case(slurm(scontrol=Answer(0, "Slurmctld(primary) at vm is DOWN\n"))))
    assert levels(found) == {"SLURM": "error"}


@pytest.mark.parametrize(
    "shown, warned",
    [
        ("MinJobAge               = 10 sec\n", {"job states"}),
        ("MinJobAge               = 200 sec\n", {"job states"}),
        ("MinJobAge               = 300 sec\n", set()),
        ("MinJobAge               = 0 sec\n", set()),
        ("MinJobAge = 10 sec\nAccountingStorageType = accounting_storage/slurmdbd\n", {"job states"}),
        ("MinJobAge = 300 sec\nAccountingStorageType = accounting_storage/slurmdbd\n", set()),
        ("EnforcePartLimits       = NO\nMinJobAge               = 300 sec\n", {"limits of partitions"}),
        ("EnforcePartLimits       = ALL\n", set()),
    ],
)
def test_settings_of_the_cluster(case: Callable[..., Case], shown: str, warned: set[str]) -> None:
    def scontrol(command: Sequence[str]) -> Answer:
        return Answer(0, PING if "ping" in command else shown)

    found = levels(check_slurm(case(slurm(scontrol=scontrol))))
    assert {check for check, level in found.items() if level == "warning"} == warned


# ---------------------------------------------------------------- all together


def test_a_check_that_breaks_does_not_hide_the_others(case: Callable[..., Case], root: Path) -> None:
    def broken(command: Sequence[str]) -> Answer:
        raise RuntimeError("surprise")

    ready = case(World())
    world = World(sinfo=broken)
    found = diagnose(ready.plan, [], ready.costs, None, world.tools, {}, root)
    assert only(found, "SLURM").level == "error" and "surprise" in only(found, "SLURM").found
    assert {"packages", "GPUs", "disk", "network"} <= levels(found).keys()
    text = as_text(found)
    assert text.count("what to do:") == sum(f.level != "ok" for f in found) and text.splitlines()[-1].endswith(" error")


def test_programs_have_a_time_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run_program([sys.executable, "-c", "print(1)"]) == Answer(0, "1\n", "")
    assert run_program(["no_such_program_here"]).code is None

    def late(*_: object, timeout: float, **__: object) -> None:
        raise subprocess.TimeoutExpired("x", timeout)

    monkeypatch.setattr(findings_module.subprocess, "run", late)
    said = run_program(["sinfo"])
    assert said.code is None and "more than 30 s" in said.err


# ---------------------------------------------------------------- the Census


def test_the_census_is_read_where_its_jobs_run(case: Callable[..., Case]) -> None:
    read = "release 2023-12-15 at s3://cellxgene-census-public-us-west-2/cell-census/2023-12-15/soma/: 651 data sets"
    refused = Answer(3, err="release 2023-12-15 is at s3://elsewhere\nthe bucket\nthe Census has moved")
    for said, level, text in (
        (Answer(0, f"{read}\n"), "ok", read),
        (refused, "error", "s3://elsewhere"),
        (Answer(1, err="Traceback\nModuleNotFoundError: No module named 'x'"), "error", "No module named 'x'"),
        (Answer(None, err="python took more than 30 s"), "error", "more than 30 s"),
    ):
        world = World(python=said)
        (finding,) = check_census(case(world, [Job("census_list")]))
        assert finding.level == level and text in finding.found
        assert json.loads(world.asked[-1][-1])["version"] == "2023-12-15"
    assert finding.expected and finding.action
    assert not check_census(case(World(), [Job("fetch")])) and not check_census(
        case(World(), [Job("census_part")], offline=True)
    )


def test_the_probe_reads_a_census_and_says_what_is_wrong(case: Callable[..., Case], tmp_path: Path) -> None:
    """With the real packages, of a copy on the disk; its error is one of three parts."""
    pytest.importorskip("cellxgene_census", reason="pip install -c envs/constraints.txt -e '.[census]'")
    from census_store import simulated_datasets, write_census

    uri = str(write_census(tmp_path / "soma", simulated_datasets()))
    for version, level, text in (("2023-12-15", "ok", "4 data sets"), ("2024-07-01", "error", "is a copy of release")):
        here = case(
            World(python=run_program), [Job("census_part")], corpus={"census": {"uri": uri, "version": version}}
        )
        (finding,) = check_census(here)
        assert finding.level == level and text in finding.found, finding


def test_a_release_in_another_bucket_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    package = pytest.importorskip("cellxgene_census", reason="pip install -c envs/constraints.txt -e '.[census]'")
    for bucket, moved in ((census_access.BUCKET, False), ("cellxgene-data-public", True)):
        where = {"soma": {"uri": f"s3://{bucket}/cell-census/2023-12-15/soma/"}}
        monkeypatch.setattr(package, "get_census_version_description", lambda _, where=where: where)
        if moved:
            with pytest.raises(FetchError, match="cellxgene-data-public"):
                census_access.address(CensusConfig())
        else:
            assert census_access.address(CensusConfig()) == where["soma"]["uri"]
