"""Parts of a training by themselves: rates, scores of held-out donors, what a person watches, how it is started."""

from __future__ import annotations

import json
import logging
import math
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from toy_training import ARCH, CONFIG, N_GENES, largest_difference, log_of, toy_corpus, toy_graph
from toy_training import toy_vocabulary as vocabulary_of_toys

from sclong.config.load import load_architecture
from sclong.config.sections import PretrainConfig
from sclong.errors import ConfigError
from sclong.genes.go_graph import GoGraph
from sclong.io.files import read_json
from sclong.nn.dual_encoder import DualEncoder
from sclong.runlog import LOGGER
from sclong.train import __main__ as command_line
from sclong.train import evaluation, launch, low_rank
from sclong.train.dataset import PretrainingCells
from sclong.train.loop import pretrain
from sclong.train.monitor import Monitor, training_flops
from sclong.train.optim import clip_gradients, cycle_rate, make_optimizer, rate_of_step
from sclong.train.parallel import Replica, World
from sclong.train.position import SaveClock
from sclong.train.state import checkpoints
from sclong.train.step import Batch, training_step
from sclong.train.stop import StopNowError

HERE = World(0, 1, torch.device("cpu"))


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> tuple:
    return toy_corpus(tmp_path_factory.mktemp("corpus"))


def config_of(**change: object) -> PretrainConfig:
    return PretrainConfig(**{**CONFIG.model_dump(), **change})


# ---------------------------------------------------------------- learning rate and optimiser


def test_published_rates_by_epoch() -> None:
    """The sequence that the published schedule has at a peak of 5e-5, three cycles of 15, 25 and 45 epochs."""
    rates = [cycle_rate(epoch, 5e-5, 1e-6, 5, 15) for epoch in range(41)]
    assert rates[:7] == pytest.approx([1e-6, 1.08e-5, 2.06e-5, 3.04e-5, 4.02e-5, 5e-5, 4.88e-5], rel=1e-3)
    assert rates[14:17] == pytest.approx([2.2e-6, 1e-6, 9.8e-6], rel=1e-2)
    assert rates[20] == pytest.approx(4.5e-5) and rates[40] == pytest.approx(1e-6)


def test_authors_schedule_counts_epochs() -> None:
    config = config_of(schedule="authors", learning_rate=5e-5, batch_size=8)
    rates = [rate_of_step(step, config, training_cells=20) for step in range(1, 9)]
    assert rates == pytest.approx([1e-6] * 3 + [1.08e-5] * 2 + [2.06e-5] * 3), "steps 4 and 6 begin an epoch"


def test_restarts_count_steps() -> None:
    config = config_of(schedule="cosine_restarts", restart_steps=10, warmup_steps=2, restart_factor=1.5, steps=100)
    rates = [rate_of_step(step, config, 7) for step in range(1, 101)]
    peaks = [s + 1 for s in range(1, 99) if rates[s - 1] < rates[s] > rates[s + 1]]
    assert peaks == [2, 12, 26, 46, 75], "cycles of 10, 14, 20, 29 steps"
    assert rates[11] == pytest.approx(0.9 * rates[1])
    with pytest.raises(ValueError, match="restart_steps"):
        config_of(schedule="cosine_restarts")


def test_weight_decay_spares_biases_and_norms() -> None:
    vocabulary = vocabulary_of_toys()
    model = DualEncoder(ARCH, len(vocabulary), toy_graph(vocabulary))
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer = make_optimizer(model, "adamw", 0.1)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    for group in optimizer.param_groups:
        group["lr"] = 0.5
    optimizer.step()
    for name, parameter in model.named_parameters():
        assert torch.allclose(parameter, before[name] * (0.95 if parameter.ndim > 1 else 1.0)), name


def test_gradients_within_the_limit_are_left_alone() -> None:
    parameter = torch.nn.Parameter(torch.zeros(2))
    parameter.grad = torch.tensor([3.0, 4.0])
    assert clip_gradients([parameter], 6.0) == 5.0 and parameter.grad.tolist() == [3.0, 4.0]
    assert clip_gradients([parameter], 1.0) == 5.0 and float(parameter.grad.norm()) == pytest.approx(1.0, rel=1e-5)


