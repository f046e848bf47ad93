"""What goes wrong on a cluster, and a slice of the workflow through it: equal to the local run, to the bit."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest
from virtual_cluster import Run, Start, call, wait_for

TABLE = "results/deepcdr_metrics.tsv"
PROCESSES = "processes: 2, parallel: ddp, checkpoint_every: 20, steps: 60"
SLICE = ["--config", "models=[train_mean, sclong]", "corpus={exclude_benchmarks: []}"]


@pytest.fixture(scope="module")
def slices(start: Start) -> dict[str, Run]:
    """One benchmark with two models: on the cluster, with a training on two nodes, and here."""
    nodes = PROCESSES.replace("processes: 2", "nodes: 2, processes: 1")
    return {
        "cluster": start(
            TABLE, "--jobs", "4", *SLICE, f"pretrain={{{nodes}}}",
            "--set-resources", "pretrain:slurm_extra='--ntasks-per-node=1'", "embed:gpu=1",
            faults=False,
        ),
        "here": start("--cores", "1", TABLE, *SLICE, f"pretrain={{{PROCESSES}}}", profile=False, faults=False),
    }  # fmt: skip


@pytest.fixture(scope="module")
def held(slices: dict[str, Run]) -> Iterator[Future[str]]:
    """The first job of the training, which is held still at its first checkpoint until SLURM ends it."""
    run = slices["cluster"]

    def hold() -> str:
        wait_for(lambda: list(run.folder.glob("results/training/sclong/step_*")), "a checkpoint")
        (job,) = (j for j in run.jobs() if "NumNodes=2" in call("scontrol", "show", "job", j))
        call("scancel", "--signal=STOP", job)
        call("scontrol", "update", f"JobId={job}", "TimeLimit=1")
        wait_for(lambda: "JobState=TIMEOUT" in call("scontrol", "show", "job", job), "the time limit")
        return job

    with ThreadPoolExecutor() as pool:
        yield pool.submit(hold)


@pytest.fixture(scope="module")
def runs(start: Start, held: Future[str]) -> dict[str, Run]:
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


def test_two_nodes_stopped_by_the_time_limit_train_as_one_machine(slices: dict[str, Run], held: Future[str]) -> None:
    run, here = slices["cluster"], slices["here"]
    job = held.result()
    said = run.wait()
    here.wait()
    assert f"SLURM-job '{job}' failed" in said
    assert said.count("Error in rule") == 1 and "Trying to restart job" in said
    assert "goes on at step" in (run.folder / "results/logs/pretrain.log").read_text()
    for name in ("training/sclong/training.jsonl", "checkpoints/sclong/model.safetensors", "deepcdr_metrics.tsv"):
        one, other = (r.folder / "results" / name for r in (run, here))
        assert one.read_bytes() == other.read_bytes(), name
