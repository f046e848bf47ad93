from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from toy_training import ARCH, CONFIG, in_processes, largest_difference, log_of, toy_corpus, toy_graph, toy_vocabulary

from sclong.checkpoint.folder import initialise
from sclong.errors import CheckpointError, DeviceError, VocabularyMismatchError
from sclong.runlog import LOGGER
from sclong.train import identity, loop, state
from sclong.train.dataset import CellOrder
from sclong.train.loop import DivergenceError, pretrain
from sclong.train.optim import learning_rate
from sclong.train.state import checkpoints, damage


class Killed(Exception):
    """Stands for a job that ends at any moment."""


@pytest.fixture(autouse=True)
def deterministic() -> object:
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> tuple:
    return toy_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="module")
def uninterrupted(corpus: tuple, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("uninterrupted")
    run(corpus, folder)
    return folder


def run(corpus: tuple, folder: Path, config=CONFIG) -> None:
    pretrain(*corpus, ARCH, config, folder / "work", folder / "export")


def weights_of(checkpoint: Path) -> dict[str, torch.Tensor]:
    """The weights in a training checkpoint that one process wrote."""
    (file,) = checkpoint.glob("*.safetensors")
    return {k.removeprefix("model."): v for k, v in load_file(file).items() if k.startswith("model.")}


def kill_after(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Raise when the optimiser step after `step` is about to be made."""
    whole = loop.training_step

    def stops(replica, optimizer, batch, config, number, *more):
        if number > step:
            raise Killed
        return whole(replica, optimizer, batch, config, number, *more)

    monkeypatch.setattr(loop, "training_step", stops)


def assert_same_result(a: Path, b: Path) -> None:
    assert (a / "work/training.jsonl").read_bytes() == (b / "work/training.jsonl").read_bytes()
    one, other = load_file(a / "export/model.safetensors"), load_file(b / "export/model.safetensors")
    assert one.keys() == other.keys()
    assert all(torch.equal(one[k], other[k]) for k in one)


# ---------------------------------------------------------------- learning rate


@given(st.integers(1, 500), st.integers(0, 100), st.floats(1e-6, 1), st.floats(0, 1e-6))
def test_learning_rate_rises_to_its_peak_and_falls_to_its_minimum(
    steps: int, warmup: int, peak: float, low: float
) -> None:
    rates = [learning_rate(s, steps, peak, low, warmup) for s in range(1, steps + 1)]
    assert all(low - 1e-12 <= r <= peak + 1e-12 for r in rates)
    rise, fall = rates[: min(warmup, steps)], rates[warmup:]
    assert rise == sorted(rise) and fall == sorted(fall, reverse=True)
    if warmup and steps >= warmup:
        assert rates[warmup - 1] == pytest.approx(peak)
    if steps > warmup:
        assert rates[-1] == pytest.approx(low, abs=1e-12)


# ---------------------------------------------------------------- what a training leaves


def test_log_has_every_step_and_held_out_loss_where_asked(uninterrupted: Path) -> None:
    lines = log_of(uninterrupted)
    assert [line["step"] for line in lines] == list(range(13))
    assert [line["step"] for line in lines if "held_out_loss" in line] == [0, 4, 8, 12]
    assert all({"loss", "loss_replaced", "loss_kept", "lr", "cells"} <= line.keys() for line in lines[1:])
    assert lines[12]["cells"] == 12 * 16
    assert lines[12]["lr"] == pytest.approx(CONFIG.minimum_learning_rate)
    assert (uninterrupted / "export/training.jsonl").read_text() == (uninterrupted / "work/training.jsonl").read_text()
    assert [p.name for p in checkpoints(uninterrupted / "work")] == ["step_00000008", "step_00000012"]
    assert not list(uninterrupted.rglob("*.p[kt]*"))


def test_loss_is_the_mean_squared_error_over_chosen_entries(corpus: tuple, uninterrupted: Path) -> None:
    """The line of the step after a checkpoint, computed anew from that checkpoint by the formula."""
    from sclong.genes.go_graph import GoGraph
    from sclong.nn.dual_encoder import DualEncoder
    from sclong.train.dataset import PretrainingCells
    from sclong.train.masking import mask_values

    store, vocabulary, graph = corpus
    cells = PretrainingCells(store, batch_size=16, held_out_fraction=0.2, validation_cells=15, seed=CONFIG.seed)
    model = DualEncoder(ARCH, len(vocabulary), GoGraph.read(graph))
    model.load_state_dict(weights_of(uninterrupted / "work/step_00000008"))
    values = cells.values(cells.order.cells(9))
    masked, labels, chosen, replaced = mask_values(values, CONFIG.seed, 9, 0.15, 0.9)
    with torch.no_grad():
        error = (model(masked).reconstruction_BN - labels) ** 2
    line = log_of(uninterrupted)[9]
    assert line["loss"] == pytest.approx(float(error[chosen].mean()), rel=1e-5)
    assert line["loss_replaced"] == pytest.approx(float(error[replaced].mean()), rel=1e-5)
    assert line["loss_kept"] == pytest.approx(float(error[chosen & ~replaced].mean()), rel=1e-5)


def test_loss_falls_on_held_out_donors(corpus: tuple, tmp_path: Path) -> None:
    run(corpus, tmp_path, CONFIG.model_copy(update={"steps": 80, "validate_every": 80, "checkpoint_every": 80}))
    lines = log_of(tmp_path)
    assert lines[-1]["held_out_loss"] < 0.5 * lines[0]["held_out_loss"]
    assert lines[-1]["held_out_loss_replaced"] < 0.5 * lines[0]["held_out_loss_replaced"]


def test_passes_change_nothing_but_rounding(corpus: tuple, uninterrupted: Path, tmp_path: Path) -> None:
    run(corpus, tmp_path, CONFIG.model_copy(update={"micro_batch_size": 5}))
    assert 0 < largest_difference(log_of(uninterrupted), log_of(tmp_path)) < 1e-3


def test_random_features_are_drawn_anew_every_so_many_steps(
    corpus: tuple, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sclong.nn.dual_encoder import DualEncoder

    draws, steps, draw = [], [], DualEncoder.redraw_features
    step_of = loop.training_step
    monkeypatch.setattr(loop, "training_step", lambda *a: (steps.append(a[4]), step_of(*a))[1])

    def counted(self, generator):
        draws.append((len(steps) + 1, generator.initial_seed()))
        draw(self, generator)

    monkeypatch.setattr(DualEncoder, "redraw_features", counted)
    run(corpus, tmp_path)
    assert [step for step, _ in draws] == [6, 11]
    assert draws[0][1] != draws[1][1]
    run(corpus, tmp_path / "never", CONFIG.model_copy(update={"redraw_every": 0}))
    assert len(draws) == 2


def test_gradient_is_clipped(corpus: tuple) -> None:
    from sclong.genes.go_graph import GoGraph
    from sclong.nn.dual_encoder import DualEncoder
    from sclong.train.dataset import PretrainingCells
    from sclong.train.optim import make_optimizer
    from sclong.train.parallel import Replica, World

    store, vocabulary, graph = corpus
    model = DualEncoder(ARCH, len(vocabulary), GoGraph.read(graph))
    cells = PretrainingCells(store, batch_size=16, held_out_fraction=0.2, validation_cells=15, seed=0)
    config = CONFIG.model_copy(update={"gradient_clip": 1e-3})
    replica = Replica(model, World(0, 1, torch.device("cpu")), "none")
    rows = cells.order.cells(1)
    batch = loop.batch_of(1, rows, cells.values(rows), replica.world)
    loop.training_step(replica, make_optimizer(model), batch, config, 1)
    norm = torch.linalg.vector_norm(torch.stack([p.grad.norm() for p in model.parameters() if p.grad is not None]))
    assert float(norm) == pytest.approx(1e-3, rel=1e-3)


def test_no_steps_export_the_initial_model(corpus: tuple, tmp_path: Path) -> None:
    run(corpus, tmp_path, CONFIG.model_copy(update={"steps": 0}))
    assert [line["step"] for line in log_of(tmp_path)] == [0]
    initialise(tmp_path / "random", ARCH, corpus[1], corpus[2], CONFIG.seed)
    one, other = (load_file(tmp_path / f / "model.safetensors") for f in ("export", "random"))
    assert all(torch.equal(one[k], other[k]) for k in one)


def test_global_random_state_does_not_matter(corpus: tuple, uninterrupted: Path, tmp_path: Path) -> None:
    torch.manual_seed(12345)
    run(corpus, tmp_path)
    assert_same_result(uninterrupted, tmp_path)


# ---------------------------------------------------------------- killed and resumed


@pytest.mark.parametrize("step", [0, 2, 4, 7, 11, 12])
def test_killed_and_resumed_is_the_uninterrupted_run(
    corpus: tuple, uninterrupted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    with monkeypatch.context() as patch:
        if step == 12:  # killed while it exports
            patch.setattr(loop, "save_checkpoint", lambda *a, **k: (_ for _ in ()).throw(Killed))
        kill_after(patch, step)
        with pytest.raises(Killed):
            run(corpus, tmp_path)
    run(corpus, tmp_path)
    assert_same_result(uninterrupted, tmp_path)


def test_process_that_dies_while_it_saves_is_resumed(corpus: tuple, uninterrupted: Path, tmp_path: Path) -> None:
    def dies() -> None:
        write_json = state.write_json

        def last_words(path: Path, value: dict) -> None:
            if path.name == "state.json" and value["step"] == 8:
                with open(tmp_path / "work/training.jsonl", "a") as log:
                    log.write('{"step": 9, "lo')
                    log.flush()
                    os._exit(9)
            write_json(path, value)

        state.write_json = last_words
        run(corpus, tmp_path)

    assert in_processes(1, dies) == [9]
    assert list((tmp_path / "work").glob(".tmp-*")), "it died in the middle of a write"
    assert [p.name for p in checkpoints(tmp_path / "work")] == ["step_00000004"]
    run(corpus, tmp_path)
    assert_same_result(uninterrupted, tmp_path)
    assert not list((tmp_path / "work").glob(".tmp-*"))


def test_some_checkpoints_are_kept_for_good(corpus: tuple, tmp_path: Path) -> None:
    run(corpus, tmp_path, CONFIG.model_copy(update={"checkpoint_every": 1, "keep_every": 5}))
    kept = [p.name[-2:] for p in checkpoints(tmp_path / "work")]
    assert kept == ["05", "10", "11", "12"]


def test_checkpoint_of_another_order_of_cells_is_refused(
    corpus: tuple, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        kill_after(patch, 5)
        with pytest.raises(Killed):
            run(corpus, tmp_path)
    order = CellOrder.cells
    monkeypatch.setattr(CellOrder, "cells", lambda self, step: order(self, step)[::-1])
    with pytest.raises(CheckpointError, match="next_cells_sha256"):
        run(corpus, tmp_path)


@pytest.mark.parametrize("harm", ["truncate", "flip", "remove", "state"])
def test_damaged_checkpoint_is_passed_over(
    corpus: tuple,
    uninterrupted: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    harm: str,
) -> None:
    with monkeypatch.context() as patch:
        kill_after(patch, 10)
        with pytest.raises(Killed):
            run(corpus, tmp_path)
    newest = checkpoints(tmp_path / "work")[-1]
    (target,) = newest.glob("*.safetensors")
    data = bytearray(target.read_bytes())
    if harm == "truncate":
        target.write_bytes(data[:-20])
    elif harm == "flip":
        data[-5] ^= 1
        target.write_bytes(data)
    elif harm == "remove":
        target.unlink()
    else:
        (newest / "state.json").write_text('{"step": 8, "sha')
    assert damage(newest)
    monkeypatch.setattr(LOGGER, "propagate", True)
    run(corpus, tmp_path)
    assert any("step_00000008" in r.getMessage() and r.levelname == "WARNING" for r in caplog.records)
    assert_same_result(uninterrupted, tmp_path)


# ---------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"learning_rate": 1e-3}, "pretrain.learning_rate: 0.005 there, 0.001 now"),
        ({"seed": 4}, "pretrain.seed: 3 there, 4 now"),
    ],
)
def test_another_training_in_the_folder_is_refused(
    corpus: tuple, uninterrupted: Path, change: dict, named: str
) -> None:
    with pytest.raises(CheckpointError, match=named) as caught:
        run(corpus, uninterrupted, CONFIG.model_copy(update=change))
    assert "results_dir=" in caught.value.action and "mv " in caught.value.action


def test_a_training_does_not_go_on_with_other_code(
    corpus: tuple, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the old weights would be exported as if the new code had made them."""
    run(corpus, tmp_path)
    before = {p.relative_to(tmp_path): p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    monkeypatch.setattr(identity, "code_hash", lambda *entries: "0123456789abcdef")
    with pytest.raises(CheckpointError, match=r"code: [0-9a-f]{16} there, 0123456789abcdef now") as caught:
        run(corpus, tmp_path)
    assert "results_dir=" in caught.value.action and "it trains anew" in caught.value.action
    assert {p.relative_to(tmp_path): p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before
    (tmp_path / "work").rename(tmp_path / "work_kept")
    run(corpus, tmp_path)
    assert [line["step"] for line in log_of(tmp_path)] == list(range(CONFIG.steps + 1))


def test_another_graph_is_refused(corpus: tuple, uninterrupted: Path, tmp_path: Path) -> None:
    store, vocabulary, _ = corpus
    toy_graph(vocabulary, weight=0.25).write(tmp_path / "other.npz")
    with pytest.raises(CheckpointError, match="go_graph"):
        run((store, vocabulary, tmp_path / "other.npz"), uninterrupted)


def test_saving_more_often_is_the_same_training(corpus: tuple, uninterrupted: Path) -> None:
    before = log_of(uninterrupted)
    run(corpus, uninterrupted, CONFIG.model_copy(update={"checkpoint_every": 2}))
    assert log_of(uninterrupted) == before


def test_corpus_of_another_vocabulary_is_refused(corpus: tuple, tmp_path: Path) -> None:
    store, _, graph = corpus
    with pytest.raises(VocabularyMismatchError, match="the corpus"):
        run((store, toy_vocabulary(39), graph), tmp_path)


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is here")
def test_gpu_that_is_not_there_is_an_error(corpus: tuple, tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="cuda"):
        run(corpus, tmp_path, CONFIG.model_copy(update={"device": "cuda"}))


@pytest.mark.parametrize("value", ["nan", "1e7"])
def test_loss_that_is_no_number_or_explodes_names_the_step_and_keeps_cells_and_checkpoint(
    corpus: tuple, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    whole = loop.batch_of

    def breaks(step, *more):
        batch = whole(step, *more)
        if step >= 6:
            batch.values_BN[3, 5] = float(value)
        return batch

    monkeypatch.setattr(loop, "batch_of", breaks)
    with pytest.raises(DivergenceError, match="step 6"):
        run(corpus, tmp_path)
    kept = checkpoints(tmp_path / "work")
    (saved,) = (tmp_path / "work").glob("diverged_*.npz")
    batch = np.load(saved)
    assert batch["step"] == 6 and batch["values"][3, 5] == pytest.approx(float(value), nan_ok=True)
    store = corpus[0]
    counts = store.rows(batch["rows"]).toarray()
    assert ((counts > 0) == (batch["values"][:, :-1] > 0))[:3].all(), "the rows name the cells"
    assert [p.name for p in kept] == ["step_00000004"] and damage(kept[0]) is None
    assert log_of(tmp_path)[-1]["step"] == 5