# ---------------------------------------------------------------- checkpoints by the clock, stops between passes


def test_a_checkpoint_is_due_by_steps_by_minutes_and_at_the_end() -> None:
    now = [0.0]
    clock = SaveClock(config_of(steps=100, checkpoint_every=40, checkpoint_minutes=30), HERE, lambda: now[0])
    assert [step for step in range(1, 101) if clock.due(step)] == [40, 80, 100]
    now[0] = 1799
    assert not clock.due(3)
    now[0] = 1800
    assert clock.due(3)
    clock.saved()
    assert not clock.due(4)
    never = SaveClock(config_of(steps=100, checkpoint_every=40), HERE, lambda: now[0])
    now[0] = 1e9
    assert not never.due(3)


class AsksAt:
    """A request to stop that comes when it is asked for the n-th time."""

    def __init__(self, n: int) -> None:
        self.n, self.asked = n, 0

    def __bool__(self) -> bool:
        self.asked += 1
        return self.asked >= self.n


def test_a_stop_is_read_before_every_pass_and_leaves_the_weights_alone(tmp_path: Path) -> None:
    store, vocabulary, graph = toy_corpus(tmp_path)
    config = config_of(batch_size=16, micro_batch_size=4, validation_cells=12)
    cells = PretrainingCells(store, batch_size=16, held_out_fraction=0.2, validation_cells=12, seed=0)
    replica = Replica(DualEncoder(ARCH, len(vocabulary), GoGraph.read(graph)), HERE, "none")
    optimizer = make_optimizer(replica.model)
    before = {name: tensor.clone() for name, tensor in replica.model.state_dict().items()}
    rows = cells.order.cells(1)
    batch = Batch(rows, np.arange(16), cells.values(rows))
    for at in (1, 3, 4):
        stop = AsksAt(at)
        with pytest.raises(StopNowError):
            training_step(replica, optimizer, batch, config, 1, stop)
        assert stop.asked == at
        assert all(torch.equal(before[name], tensor) for name, tensor in replica.model.state_dict().items())
    assert math.isfinite(training_step(replica, optimizer, batch, config, 1, AsksAt(5)).loss)
    for at in (1, 3):
        with pytest.raises(StopNowError):
            evaluation.evaluate(replica, cells, config, AsksAt(at))
        with pytest.raises(StopNowError):
            evaluation.baselines(cells, config, HERE, tmp_path / "baselines.json", AsksAt(at))
    assert evaluation.evaluate(replica, cells, config, AsksAt(4))["held_out_loss"] is not None


def test_minutes_save_without_changing_what_is_trained(tmp_path: Path) -> None:
    corpus = toy_corpus(tmp_path)
    for name, minutes in (("steps", None), ("minutes", 1e-9)):
        config = config_of(steps=6, checkpoint_every=4, checkpoint_minutes=minutes, keep_checkpoints=9)
        pretrain(*corpus, ARCH, config, tmp_path / name, tmp_path / f"{name}_export")
    assert [p.name[-1] for p in checkpoints(tmp_path / "steps")] == ["4", "6"]
    assert [p.name[-1] for p in checkpoints(tmp_path / "minutes")] == list("123456")
    logs = [(tmp_path / name / "training.jsonl").read_text() for name in ("steps", "minutes")]
    assert logs[0] == logs[1]


# ---------------------------------------------------------------- held-out donors


def test_correlation_is_pearsons_mean_over_genes_with_enough_entries() -> None:
    random = np.random.default_rng(0)
    true, predicted = random.normal(size=(2, 30, 4)) + 2
    predicted[:, 2] = 1.0  # constant: counts as 0
    entries = random.random((30, 4)) < 0.6
    entries[4:, 3] = False  # at most four entries: left out
    moments = evaluation.Moments(4, torch.device("cpu"))
    for rows in (slice(0, 11), slice(11, 30)):
        moments.add(*(torch.from_numpy(x[rows]) for x in (predicted, true, entries)))
    found, genes = evaluation.mean_correlation(moments.sums_6N)
    expected = [np.corrcoef(predicted[entries[:, g], g], true[entries[:, g], g])[0, 1] for g in (0, 1)]
    assert genes == 3 and found == pytest.approx(sum(expected) / 3)
    assert evaluation.mean_correlation(torch.zeros(6, 4, dtype=torch.float64)) == (None, 0)


