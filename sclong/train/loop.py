"""Pretraining: reconstruct hidden expression values, one optimiser step after the other, on any number of processes.

Everything a step does follows from the seed and the step's number: which cells, which entries are hidden, when random
features are drawn anew. A training that is killed goes on from its last checkpoint and ends with the same weights.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sclong.checkpoint.folder import save_checkpoint
from sclong.checkpoint.start import start_gene_tables
from sclong.config.sections import NO_EFFECT, Architecture, PretrainConfig
from sclong.corpus.shards import ShardStore
from sclong.genes.go_graph import GoGraph
from sclong.genes.vocabulary import Vocabulary, require_same_vocabulary
from sclong.io.files import sha256_file
from sclong.nn.dual_encoder import DualEncoder
from sclong.runlog import LOGGER
from sclong.seeding import derive_seed
from sclong.train.dataset import PretrainingCells
from sclong.train.evaluation import BASELINE_CELLS, baselines, beats_low_rank, evaluate
from sclong.train.identity import claim_work_dir, planned_identity
from sclong.train.journal import Journal
from sclong.train.loader import CellLoader
from sclong.train.optim import make_optimizer, rate_of_step, set_learning_rate
from sclong.train.parallel import Replica, World, allow_tf32, choose_device, joined
from sclong.train.position import SaveClock, Training, checked_step, position, save_batch
from sclong.train.state import folder_name, restore_newest, save_state
from sclong.train.step import Batch, DivergenceError, StepResult, training_step
from sclong.train.stop import StopNowError, StopRequest, TrainingStoppedError

__all__ = ["DivergenceError", "TrainingStoppedError", "choose_device", "pretrain"]

SCORES = ("held_out_", "baseline_", "beats_")
"""How the keys of an evaluation begin."""


def pretrain(
    store: ShardStore,
    vocabulary: Vocabulary,
    go_graph_path: str | Path,
    arch: Architecture,
    config: PretrainConfig,
    work_dir: str | Path,
    export_dir: str | Path,
    gene2vec: str | Path | None = None,
) -> None:
    """Pretrain a model and write its checkpoint folder.

    Writes ``training.jsonl`` and checkpoints into `work_dir`; called again after having been killed, it goes on
    from the newest whole checkpoint. On the CPU the weights and the log are then bit for bit those of an uninterrupted
    run on as many processes. With several processes (``torchrun``) each calls this with the same arguments.

    Parameters
    ----------
    store, vocabulary, go_graph_path
        Corpus, genes, and GO similarity graph; all of one vocabulary.
    arch, config
        Shape of the model; budget, optimiser, schedule and processes.
    work_dir
        Folder of this training.
    export_dir
        Checkpoint folder to write at the end.
    gene2vec
        Folder that rule gene2vec wrote: what the gene tables start from. None: random numbers.

    Raises
    ------
    VocabularyMismatchError
        Corpus, vocabulary and graph do not belong together.
    CheckpointError
        `work_dir` holds another training, or a checkpoint cannot be written.
    ConfigError
        Other processes are running than the configuration says; a package is missing.
    DeviceError
        CUDA was asked for and is not there.
    DivergenceError
        A loss or gradient that is not finite, or a loss that has exploded; the last checkpoint stays, and the cells
        that did it are saved.
    TrainingStoppedError
        SIGTERM or SIGUSR1 came; a checkpoint of the last whole step was written.
    """
    with joined(config) as world, StopRequest() as stop:
        allow_tf32(config.tf32)
        graph = GoGraph.read(go_graph_path)
        require_same_vocabulary(store.vocabulary_hash, "the corpus", vocabulary.hash, "the vocabulary")
        require_same_vocabulary(
            graph.metadata.get("vocabulary_hash"), str(go_graph_path), vocabulary.hash, "the vocabulary"
        )
        work_dir = Path(work_dir)
        identity = training_identity(store, vocabulary, go_graph_path, arch, config, gene2vec)
        world.by_first(lambda: claim_work_dir(work_dir, identity))
        cells = PretrainingCells(
            store,
            batch_size=config.batch_size,
            held_out_fraction=config.held_out_fraction,
            validation_cells=config.validation_cells,
            seed=config.seed,
            held_out_by=config.held_out_by,
            normalization=config.normalization,
        )
        torch.manual_seed(derive_seed("weights", config.seed))
        model = DualEncoder(arch, len(vocabulary), graph).to(world.device)
        vectors_used = start_gene_tables(model, gene2vec, vocabulary, config.seed)
        torch.manual_seed(derive_seed("process", config.seed, world.rank))
        replica = Replica(model, world, config.parallel)
        optimizer = make_optimizer(model, config.optimizer, config.weight_decay)
        training = Training(replica, optimizer, cells, config, work_dir, stop)
        last_line = run(training, arch)
        card = {
            "trained": "masked reconstruction of expressed values",
            "training_cells": len(cells.order.rows),
            "held_out_donors": ", ".join(sorted(cells.donors)),
            "gene2vec": vectors_used,
            "baseline_cells": min(BASELINE_CELLS, len(cells.order.rows)),
            **{key: value for key, value in last_line.items() if key.startswith(SCORES)},
            **config.model_dump(exclude=NO_EFFECT),
        }
        weights = replica.whole_state()

        def export() -> None:
            with torch.device("meta"):
                whole = DualEncoder(arch, len(vocabulary), graph)
            whole.load_state_dict(weights, assign=True)
            log = work_dir / "training.jsonl"
            save_checkpoint(
                export_dir,
                whole,
                arch,
                vocabulary,
                go_graph_path,
                training_log=log,
                card=card,
                normalization=config.normalization,
            )

        world.by_first(export)


def run(training: Training, arch: Architecture) -> dict[str, Any]:
    """Find where the training stands and do what is left of it.

    Returns
    -------
    dict
        The last line of its log (on the first process).
    """
    world, config, cells, work_dir = training.world, training.config, training.cells, training.work_dir
    state = restore_newest(work_dir, training.replica.model, training.optimizer, world)
    done = checked_step(state, training) if state else 0
    pending = dict(state["pending"]) if state and "pending" in state else None  # pairs: their order is the line's
    first = 0 if state is None else done + (pending is None)
    journal = Journal(work_dir, config, arch, cells.store.n_genes + 1, world, first)
    LOGGER.info(
        "%s parameters; %d training cells, %d held-out cells of %d donors; %d process(es); %s",
        f"{sum(p.numel() for p in training.replica.model.parameters()):,}",
        len(cells.order.rows),
        len(cells.validation),
        len(cells.donors),
        world.size,
        f"goes on at step {first}" if first else "begins",
    )
    with closing(journal):
        train(training, journal, done, pending)
        return journal.last


def train(training: Training, journal: Journal, done: int, pending: Mapping[str, Any] | None) -> None:
    """Do the optimiser steps after `done`; log, evaluate and save as the configuration says.

    Parameters
    ----------
    training, journal
        What is trained, and where it is written down.
    done
        The last step that is done.
    pending
        Its line, where it must be evaluated still: the training was asked to stop meanwhile.

    Raises
    ------
    TrainingStoppedError
        A process was asked to stop.
    """
    config, model = training.config, training.replica.model
    clock = SaveClock(config, training.world)
    try:
        known = baselines(training.cells, config, training.world, training.work_dir / "baselines.json", training.stop)
        if pending is not None:
            journal.write(**pending, **scores(training, known))
            pending = None
        elif done == 0:
            journal.write(step=0, cells=0, **scores(training, known))
        limit = config.explosion_factor * (training.world.by_first(lambda: journal.start_loss) or math.inf)
        for step, rows, values_BN in loader_after(done, training):
            if config.redraw_every and step > 1 and (step - 1) % config.redraw_every == 0:
                model.redraw_features(torch.Generator().manual_seed(derive_seed("random features", config.seed, step)))
            line = step_line(training, step, rows, values_BN, limit)
            done, pending = step, line
            if step % config.validate_every == 0 or step == config.steps:
                line = {**line, **scores(training, known)}
                LOGGER.info("%s", describe_evaluation(line))
            journal.write(**line)
            pending = None
            if clock.due(step):
                save(training, journal, step)
                clock.saved()
    except StopNowError:
        if done and not (training.work_dir / folder_name(done)).exists():
            save(training, journal, done, pending)
        raise TrainingStoppedError(
            f"after step {done} of {config.steps}: {training.stop.reason or 'another process was asked to stop'}",
            "the training to go on to its last step",
            f"start it again: it goes on {'with the evaluation of' if pending else 'after'} step {done}",
        ) from None


def loader_after(done: int, training: Training) -> CellLoader:
    """Return the cells of this process for the steps after `done`."""
    world, config = training.world, training.config
    return CellLoader(
        training.cells,
        done + 1,
        config.steps,
        rank=world.rank,
        world_size=world.size,
        workers=config.workers,
        pin_memory=world.device.type == "cuda",
    )


def step_line(training: Training, step: int, rows: np.ndarray, values_BN: torch.Tensor, limit: float) -> dict[str, Any]:
    """Do an optimiser step and return its line of the log; `limit`: the loss may not be greater.

    Raises
    ------
    DivergenceError
        The cells of the step are saved.
    StopNowError
        The weights are those of the step before.
    """
    config, world = training.config, training.world
    rate = rate_of_step(step, config, len(training.cells.order.rows))
    set_learning_rate(training.optimizer, rate)
    batch = batch_of(step, rows, values_BN, world)
    try:
        result = training_step(training.replica, training.optimizer, batch, config, step, training.stop, limit)
    except DivergenceError:
        save_batch(training.work_dir, step, batch, world)
        raise
    return line_of(step, result, rate, config)


def save(training: Training, journal: Journal, step: int, pending: Mapping[str, Any] | None = None) -> None:
    """Write the checkpoint of a step; `pending`: its line of the log, where it must be evaluated still."""
    training.world.by_first(journal.sync)
    facts = position(training, step) | ({} if pending is None else {"pending": list(pending.items())})
    save_state(
        training.work_dir,
        step,
        training.replica.model,
        training.optimizer,
        training.world,
        facts,
        training.config.keep_checkpoints,
        training.config.keep_every,
    )


def scores(training: Training, known: Mapping[str, float | None]) -> dict[str, Any]:
    """Return the scores of the model and of the controls on held-out donors, and whether the model is the better."""
    line = {**evaluate(training.replica, training.cells, training.config, training.stop), **known}
    return {**line, "beats_low_rank": beats_low_rank(line)}


def batch_of(step: int, rows: np.ndarray, values_BN: torch.Tensor, world: World) -> Batch:
    """Return this process's cells of step `step` as a batch that knows their places in the whole one."""
    places = np.arange(len(rows) * world.size)[world.share(len(rows) * world.size)]
    return Batch(rows, places, values_BN)


