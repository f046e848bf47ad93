"""Several processes train as one does: same losses, same model, whatever shares the work."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from toy_training import ARCH, CONFIG, in_processes, largest_difference, log_of, toy_corpus

from sclong.config.sections import PretrainConfig
from sclong.errors import ConfigError
from sclong.train import loop
from sclong.train.loop import pretrain
from sclong.train.state import checkpoints

BASE = {
    **CONFIG.model_dump(),
    "steps": 20,
    "batch_size": 8,
    "learning_rate": 1e-3,
    "validate_every": 10,
    "validation_cells": 11,
    "checkpoint_every": 10,
}
BFLOAT16 = ARCH.model_copy(update={"precision": "bfloat16"})


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> tuple:
    return toy_corpus(tmp_path_factory.mktemp("corpus"))


def run(corpus: tuple, folder: Path, arch=ARCH, **change: object) -> Path:
    """Train with as many processes as the configuration says."""
    config = PretrainConfig(**{**BASE, **change})
    arguments = (*corpus, arch, config, folder / "work", folder / "export")
    assert in_processes(config.processes, pretrain, *arguments) == [0] * config.processes
    return folder


@pytest.fixture(scope="module")
def one(corpus: tuple, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """20 steps on one process with batches of 8."""
    return run(corpus, tmp_path_factory.mktemp("one"))


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"micro_batch_size": 4}, id="2 passes of 4"),
        pytest.param({"parallel": "ddp", "processes": 2}, id="ddp 2 x 4"),
        pytest.param({"parallel": "ddp", "processes": 2, "micro_batch_size": 3}, id="ddp 2 x (3 + 1)"),
        pytest.param({"parallel": "fsdp", "processes": 2}, id="fsdp 2 x 4"),
        pytest.param({"parallel": "fsdp", "processes": 2, "micro_batch_size": 2}, id="fsdp 2 x 2 x 2"),
        pytest.param({"parallel": "fsdp"}, id="fsdp 1 x 8"),
        pytest.param({"parallel": "ddp", "processes": 2, "workers": 1}, id="ddp 2 x 4 read ahead"),
    ],
)
def test_losses_are_those_of_one_process(corpus: tuple, one: Path, tmp_path: Path, change: dict) -> None:
    run(corpus, tmp_path, **change)
    assert largest_difference(log_of(one), log_of(tmp_path)) < 1e-5
    a, b = load_file(one / "export/model.safetensors"), load_file(tmp_path / "export/model.safetensors")
    assert a.keys() == b.keys()
    assert max(float((a[k] - b[k]).abs().max()) for k in a) < 1e-4


def test_zeros_are_masked_alike(corpus: tuple, tmp_path: Path) -> None:
    change = {"mask_zero_fraction": 0.3, "steps": 3}
    run(corpus, tmp_path / "one", **change)
    run(corpus, tmp_path / "two", **change, parallel="ddp", processes=2)
    lines = log_of(tmp_path / "one")
    assert largest_difference(lines, log_of(tmp_path / "two")) < 1e-5
    assert all(line["loss_zeros"] > 0 for line in lines[1:]) and lines[0]["held_out_loss_zeros"] > 0


@pytest.mark.slow
def test_fsdp_gathers_layers_in_bfloat16_and_keeps_float32_masters(corpus: tuple, tmp_path: Path) -> None:
    run(corpus, tmp_path / "one", BFLOAT16)
    run(corpus, tmp_path / "two", BFLOAT16, parallel="fsdp", processes=2)
    difference = largest_difference(
        *[[{k: line[k] for k in ("loss", "lr")} for line in log_of(tmp_path / f)[1:]] for f in ("one", "two")]
    )
    assert 0 < difference < 0.02
    files = list(checkpoints(tmp_path / "two" / "work")[-1].glob("*.safetensors"))
    assert len(files) == 2, "each process writes its shards"
    tensors = [t for file in files for k, t in load_file(file).items() if not k.startswith("rng")]
    assert {t.dtype for t in tensors} == {torch.float32, torch.int64}


def test_large_encoder_that_reads_all_leaves_parameters_without_gradient(corpus: tuple, tmp_path: Path) -> None:
    arch = ARCH.model_copy(update={"top_genes": 41})
    run(corpus, tmp_path / "one", arch, steps=3)
    run(corpus, tmp_path / "two", arch, steps=3, parallel="ddp", processes=2)
    assert largest_difference(log_of(tmp_path / "one"), log_of(tmp_path / "two")) < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_processes_talk_in_the_last_pass_alone(corpus: tuple, tmp_path: Path, parallel: str) -> None:
    """As many collective operations on gradients with four passes as with one; each pass asks whether to stop."""

    def count(config: PretrainConfig, folder: Path) -> None:
        step_of, counts = loop.training_step, []

        def counted(*arguments):
            with torch.profiler.profile() as watched:
                result = step_of(*arguments)
            names = ("c10d::allreduce_", "c10d::_reduce_scatter_base_")
            counts.append({e.key: e.count for e in watched.key_averages() if e.key in names})
            return result

        loop.training_step = counted
        pretrain(*corpus, ARCH, config, folder / "work", folder / "export")
        (folder / f"counts_{torch.distributed.get_rank()}.json").write_text(json.dumps(counts))

    found = []
    for cells in (4, 1):
        config = PretrainConfig(**{**BASE, "steps": 2, "parallel": parallel, "processes": 2, "micro_batch_size": cells})
        assert in_processes(2, count, config, tmp_path / str(cells)) == [0, 0]
        found.append(json.loads((tmp_path / str(cells) / "counts_0.json").read_text()))
    passes = 4
    for one, many in zip(*found, strict=True):
        assert many == one | {"c10d::allreduce_": one["c10d::allreduce_"] + passes - 1}
    assert all(("c10d::_reduce_scatter_base_" in step) == (parallel == "fsdp") for step in found[0])


CROSSINGS = {
    "one to ddp": ({}, {"parallel": "ddp", "processes": 2}),
    "ddp to one": ({"parallel": "ddp", "processes": 2}, {}),
    "fsdp to one": ({"parallel": "fsdp", "processes": 2}, {"micro_batch_size": 4}),
    "ddp to fsdp of 4": ({"parallel": "ddp", "processes": 2}, {"parallel": "fsdp", "processes": 4}),
    "fsdp of 4 to 2": ({"parallel": "fsdp", "processes": 4}, {"parallel": "fsdp", "processes": 2}),
}


@pytest.mark.parametrize(
    "crossing", [pytest.param(name, marks=[pytest.mark.slow] if "4" in name else []) for name in CROSSINGS]
)
def test_goes_on_with_other_processes(corpus: tuple, one: Path, tmp_path: Path, crossing: str) -> None:
    """Cut off after step 10 as a kill would; then the rest on others."""
    before, after = CROSSINGS[crossing]
    run(corpus, tmp_path, **before, keep_checkpoints=5)
    newest = checkpoints(tmp_path / "work")[-1]
    assert newest.name == "step_00000020"
    os.rename(newest, newest.with_name("gone"))
    run(corpus, tmp_path, **after)
    assert largest_difference(log_of(one), log_of(tmp_path)) < 1e-5


def test_number_of_processes_must_be_the_configured_one(corpus: tuple, tmp_path: Path) -> None:
    config = PretrainConfig(**{**BASE, "parallel": "ddp", "processes": 2})
    with pytest.raises(ConfigError, match=r"1 process\(es\) are running"):
        pretrain(*corpus, ARCH, config, tmp_path / "work", tmp_path / "export")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"processes": 3, "parallel": "ddp"}, "cannot be shared equally by 3"),
        ({"processes": 2}, "parallel: ddp or fsdp"),
    ],
)
def test_processes_that_do_not_fit_are_refused(change: dict, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        PretrainConfig(**{**BASE, **change})