def with_tissues(corpus: tuple) -> PretrainingCells:
    store = corpus[0]
    cells = PretrainingCells(store, batch_size=16, held_out_fraction=0.2, validation_cells=15, seed=CONFIG.seed)
    # the two types of cells of the toy corpus: even or odd genes high
    counts = store.rows(np.arange(len(store))).toarray()
    store.obs["tissue"] = np.where(counts[:, ::2].sum(1) > counts[:, 1::2].sum(1), "even", "odd")
    return cells


def test_baselines_are_means_of_expressed_training_values(corpus: tuple, tmp_path: Path) -> None:
    cells, config = with_tissues(corpus), CONFIG
    found = evaluation.baselines(cells, config, HERE, tmp_path / "baselines.json")
    tissue = cells.store.obs["tissue"].to_numpy()
    training, held = cells.order.rows, cells.validation
    values = np.where((x := cells.values(training).double().numpy()) == 0, np.nan, x)[:, :N_GENES]
    gene = np.nanmean(values, axis=0)
    by_tissue = {t: np.nanmean(values[tissue[training] == t], axis=0) for t in ("even", "odd")}
    errors: dict[str, list[float]] = {"gene": [], "tissue": []}
    for rows, (_, labels, _, replaced) in evaluation.held_out_parts(cells, config, HERE):
        for row, label, hidden in zip(rows, labels.numpy(), replaced.numpy(), strict=True):
            for g in np.flatnonzero(hidden):
                errors["gene"].append((gene[g] - label[g]) ** 2)
                errors["tissue"].append((by_tissue[tissue[row]][g] - label[g]) ** 2)
    assert found["baseline_gene_mean"] == pytest.approx(np.mean(errors["gene"]), rel=1e-5)
    assert found["baseline_tissue_mean"] == pytest.approx(np.mean(errors["tissue"]), rel=1e-5)
    assert found["baseline_tissue_mean"] < found["baseline_gene_mean"]
    assert len(held) and read_json(tmp_path / "baselines.json") == found
    control, squares = low_rank.fit(cells, config), []
    for _, (masked, labels, _, replaced) in evaluation.held_out_parts(cells, config, HERE):
        squares += (control.predict(masked) - labels)[replaced].square().tolist()
    assert found["baseline_low_rank"] == pytest.approx(np.mean(squares), rel=1e-5)
    assert found["baseline_low_rank"] < found["baseline_gene_mean"]
    assert found["baseline_low_rank_components"] == control.rank


def test_tissue_or_gene_that_was_never_seen() -> None:
    sums = torch.zeros(2, 3, 3, dtype=torch.float64)  # places: all, a, b; genes: in both, in a alone, in none
    sums[:, 1] = torch.tensor([[4.0, 6.0, 0.0], [2.0, 2.0, 0.0]])
    sums[:, 2] = torch.tensor([[6.0, 0.0, 0.0], [1.0, 0.0, 0.0]])
    sums[:, 0] = sums[:, 1:].sum(1)
    table = evaluation.mean_tables(sums)
    assert table.tolist() == [[pytest.approx(10 / 3), 3.0, 3.2], [2.0, 3.0, 3.2], [6.0, 3.0, 3.2]]


def test_held_out_scores_are_in_the_log_and_in_the_card(corpus: tuple, tmp_path: Path) -> None:
    config = config_of(steps=4, validation_cells=20, mask_fraction=0.6)
    with_tissues(corpus)
    pretrain(*corpus, ARCH, config, tmp_path / "work", tmp_path / "export")
    last = log_of(tmp_path)[-1]
    assert last["held_out_genes"] > 10 and -1 <= last["held_out_gene_correlation"] <= 1
    card = read_json(tmp_path / "export/config.json")["card"]
    scores = {k: v for k, v in last.items() if k.startswith(("held_out_", "baseline_", "beats_"))}
    assert len(scores) >= 10 and {k: card[k] for k in scores} == scores and card["baseline_cells"] == 100
    assert card["beats_low_rank"] is False, "after four steps"
    readme = (tmp_path / "export/README.md").read_text()
    assert "does not beat a linear low-rank fit" in readme and f"{card['baseline_low_rank']:.3f}" in readme


