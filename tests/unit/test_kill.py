"""A training that is killed, wherever, and started again leaves the files of one that was not."""

from __future__ import annotations

import os
import random
import resource
import signal
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file
from toy_training import ARCH, CONFIG, in_processes, log_of, toy_corpus

from sclong.config.sections import PretrainConfig
from sclong.io.files import read_json
from sclong.train import loop
from sclong.train.state import checkpoints, damage
from sclong.train.stop import RETRY

BASE = {
    **CONFIG.model_dump(),
    "steps": 8,
    "batch_size": 6,
    "validate_every": 4,
    "validation_cells": 5,
    "checkpoint_every": 3,
    "redraw_every": 3,
}
WAYS = {
    "1": {},
    "2": {"parallel": "ddp", "processes": 2},
    "3": {"parallel": "ddp", "processes": 3},
    "fsdp 2": {"parallel": "fsdp", "processes": 2},
}
PACKAGE = str(Path(loop.__file__).parent.parent)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> tuple:
    return toy_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="module")
def uninterrupted(corpus: tuple, tmp_path_factory: pytest.TempPathFactory):
    """The folder of a whole run, by way."""
    made: dict[str, Path] = {}

    def of(way: str) -> Path:
        if way not in made:
            made[way] = tmp_path_factory.mktemp("whole")
            assert set(start(corpus, made[way], way)) == {0}
        return made[way]

    return of


def start(corpus: tuple, folder: Path, way: str, hit=None) -> list[int]:
    config = PretrainConfig(**{**BASE, **WAYS[way]})
    return in_processes(config.processes, member, corpus, config, folder, hit)


def member(corpus: tuple, config: PretrainConfig, folder: Path, hit) -> None:
    torch.use_deterministic_algorithms(True)
    if hit is not None:
        hit(folder / "calls")
    loop.pretrain(*corpus, ARCH, config, folder / "work", folder / "export")
    sys.setprofile(None)


def rank() -> int:
    return dist.get_rank() if dist.is_initialized() else 0


def kill_at(process: int, step: int, call: int) -> None:
    """Kill a process at its `call`-th call of a function of the package from the beginning of a step on."""
    whole, calls = loop.batch_of, 0

    def watch(frame, event, _) -> None:
        nonlocal calls
        calls += event == "call" and frame.f_code.co_filename.startswith(PACKAGE)
        if calls >= call:
            os.kill(os.getpid(), signal.SIGKILL)

    def begins(number, rows, values, world):
        if number >= step and world.rank == process:
            sys.setprofile(watch)
        return whole(number, rows, values, world)

    loop.batch_of = begins


def assert_same(folder: Path, whole: Path) -> None:
    assert (folder / "work/training.jsonl").read_text() == (whole / "work/training.jsonl").read_text()
    one, other = (load_file(f / "export/model.safetensors") for f in (folder, whole))
    assert one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)
    assert not [p.name for p in (folder / "work").iterdir() if p.name.startswith(".")], "nothing unfinished is left"


@pytest.mark.parametrize(
    "way", ["1", "2", pytest.param("3", marks=pytest.mark.slow), pytest.param("fsdp 2", marks=pytest.mark.slow)]
)
def test_killed_again_and_again(corpus: tuple, uninterrupted, tmp_path: Path, way: str) -> None:
    """kill -9 of a random process at random calls, and of what goes on after it."""
    chance = random.Random(f"kill {way}")
    for step in (2, 4, 5, 8):
        process, call = chance.randrange(PretrainConfig(**{**BASE, **WAYS[way]}).processes), chance.randrange(1, 250)
        codes = start(corpus, tmp_path, way, hit=lambda _, s=step, p=process, c=call: kill_at(p, s, c))
        assert -signal.SIGKILL in codes
    assert set(start(corpus, tmp_path, way)) == {0}
    assert_same(tmp_path, uninterrupted(way))


