"""Pretraining: reconstruct hidden expression values, one optimiser step after the other, on one device.

Everything a step does follows from the seed and the step's number: which cells, which entries are hidden, when random
features are drawn anew. A training that is killed goes on from its last checkpoint and ends with the same weights.

Shapes: B cells, N positions (genes and PAD), D width of gene vectors.
"""

from __future__ import annotations

import math
import resource
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from sclong.checkpoint.folder import save_checkpoint
from sclong.checkpoint.start import start_gene_tables
from sclong.config_sections import Architecture, PretrainConfig
from sclong.data.dataset import PretrainingCells
from sclong.data.masking import mask_values
from sclong.data.vocabulary import Vocabulary, require_same_vocabulary
from sclong.errors import DeviceError, SclongError
from sclong.io.files import sha256_file
from sclong.io.shards import ShardStore
from sclong.knowledge.similarity import GoGraph
from sclong.nn.dual_encoder import DualEncoder
from sclong.runlog import LOGGER, Progress
from sclong.seeding import derive_seed
from sclong.train.optim import learning_rate, make_optimizer, set_learning_rate
from sclong.train.state import TrainingLog, claim_work_dir, restore_newest, save_state

NO_EFFECT = {"device", "threads", "checkpoint_every", "keep_checkpoints"}
"""Keys of the configuration that may change while a training goes on."""


class DivergenceError(SclongError):
    """The loss or its gradient is no longer a number."""


@dataclass
class ReconstructionError:
    """Sums of squared errors over chosen entries, apart for the hidden ones and for the ones left visible."""

    replaced: float = 0.0
    kept: float = 0.0
    n_replaced: int = 0
    n_kept: int = 0

    def add(self, error_BN: torch.Tensor, chosen_BN: torch.Tensor, replaced_BN: torch.Tensor) -> None:
        """Count the squared errors of some cells."""
        kept_BN = chosen_BN & ~replaced_BN
        self.replaced += float(error_BN[replaced_BN].sum(dtype=torch.float64))
        self.kept += float(error_BN[kept_BN].sum(dtype=torch.float64))
        self.n_replaced += int(replaced_BN.sum())
        self.n_kept += int(kept_BN.sum())

    def means(self) -> tuple[float | None, float | None, float | None]:
        """Return the mean over all chosen entries, over the hidden ones, over the visible ones (None: no entry)."""
        n = self.n_replaced + self.n_kept
        return (
            (self.replaced + self.kept) / n if n else None,
            self.replaced / self.n_replaced if self.n_replaced else None,
            self.kept / self.n_kept if self.n_kept else None,
        )


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
    run.

    Parameters
    ----------
    store, vocabulary, go_graph_path
        Corpus, genes, and GO similarity graph; all of one vocabulary.
    arch, config
        Shape of the model; budget, optimiser and schedule.
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
        `work_dir` holds another training.
    DeviceError
        CUDA was asked for and is not there.
    DivergenceError
        A loss or gradient that is not finite; the last checkpoint stays.
    """
    device = choose_device(config.device)
    graph = GoGraph.read(go_graph_path)
    require_same_vocabulary(store.vocabulary_hash, "the corpus", vocabulary.hash, "the vocabulary")
    require_same_vocabulary(
        graph.metadata.get("vocabulary_hash"), str(go_graph_path), vocabulary.hash, "the vocabulary"
    )
    work_dir = Path(work_dir)
    claim_work_dir(work_dir, training_identity(store, vocabulary, go_graph_path, arch, config, gene2vec))

    cells = PretrainingCells(
        store,
        batch_size=config.batch_size,
        held_out_fraction=config.held_out_fraction,
        validation_cells=config.validation_cells,
        seed=config.seed,
    )
    torch.manual_seed(derive_seed("weights", config.seed))
    model = DualEncoder(arch, len(vocabulary), graph).to(device)
    vectors_used = start_gene_tables(model, gene2vec, vocabulary, config.seed)
    optimizer = make_optimizer(model)
    first = restore_newest(work_dir, model, optimizer) + 1
    log = TrainingLog(work_dir / "training.jsonl", last_step=first - 1)
    LOGGER.info(
        "%s parameters; %d training cells, %d held-out cells of %d donors; %s",
        f"{sum(p.numel() for p in model.parameters()):,}", len(cells.order.rows), len(cells.validation),
        len(cells.donors), f"goes on at step {first}" if first > 1 else "begins",
    )  # fmt: skip
    cells_per_pass = config.micro_batch_size or config.batch_size
    try:
        if first == 1:
            log.write(step=0, cells=0, **evaluate(model, cells, config, cells_per_pass))
        train(model, optimizer, cells, config, cells_per_pass, work_dir, log, first)
    finally:
        log.close()
    save_checkpoint(
        export_dir,
        model,
        arch,
        vocabulary,
        go_graph_path,
        training_log=log.path,
        card={
            "trained": "masked reconstruction of expressed values",
            "training_cells": len(cells.order.rows),
            "held_out_donors": ", ".join(sorted(cells.donors)),
            "gene2vec": vectors_used,
            **config.model_dump(exclude=NO_EFFECT),
        },
    )


def train(
    model: DualEncoder,
    optimizer: torch.optim.Optimizer,
    cells: PretrainingCells,
    config: PretrainConfig,
    cells_per_pass: int,
    work_dir: Path,
    log: TrainingLog,
    first: int,
) -> None:
    """Do the optimiser steps from `first` to ``config.steps``; log, evaluate and save as the configuration says."""
    progress = Progress("pretraining", (config.steps - first + 1) * config.batch_size, "cells")
    for step in range(first, config.steps + 1):
        if config.redraw_every and step > 1 and (step - 1) % config.redraw_every == 0:
            model.redraw_features(torch.Generator().manual_seed(derive_seed("random features", config.seed, step)))
        rate = learning_rate(
            step, config.steps, config.learning_rate, config.minimum_learning_rate, config.warmup_steps
        )
        set_learning_rate(optimizer, rate)
        values_BN = cells.values(cells.order.cells(step))
        loss, loss_replaced, loss_kept = training_step(model, optimizer, values_BN, config, step, cells_per_pass)
        line: dict[str, Any] = {
            "step": step, "loss": loss, "loss_replaced": loss_replaced, "loss_kept": loss_kept, "lr": rate,
            "cells": step * config.batch_size,
        }  # fmt: skip
        if step % config.validate_every == 0 or step == config.steps:
            line |= evaluate(model, cells, config, cells_per_pass)
            LOGGER.info("step %d: loss on held-out donors %.4f", step, line["held_out_loss"])
        log.write(**line)
        if step % config.checkpoint_every == 0 or step == config.steps:
            log.sync()
            save_state(work_dir, step, model, optimizer, config.keep_checkpoints)
        progress.update(
            config.batch_size, f"step {step}, loss {loss:.4f}, lr {rate:.2e}, peak memory {peak_memory_gb():.2f} GB"
        )


def training_step(
    model: DualEncoder,
    optimizer: torch.optim.Optimizer,
    values_BN: torch.Tensor,
    config: PretrainConfig,
    step: int,
    cells_per_pass: int,
) -> tuple[float, float | None, float | None]:
    """Do one optimiser step; return the loss over all chosen entries, the hidden ones, the visible ones.

    The loss is the mean squared error over all chosen entries of the step's cells, pooled over cells.

    Raises
    ------
    DivergenceError
        Loss or gradient is not finite. The weights are then still those of the step before.
    """
    model.train()
    optimizer.zero_grad(set_to_none=True)
    masked = mask_values(values_BN, config.seed, step, config.mask_fraction, config.replace_fraction)
    n_chosen = max(int(masked[2].sum()), 1)
    errors = ReconstructionError()
    with model.go_conv.once():
        for parts in zip(*(t.split(cells_per_pass) for t in masked), strict=True):
            error_BN, chosen_BN, replaced_BN = squared_errors(model, *parts)
            (error_BN.sum() / n_chosen).backward()
            errors.add(error_BN.detach(), chosen_BN, replaced_BN)
    norm = float(torch.nn.utils.clip_grad_norm_(model.parameters(), config.gradient_clip))
    loss, loss_replaced, loss_kept = errors.means()
    if loss is None or not math.isfinite(loss) or not math.isfinite(norm):
        raise DivergenceError(
            f"step {step}: loss {loss}, norm of the gradient {norm}",
            "finite numbers",
            "lower pretrain.learning_rate or pretrain.gradient_clip and train in another folder; "
            "the last checkpoint before this step is kept",
        )
    optimizer.step()
    return loss, loss_replaced, loss_kept


def squared_errors(
    model: DualEncoder,
    masked_BN: torch.Tensor,
    labels_BN: torch.Tensor,
    chosen_BN: torch.Tensor,
    replaced_BN: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return squared errors (B, N), 0 where nothing was chosen, and the two masks, all on the model's device."""
    device = next(model.parameters()).device
    chosen_BN, replaced_BN = chosen_BN.to(device), replaced_BN.to(device)
    error_BN = (model(masked_BN.to(device)).reconstruction_BN - labels_BN.to(device)).square()
    return error_BN.masked_fill(~chosen_BN, 0.0), chosen_BN, replaced_BN


