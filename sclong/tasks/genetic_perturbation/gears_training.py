"""Training of :class:`.GearsNetwork` on single cells, and its answers.

Shape suffixes: C control cells, G measured genes, N nodes of the GO graph, D width of given gene vectors, K training
conditions, V validation conditions, S training cells, B cells of a batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from pydantic import Field
from scipy import sparse
from torch import Tensor

from sclong.benchmark.resume import Continuation
from sclong.benchmark.selection import BestEpoch
from sclong.config.cards import Strict
from sclong.errors import DeviceError, InputDataError
from sclong.runlog import LOGGER
from sclong.seeding import derive_seed, rng
from sclong.tasks.genetic_perturbation.gears_network import Direction, GearsNetwork, Graph, gears_loss

ANSWER_ROWS = 2**16
"""Rows (cells x genes) that go through the network at once where it answers."""


class GearsOptions(Strict):
    """How a network is built and trained; defaults are the published settings, but for what the text says."""

    hidden: int = Field(default=200, ge=2, description="H; the released command uses 1024")
    epochs: int = Field(default=20, ge=1)
    batch_size: int = Field(default=16, ge=2, description="cells")
    accumulation: int = Field(default=8, ge=1, description="batches per step of the optimiser")
    learning_rate: float = Field(default=1e-3, gt=0)
    weight_decay: float = Field(default=5e-4, ge=0, description="L2, added to the gradient")
    decay: float = Field(default=0.5, gt=0, le=1, description="factor of the learning rate after each epoch")
    clip: float = Field(default=1.0, gt=0, description="largest absolute value of a gradient's entry")
    gamma: float = Field(default=2.0, ge=0, description="errors count by their power 2 + gamma")
    direction_weight: float = Field(default=0.1, ge=0)
    direction: Direction = Field(default="smooth", description="published: sign, whose gradient is zero")
    train_adapter: bool = Field(default=True, description="published: false, an accident")
    divide_by: int | None = Field(
        default=None,
        ge=1,
        description="what the sum of a step's gradients is divided by; "
        "null: the number of its batches; published: the number of processes, 4",
    )
    cells_per_condition: int | None = Field(default=None, ge=2, description="at most, drawn by seed; null: all")
    answer_cells: int = Field(default=200, ge=1, description="control cells that an answer is averaged over, at most")
    device: Literal["cpu", "cuda"] = "cpu"


@dataclass(frozen=True)
class GearsData:
    """What is learned from and what is asked; nothing of the test conditions but which genes they perturb.

    Attributes
    ----------
    control_CG : (C, G) float32
        log1p(CP10k) of control cells, the pool that pairs are drawn from.
    control_mean_G : (G,) float32
        Mean control.
    vectors : (C, G, D), (1, G, D) or None
        Gene vectors of each control cell, or of all alike; may be memory-mapped. None: the network has a table.
    cells : K x csr (cells, G) float32
        Cells of each training condition.
    counted : K x (n,) int
        Genes whose error counts, of each training condition.
    train, validation, test : K, V, T x (n,) int
        Perturbed nodes of each condition.
    validation_mean_VG : (V, G) float32
    validation_genes : V x (n,) int
        Genes on which the epoch is chosen.
    go_graph, n_nodes
        Over nodes; the first G are the measured genes.
    coexpression
        Over measured genes, or None.
    """

    control_CG: np.ndarray
    control_mean_G: np.ndarray
    vectors: np.ndarray | None
    cells: Sequence[sparse.csr_matrix]
    counted: Sequence[np.ndarray]
    train: Sequence[np.ndarray]
    validation: Sequence[np.ndarray]
    test: Sequence[np.ndarray]
    validation_mean_VG: np.ndarray
    validation_genes: Sequence[np.ndarray]
    go_graph: Graph
    n_nodes: int
    coexpression: Graph | None = None


@dataclass(frozen=True)
class Pairs:
    """Training cells and the control cell that each is paired with.

    Attributes
    ----------
    condition, cell, control : (S,) int64
        Condition (K for control cells), row of the cell among those of its condition, row of the control cell.
    """

    condition: np.ndarray
    cell: np.ndarray
    control: np.ndarray


def draw_pairs(sizes: Sequence[int], n_controls: int, limit: int | None, seed: int) -> Pairs:
    """Pair every training cell with a control cell drawn at random, once for the whole training.

    Control cells are training cells too, each paired with itself.

    Parameters
    ----------
    sizes
        Cells of each training condition.
    n_controls
        Control cells to draw from.
    limit
        Cells of a condition that are used, at most; drawn at random. None: all.
    seed
        Of the draws; nothing else decides.
    """
    draw = rng("gears pairs", seed)
    kept = [
        np.sort(draw.choice(size, limit, replace=False)) if limit is not None and size > limit else np.arange(size)
        for size in [*sizes, n_controls]
    ]
    condition = np.repeat(np.arange(len(kept)), [len(rows) for rows in kept])
    cell = np.concatenate(kept)
    is_control = condition == len(sizes)
    return Pairs(condition, cell, np.where(is_control, cell, draw.integers(n_controls, size=len(cell))))


def check_gears_data(data: GearsData, device: str) -> None:
    """Check that there is something to fit, something to choose on, and the device.

    Raises
    ------
    InputDataError
        An empty training or validation part.
    DeviceError
        No such device here.
    """
    for part, conditions in (("training", data.train), ("validation", data.validation)):
        if len(conditions) == 0:
            raise InputDataError(
                f"the {part} part has no conditions",
                "a training part to fit and a validation part to choose the epoch on (never the test part)",
                "use a split policy, or split options, that leave conditions for it",
            )
    if device == "cuda" and not torch.cuda.is_available():
        raise DeviceError("device cuda, and torch finds no GPU", "a GPU", "set device: cpu in the model card's options")


def fit_predict_gears(data: GearsData, options: GearsOptions, seed: int, *, flag: bool = True) -> np.ndarray:
    """Train on the training cells, keep the epoch that is best on the validation part, answer the test part.

    A training cell's input is its control cell, its target the cell itself. The validation error is the mean over the
    validation conditions of the mean squared error of the predicted mean profile on ``validation_genes``.

    Parameters
    ----------
    data, options
        See there.
    seed
        Gives initial weights, pairs and the order of cells. The global state of torch is left as it was.
    flag
        See :class:`.GearsNetwork`.

    Returns
    -------
    (test, G) float32
        Mean profile after each perturbation.

    Raises
    ------
    InputDataError, DeviceError
        See :func:`check_gears_data`.
    """
    check_gears_data(data, options.device)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed("gears", seed))
        width = None if data.vectors is None else data.vectors.shape[-1]
        network = GearsNetwork(
            data.control_CG.shape[1],
            data.go_graph,
            data.n_nodes,
            options.hidden,
            width=width,
            train_adapter=options.train_adapter,
            coexpression=data.coexpression,
            flag=flag,
        ).to(options.device)
        fit(network, data, options, seed)
    return answer(network, data, data.test, options)


def fit(network: GearsNetwork, data: GearsData, options: GearsOptions, seed: int) -> list[float]:
    """Train `network` in place and leave it at its best epoch; return the validation error of each epoch."""
    device = torch.device(options.device)
    pairs = draw_pairs([c.shape[0] for c in data.cells], len(data.control_CG), options.cells_per_condition, seed)
    targets = sparse.vstack([*data.cells, sparse.csr_matrix(data.control_CG)], format="csr")
    first = np.cumsum([0, *(c.shape[0] for c in data.cells)])
    target_rows = first[pairs.condition] + pairs.cell
    perturbed_KN = multi_hot([*data.train, np.zeros(0, dtype=int)], data.n_nodes)
    everything = np.arange(data.control_CG.shape[1])
    counted_KG = multi_hot([*data.counted, everything], len(everything)) > 0
    control_mean_G = torch.from_numpy(np.asarray(data.control_mean_G, dtype=np.float32)).to(device)
    counted_KG = counted_KG.to(device)

    def loss_of(rows: np.ndarray) -> Tensor:
        control_BG, vectors_BGD = control_inputs(data, pairs.control[rows], device)
        condition_B = torch.from_numpy(pairs.condition[rows])
        predicted_BG = network(control_BG, perturbed_KN[condition_B].to(device), vectors_BGD)
        target_BG = torch.from_numpy(targets[target_rows[rows]].toarray()).to(device)
        return gears_loss(
            predicted_BG,
            target_BG,
            condition_B.to(device),
            counted_KG,
            control_mean_G,
            gamma=options.gamma,
            direction_weight=options.direction_weight,
            direction=options.direction,
        )

    trained = [p for p in network.parameters() if p.requires_grad]
    optimiser = torch.optim.Adam(trained, lr=options.learning_rate, weight_decay=options.weight_decay)
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimiser, options.decay)
    best = BestEpoch(network)
    training = Continuation("gears", network, optimiser, best)
    for epoch in range(training.restore(), options.epochs):
        network.train()
        order = torch.randperm(len(pairs.cell)).numpy()
        batches = [
            b for b in np.array_split(order, range(options.batch_size, len(order), options.batch_size)) if len(b) > 1
        ]
        total = 0.0
        for start in range(0, len(batches), options.accumulation):
            group = batches[start : start + options.accumulation]
            optimiser.zero_grad(set_to_none=True)
            for rows in group:
                loss = loss_of(rows)
                (loss / (options.divide_by or len(group))).backward()
                total += float(loss.detach())
            torch.nn.utils.clip_grad_value_(trained, options.clip)
            optimiser.step()
        schedule.step()
        error = validation_error(network, data, options)
        best.update(-error)
        LOGGER.info("epoch %d: loss %.4f, validation %.5f", epoch + 1, total / len(batches), error)
        training.done(epoch + 1)
    best.restore()
    return [-score for score in best.scores]


def control_inputs(data: GearsData, rows: np.ndarray, device: torch.device) -> tuple[Tensor, Tensor | None]:
    """Return expression (B, G) and gene vectors (B, G, D), (1, G, D) or None of control cells."""
    control_BG = torch.from_numpy(np.asarray(data.control_CG[rows], dtype=np.float32)).to(device)
    if data.vectors is None:
        return control_BG, None
    wanted = rows if len(data.vectors) > 1 else np.zeros(1, dtype=int)
    return control_BG, torch.from_numpy(np.asarray(data.vectors[wanted], dtype=np.float32)).to(device)


def multi_hot(positions: Sequence[np.ndarray], width: int) -> Tensor:
    """Return rows with 1 at given positions, (n, width) float32."""
    out = torch.zeros(len(positions), width)
    for row, ones in enumerate(positions):
        out[row, torch.as_tensor(np.asarray(ones, dtype=np.int64))] = 1.0
    return out


def validation_error(network: GearsNetwork, data: GearsData, options: GearsOptions) -> float:
    """Return the mean over the validation conditions of the mean squared error on their genes."""
    predicted_VG = answer(network, data, data.validation, options)
    rows = zip(predicted_VG, data.validation_mean_VG, data.validation_genes, strict=True)
    return float(np.mean([np.mean((p[genes] - t[genes]) ** 2) for p, t, genes in rows]))


@torch.inference_mode()
def answer(
    network: GearsNetwork, data: GearsData, conditions: Sequence[np.ndarray], options: GearsOptions
) -> np.ndarray:
    """Return the mean profile after each perturbation, (n, G) float32.

    The change is averaged over the first `answer_cells` control cells and added to the mean control. Where all cells
    share their gene vectors the change is the same for each, and is computed once.
    """
    network.eval()
    device = torch.device(options.device)
    differ = data.vectors is not None and len(data.vectors) > 1
    cells = np.arange(min(options.answer_cells, len(data.control_CG)) if differ else 1)
    perturbed = multi_hot(conditions, data.n_nodes)
    out = np.empty((len(conditions), data.control_CG.shape[1]), dtype=np.float32)
    step = max(ANSWER_ROWS // data.control_CG.shape[1], 1)
    if differ:
        total = np.zeros(out.shape)
        for rows in np.array_split(cells, range(step, len(cells), step)):
            control_BG, vectors_BGD = control_inputs(data, rows, device)
            for k, perturbed_N in enumerate(perturbed):
                perturbed_BN = perturbed_N.to(device).expand(len(rows), -1)
                change_BG = network(torch.zeros_like(control_BG), perturbed_BN, vectors_BGD)
                total[k] += change_BG.sum(0, dtype=torch.float64).cpu().numpy()
        out[:] = total / len(cells)
    else:
        _, vectors_BGD = control_inputs(data, cells, device)
        for start in range(0, len(conditions), step):
            perturbed_BN = perturbed[start : start + step].to(device)
            nothing_BG = torch.zeros(len(perturbed_BN), out.shape[1], device=device)
            out[start : start + step] = network(nothing_BG, perturbed_BN, vectors_BGD).cpu().numpy()
    return out + np.asarray(data.control_mean_G, dtype=np.float32)