@pytest.mark.parametrize(("way", "moments"), [("1", 5), pytest.param("2", 3, marks=pytest.mark.slow)])
def test_killed_while_it_saves(corpus: tuple, uninterrupted, tmp_path: Path, way: str, moments: int) -> None:
    """kill -9 at moments spread over the second save, Python's and C's calls, old checkpoints' removal included."""
    whole = uninterrupted(way)

    def hit(kill_at: float, count: Path | None) -> None:
        save, saves, events = loop.save_state, 0, 0

        def watched(*arguments):
            nonlocal saves
            saves += 1
            if saves == 2 and rank() == 0:
                sys.setprofile(watch)
            save(*arguments)
            sys.setprofile(None)
            if saves == 2 and count is not None and rank() == 0:
                count.write_text(str(events))

        def watch(frame, event, _) -> None:
            nonlocal events
            events += 1
            if events >= kill_at:
                os.kill(os.getpid(), signal.SIGKILL)

        loop.save_state = watched

    assert set(start(corpus, tmp_path / "count", way, hit=lambda count: hit(float("inf"), count))) == {0}
    events = int((tmp_path / "count/calls").read_text())
    for moment in range(moments):
        folder = tmp_path / str(moment)
        at = events * (moment + 0.5) / moments
        assert -signal.SIGKILL in start(corpus, folder, way, hit=lambda _, at=at: hit(at, None))
        assert set(start(corpus, folder, way)) == {0}
        assert_same(folder, whole)


@pytest.mark.parametrize(("way", "number"), [("1", signal.SIGTERM), ("1", signal.SIGUSR1), ("2", signal.SIGUSR1)])
def test_asked_to_stop(corpus: tuple, uninterrupted, tmp_path: Path, way: str, number: int) -> None:
    """One process is asked; before the next pass all save the last whole step and leave with code "try again"."""
    last = PretrainConfig(**{**BASE, **WAYS[way]}).processes - 1

    def hit(name: str, step: int) -> None:
        whole = getattr(loop, name)

        def asks(*arguments):
            here = {"batch_of": arguments[0], "save_state": arguments[1]}.get(name, step)
            if rank() == last and here == step:
                os.kill(os.getpid(), number)
            return whole(*arguments)

        setattr(loop, name, asks)

    for name, step, stops_after, last_line in (
        ("batch_of", 2, 1, 1),
        ("evaluate", 4, 4, 3),
        ("evaluate", 4, 4, 3),
        ("save_state", 6, 6, 6),
    ):
        codes = start(corpus, tmp_path, way, hit=lambda _, n=name, s=step: hit(n, s))
        assert set(codes) == {RETRY}
        newest = checkpoints(tmp_path / "work")[-1]
        assert read_json(newest / "state.json")["step"] == stops_after and damage(newest) is None
        assert log_of(tmp_path)[-1]["step"] == last_line
    assert set(start(corpus, tmp_path, way)) == {0}
    assert_same(tmp_path, uninterrupted(way))


@pytest.mark.parametrize("way", ["1", "2"])
def test_full_disk_loses_nothing(corpus: tuple, uninterrupted, tmp_path: Path, way: str, capfd) -> None:
    """The last process cannot write all of the second checkpoint."""

    def hit(_: Path) -> None:
        save = loop.save_state

        def full(work_dir, step, *more):
            if step == 6 and rank() == int(way) - 1:
                resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, resource.RLIM_INFINITY))
            return save(work_dir, step, *more)

        loop.save_state = full

    assert set(start(corpus, tmp_path, way, hit=hit)) == {1}
    said = capfd.readouterr().err
    assert "the checkpoint of step 6 cannot be written" in said and "free space and start again" in said
    assert [(p.name, damage(p)) for p in checkpoints(tmp_path / "work")] == [("step_00000003", None)]
    assert not list((tmp_path / "work").glob(".tmp-*"))
    assert set(start(corpus, tmp_path, way)) == {0}
    assert_same(tmp_path, uninterrupted(way))


def test_checkpoint_says_where_the_training_stands(corpus: tuple, uninterrupted) -> None:
    whole = uninterrupted("2")
    state = read_json(whole / "work/step_00000006/state.json")
    assert (state["step"], state["cells"], state["redraws"], state["processes"], state["schedule"]) == (
        6,
        36,
        1,
        2,
        "cosine",
    )
    assert state["learning_rate"] == log_of(whole)[6]["lr"]
    tensors = {k for f in (whole / "work/step_00000006").glob("*.safetensors") for k in load_file(f)}
    assert {"rng.0.cpu", "rng.1.cpu"} <= tensors
    assert not [p.name for p in (whole / "work").rglob("*") if p.suffix in {".pt", ".pth", ".pkl", ".metadata"}]