@torch.inference_mode()
def evaluate(
    model: DualEncoder, cells: PretrainingCells, config: PretrainConfig, cells_per_pass: int
) -> dict[str, float | None]:
    """Return the loss on held-out donors: always the same cells and the same mask, random features as they are.

    Returns
    -------
    dict
        ``held_out_loss`` over all chosen entries, ``held_out_loss_replaced`` over the hidden ones.
    """
    model.eval()
    errors = ReconstructionError()
    for number, start in enumerate(range(0, len(cells.validation), config.batch_size)):
        values_BN = cells.values(cells.validation[start : start + config.batch_size])
        seed = derive_seed("validation", config.seed)
        masked = mask_values(values_BN, seed, number, config.mask_fraction, config.replace_fraction)
        for parts in zip(*(t.split(cells_per_pass) for t in masked), strict=True):
            errors.add(*squared_errors(model, *parts))
    loss, loss_replaced, _ = errors.means()
    return {"held_out_loss": loss, "held_out_loss_replaced": loss_replaced}


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
        "architecture": arch.model_dump(),
        "pretrain": config.model_dump(exclude=NO_EFFECT),
        "vocabulary": vocabulary.hash,
        "go_graph": sha256_file(go_graph_path),
        "gene2vec": None if gene2vec is None else sha256_file(Path(gene2vec) / "gene_vectors.npz"),
        "corpus": sha256_file(store.folder / "shards.json"),
    }


def choose_device(name: str) -> torch.device:
    """Return a device that is there.

    Raises
    ------
    DeviceError
        When it is not.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise DeviceError(
            f"pretrain.device is cuda; torch {torch.__version__} sees no CUDA device",
            "a GPU with its driver, and a torch built for CUDA",
            "set pretrain.device: cpu, or run where a GPU is",
        )
    return torch.device(name)


def peak_memory_gb() -> float:
    """Return the most memory held so far: the GPU's where one is used, else the process's."""
    if torch.cuda.is_available() and torch.cuda.max_memory_allocated():
        return torch.cuda.max_memory_allocated() / 1e9
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9