def line_of(step: int, result: StepResult, rate: float, config: PretrainConfig) -> dict[str, Any]:
    """Return a step's line of the log."""
    return {
        "step": step,
        "loss": result.loss,
        "loss_replaced": result.loss_replaced,
        "loss_kept": result.loss_kept,
        **({"loss_zeros": result.loss_zeros} if config.mask_zero_fraction else {}),
        "gradient_norm": result.gradient_norm,
        "lr": rate,
        "cells": step * config.batch_size,
    }


def describe_evaluation(line: Mapping[str, Any]) -> str:
    """Return an evaluation as a line for people."""
    names = {
        "loss": "held_out_loss",
        "hidden": "held_out_loss_replaced",
        "gene mean": "baseline_gene_mean",
        "tissue mean": "baseline_tissue_mean",
        "low rank": "baseline_low_rank",
        "nearest cells": "baseline_nearest_cells",
        "correlation": "held_out_gene_correlation",
    }
    values = ", ".join(f"{name} {line[key]:.4f}" for name, key in names.items() if line[key] is not None)
    return f"step {line['step']}: held-out donors: {values}"


def training_identity(
    store: ShardStore,
    vocabulary: Vocabulary,
    go_graph_path: str | Path,
    arch: Architecture,
    config: PretrainConfig,
    gene2vec: str | Path | None = None,
) -> Mapping[str, Any]:
    """Return what fixes the result of a training."""
    return {
        **planned_identity(arch, config),
        "vocabulary": vocabulary.hash,
        "go_graph": sha256_file(go_graph_path),
        "gene2vec": None if gene2vec is None else sha256_file(Path(gene2vec) / "gene_vectors.npz"),
        "corpus": sha256_file(store.folder / "shards.json"),
    }
