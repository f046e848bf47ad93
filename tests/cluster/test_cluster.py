"""What goes wrong on a cluster, and a slice of the workflow through it: equal to the local run, to the bit."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
from virtual_cluster import Run, Start, call, wait_for

TABLE = "results/deepcdr_metrics.tsv"
PROCESSES = "processes: 2, parallel: ddp, checkpoint_every: 20, steps: 120"
LOG = "results/logs/pretrain.log"
SLICE = ["--config", "models=[train_mean, sclong]", "corpus={exclude_benchmarks: []}"]


@pytest.fixture(scope="module")
def slices(start: Start) -> dict[str, Run]:
    """One benchmark with two models: on the cluster, with a training on two nodes, and here."""
    nodes = PROCESSES.replace("processes: 2", "nodes: 2, processes: 1")
    return {
        "cluster": start(
            TABLE,
            "--jobs",
            "4",
            *SLICE,
            f"pretrain={{{nodes}}}",
            "--set-resources",
            "pretrain:slurm_extra='--ntasks-per-node=1'",
            "embed:gpu=1",
            faults=False,
        ),
        "here": start("--cores", "1", TABLE, *SLICE, f"pretrain={{{PROCESSES}}}", profile=False, faults=False),
    }


def began_at(run: Run) -> str:
    """Return the step at which the newest attempt of the training went on; "" as long as it has not."""
    found = re.search(r"process\(es\); goes on at step (\d+)", "".join(run.read(LOG)))
    return found[1] if found else ""


@pytest.fixture(scope="module")
def held(slices: dict[str, Run]) -> Iterator[Future[list[str]]]:
    """Two jobs of the training: one held still at its first checkpoint until SLURM ends it, one asked to stop.

    And the step at which the second began.
    """
    run = slices["cluster"]

    def training() -> str:
        (job,) = (j for j in run.jobs() if "NumNodes=2" in call("scontrol", "show", "job", j))
        return job

    def hold() -> list[str]:
        wait_for(lambda: list(run.folder.glob("results/training/sclong/step_*")), "a checkpoint")
        first = training()
        call("scancel", "--signal=STOP", first)
        call("scontrol", "update", f"JobId={first}", "TimeLimit=1")
        wait_for(lambda: "JobState=TIMEOUT" in call("scontrol", "show", "job", first), "the time limit")
        step = wait_for(lambda: began_at(run), "the second attempt")
        second = training()
        call("scancel", "--signal=TERM", second)  # as --signal=TERM@600 of the profile
        wait_for(lambda: "the training was asked to stop" in "".join(run.read(LOG)), "its end")
        return [first, second, step]

    with ThreadPoolExecutor() as pool:
        yield pool.submit(hold)


@pytest.fixture(scope="module")
def runs(start: Start, held: Future[list[str]]) -> dict[str, Run]:
    """All calls at once, the long one first: they wait more than they work."""
    return {
        "memory": start("memory.txt"),
        "cancelled": start("cancelled.txt"),
        "drained": start("after.txt"),
        "impossible": start("impossible.txt"),
        "places": start("no_network_needed", "gpu.txt", "gpus.txt", "--set-resources", "download:slurm_partition=data"),
    }


def test_an_impossible_request_is_refused_at_once(runs: dict[str, Run]) -> None:
    said = runs["impossible"].fails()
    assert "SLURM sbatch failed. The error message was 'sbatch: error: " in said
    assert "Batch job submission failed" in said
    assert not runs["impossible"].jobs("PENDING,RUNNING"), "nothing waits in the queue for ever"
    assert runs["impossible"].took < 240


def test_a_job_that_is_cancelled_is_submitted_again(runs: dict[str, Run]) -> None:
    run = runs["cancelled"]
    first, *_ = wait_for(lambda: run.read("tried.txt"), "the job to run")
    call("scancel", first)
    run.wait()
    tried = run.read("tried.txt")
    assert tried[0] == first and len(set(tried)) == 2
    assert run.read("cancelled.txt") == ["done"]


def test_a_drained_node_ends_its_job_and_gets_no_more(runs: dict[str, Run]) -> None:
    run = runs["drained"]
    node, *_ = wait_for(lambda: run.read("node.txt"), "the job to run")
    call("scontrol", "update", f"nodename={node}", "state=drain", "reason=test")
    try:
        (run.folder / "drained").touch()
        run.wait()
    finally:
        call("scontrol", "update", f"nodename={node}", "state=resume")
    assert run.read("before.txt") == [node]
    assert run.read("after.txt")[0] in {"node1", "node2"} - {node}


def test_snakemake_is_killed_and_goes_on(start: Start) -> None:
    run = start("end.txt")
    wait_for(lambda: run.read("slow_jobs.txt"), "the job to run")
    run.process.send_signal(signal.SIGKILL)
    run.process.wait()
    assert run.jobs(), "the job does not need Snakemake"
    assert "--unlock" in start("end.txt", folder=run.folder).fails()
    wait_for(lambda: not run.jobs("RUNNING,COMPLETING"), "the job to end")
    start("--unlock", folder=run.folder).wait()
    start("end.txt", folder=run.folder).wait()
    assert run.read("end.txt") == ["whole"]


def test_a_job_killed_for_memory_gets_more(runs: dict[str, Run]) -> None:
    runs["memory"].wait()
    assert runs["memory"].read("asked.txt") == ["500", "1000"]
    assert runs["memory"].read("memory.txt") == ["1000"]


def test_jobs_go_where_their_network_and_their_gpus_are(runs: dict[str, Run]) -> None:
    run = runs["places"]
    run.wait()
    assert run.read("fetched.txt") == ["local"]
    assert run.read("downloaded.txt") == ["data node1"]
    assert run.read("gpu.txt")[0] in {"gpu 0", "gpu 1"}
    assert [line[:-2] for line in run.read("gpus.txt")] == ["gpu node1", "gpu node2"]


def test_where_accounts_are_kept_there_is_a_report_of_what_jobs_used(runs: dict[str, Run]) -> None:
    if "accounting_storage/slurmdbd" not in call("scontrol", "show", "config"):
        pytest.skip("no slurmdbd: ACCOUNTING=1 tests/cluster/slurm missing")
    run = runs["places"]
    run.wait()
    (report,) = (run.folder / ".snakemake/slurm_efficiency").glob("*.csv")
    assert len(report.read_text().splitlines()) > 1


def test_doctor_sees_the_cluster(runs: dict[str, Run], root: Path) -> None:
    said = subprocess.run(
        [sys.executable, "-m", "sclong.cli", "doctor", "--profile", "slurm"],
        cwd=runs["places"].folder,
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
    )
    lines = said.stdout.splitlines()

    def has(start: str) -> bool:
        return any(line.startswith(start) for line in lines)

    assert has("ok       SLURM: controller up; partitions cpu (2 nodes, 24 h, 2 GPUs), "), said
    assert has("warning  partition: cpu: the profile says max_runtime 72h, is 1440; "), said
    assert has("ok       limits: "), said
    assert not has("warning  limits of partitions:") and not has("warning  job states:"), said


def test_two_nodes_stopped_by_the_time_limit_and_on_request_train_as_one_machine(
    slices: dict[str, Run], held: Future[list[str]]
) -> None:
    run, here = slices["cluster"], slices["here"]
    *jobs, step = held.result()
    said = run.wait()
    here.wait()
    assert all(f"SLURM-job '{job}' failed" in said for job in jobs)
    assert said.count("Error in rule") == 2 and "Trying to restart job" in said
    assert "Auto-selected partition 'gpu' for job embed" in said
    assert int(began_at(run)) > int(step), "it saved when it was asked to stop"
    for name in ("training/sclong/training.jsonl", "checkpoints/sclong/model.safetensors", "deepcdr_metrics.tsv"):
        one, other = (r.folder / "results" / name for r in (run, here))
        assert one.read_bytes() == other.read_bytes(), name


@pytest.mark.skipif(os.environ.get("SCLONG_CLUSTER") != "all", reason="hours on two cores: SCLONG_CLUSTER=all")
def test_the_whole_demo_is_that_of_one_machine(start: Start) -> None:
    run = start("all", "--jobs", "8", faults=False)
    run.wait(6 * 3600)
    here = start(
        "all", "--cores", "2", "--config", "pretrain={processes: 2, parallel: ddp}", profile=False, faults=False
    )
    here.wait(6 * 3600)
    tables = [
        {path.relative_to(r.folder): path.read_bytes() for path in sorted((r.folder / "results").glob(pattern))}
        for pattern in ("*_metrics.tsv", "scores/**/*.tsv", "summary.tsv")
        for r in (run, here)
    ]
    for on_cluster, local in zip(tables[::2], tables[1::2], strict=True):
        assert on_cluster and on_cluster.keys() == local.keys()
        assert not [path for path in local if on_cluster[path] != local[path]]