def test_only_a_model_that_beats_the_low_rank_fit_goes_unmarked() -> None:
    line = {"held_out_loss_replaced": 0.2, "baseline_low_rank": 0.3, "baseline_low_rank_components": 5}
    assert evaluation.beats_low_rank(line) is True
    assert evaluation.beats_low_rank({**line, "held_out_loss_replaced": 0.3}) is False
    assert evaluation.beats_low_rank({**line, "held_out_loss_replaced": None}) is None


# ---------------------------------------------------------------- what a person watches


def test_monitor_writes_rates_at_intervals(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(LOGGER, "propagate", True)
    caplog.set_level(logging.INFO, "sclong")
    now = iter([0.0, 8.0, 10.0])
    config = config_of(log_every=4, steps=6, peak_tflops=1e-6, batch_size=16)
    monitor = Monitor(tmp_path, config, ARCH, 41, torch.device("cpu"), 2, 1, clock=lambda: next(now))
    for step in range(1, 7):
        monitor.step({"step": step, "loss": 2.0, "gradient_norm": 0.5, "lr": 1e-3})
    monitor.close()
    four, six = map(json.loads, (tmp_path / "monitor.jsonl").read_text().splitlines())
    assert (four["step"], four["cells_per_s"], four["tokens_per_s"], four["left_s"]) == (4, 8.0, 328.0, 4.0)
    assert (six["step"], six["cells_per_s"], six["left_s"]) == (6, 16.0, 0.0)
    assert four["mfu"] == pytest.approx(training_flops(ARCH, 41) * 8 / 2e6)
    lines = list(dict.fromkeys(r.getMessage() for r in caplog.records))  # more than one handler may be on the way
    assert len(lines) == 2 and lines[0].startswith("step 4/6: loss 2.0000, gradient norm 0.5, lr 1.00e-03, 8 cells/s")
    assert "MFU" in lines[0] and "left" in lines[0] and not any("\r" in line for line in lines)


def test_operations_of_the_published_model(root: Path) -> None:
    forward = training_flops(load_architecture("1b", root / "config"), 27_875) / 3
    assert forward == pytest.approx(9.1e12, rel=0.01)


def test_tensorboard_is_asked_for_only_when_configured(
    corpus: tuple, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = []

    class Writer:
        def __init__(self, folder: str) -> None:
            assert folder == str(tmp_path / "work/tensorboard")

        def add_scalar(self, name: str, value: float, step: int) -> None:
            written.append((name, step))

        def close(self) -> None:
            written.append(("closed", 0))

    config = config_of(steps=2, tensorboard=True)
    arguments = (*corpus, ARCH, config, tmp_path / "work", tmp_path / "export")
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ConfigError, match="tensorboard") as caught:
        pretrain(*arguments)
    assert "pip install tensorboard" in caught.value.action
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", types.SimpleNamespace(SummaryWriter=Writer))
    pretrain(*arguments)
    assert {("loss", 1), ("loss", 2), ("held_out_loss", 2), ("cells_per_s", 2), ("closed", 0)} <= set(written)


# ---------------------------------------------------------------- how it is started


def job_of(corpus: tuple, folder: Path, **change: object) -> dict:
    store, vocabulary, graph = corpus
    vocabulary.write(folder / "vocabulary.tsv")
    return {
        "shards": str(store.folder),
        "vocabulary": str(folder / "vocabulary.tsv"),
        "go_graph": str(graph),
        "gene2vec": None,
        "work_dir": str(folder / "work"),
        "export_dir": str(folder / "export"),
        "architecture": ARCH.model_dump(),
        "pretrain": {**CONFIG.model_dump(), "steps": 3, "batch_size": 8, **change},
    }


def test_command_on_one_node() -> None:
    config = config_of(processes=4, parallel="ddp")
    assert launch.command(config, Path("j.json"), "py") == [
        "py",
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node=4",
        "-m",
        "sclong.train",
        "--config",
        "j.json",
    ]
    assert launch.resources(config) == {"gpu": 0}
    assert launch.resources(config_of(processes=4, parallel="ddp", device="cuda")) == {"gpu": 4, "nodes": 1}
    assert launch.resources(config_of(device="cuda")) == {"gpu": 1}


def test_command_on_several_nodes() -> None:
    config = config_of(processes=4, nodes=2, parallel="fsdp", device="cuda", threads=3)
    *srun, script = launch.command(config, Path("a b/j.json"), "py")
    assert srun == [
        "srun",
        "--nodes=2",
        "--ntasks=2",
        "--ntasks-per-node=1",
        "--cpus-per-task=12",
        "--kill-on-bad-exit=1",
        "bash",
        "-c",
    ]
    assert script.startswith("trap '' USR1; head=$(scontrol show hostnames \"$SLURM_JOB_NODELIST\" | head -n 1); ")
    assert "exec py -m torch.distributed.run --nnodes=2 --nproc-per-node=4 --rdzv-backend=c10d" in script
    assert script.endswith("-m sclong.train --config 'a b/j.json'")
    assert launch.resources(config) == {
        "mpi": "srun",
        "nodes": 2,
        "tasks": 2,
        "slurm_extra": "--ntasks-per-node=1",
        "gres": "gpu:4",
        "tasks_per_gpu": 0,
    }


def test_rendezvous_is_at_the_first_host_of_the_job(tmp_path: Path) -> None:
    """The shell part of the command, run with programs that answer like SLURM's."""
    import os
    import subprocess

    for name, text in {
        "scontrol": 'case $2 in hostnames) printf "n7\\nn8\\n";; *) '
        'echo " NodeAddr=10.0.0.${3#n} NodeHostName=$3";; esac',
        "py": 'echo "$@"',
    }.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    *_, script = launch.command(config_of(processes=2, nodes=2, parallel="ddp"), Path("j.json"), "py")
    slurm = {"SLURM_JOB_NODELIST": "n[7-8]", "SLURM_JOB_ID": "40123", "SLURM_PROCID": "0"}
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", **slurm}
    for process, node, local in (
        ("0", "n7", " --local-addr=10.0.0.7"),
        ("1", "n8", " --local-addr=10.0.0.8"),
        ("1", "", ""),
    ):
        environment |= {"SLURM_PROCID": process, "SLURMD_NODENAME": node}
        done = subprocess.run(["bash", "-c", script], env=environment, capture_output=True, text=True, check=True)
        where = f"--rdzv-id=40123 --rdzv-endpoint=10.0.0.7:20123 --rdzv-conf=is_host={1 - int(process)}{local}"
        assert f"{where} -m sclong.train" in done.stdout


def test_one_process_is_not_launched(corpus: tuple, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "run", lambda *_: pytest.fail("a process was started"))
    launch.launch(job_of(corpus, tmp_path))
    assert log_of(tmp_path)[-1]["step"] == 3 and (tmp_path / "export/model.safetensors").is_file()


@pytest.mark.parametrize("change", [{"steps": "many"}, {"stepz": 3}])
def test_wrong_job_is_explained(corpus: tuple, tmp_path: Path, change: dict, capfd) -> None:
    path = tmp_path / "job.json"
    path.write_text(json.dumps(job_of(corpus, tmp_path, **change)))
    assert command_line.main(["--config", str(path)]) == 1
    assert "step" in capfd.readouterr().err
    path.write_text('{"shards": "x"}')
    assert command_line.main(["--config", str(path)]) == 1
    assert "missing or unknown keys: architecture, export_dir" in capfd.readouterr().err


@pytest.mark.slow
def test_launched_processes_train_as_one_does(corpus: tuple, tmp_path: Path, caplog, monkeypatch) -> None:
    monkeypatch.setattr(LOGGER, "propagate", True)
    caplog.set_level(logging.INFO, "sclong")
    launch.launch(job_of(corpus, tmp_path / "one"))
    launch.launch(job_of(corpus, tmp_path / "two", processes=2, parallel="fsdp", threads=1))
    assert largest_difference(log_of(tmp_path / "one"), log_of(tmp_path / "two")) < 1e-5
    assert any("2 process(es); begins" in r.getMessage() for r in caplog.records)
    bad = job_of(corpus, tmp_path / "two", processes=2, parallel="ddp", threads=1, seed=99)
    with pytest.raises(launch.TrainingFailedError):
        launch.launch(bad)
    assert any("another training" in r.getMessage() for r in caplog.records)
