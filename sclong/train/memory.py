"""Memory of a training process by formula: what is held, how much of it is a shard, what a pass of some cells adds.

Nothing here needs torch, so that a plan can ask. Counted is what the model and the optimiser hold and what the backward
pass of the default kernels (``kernels: fast`` or ``blocks``) keeps. Not counted: the program itself, the CUDA context,
buffers of NCCL, what an allocator holds and does not use, the cells that wait to be read.

Shapes: N positions, W width of an encoder, H heads, D width of a head, M random features, I = H * D, F = ff_mult * W.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from sclong.config.sections import Architecture

Parallel = Literal["none", "ddp", "fsdp"]
FLOAT32 = 4


@dataclass(frozen=True)
class Parameters:
    """Numbers of parameters, by how FSDP treats them.

    Attributes
    ----------
    sublayers
        Of all attention and feed-forward parts: in shards, gathered one part at a time.
    largest_sublayer
        Of the largest of them.
    go
        Of the GO encoder: whole on every process.
    rest
        Norms, gene table, the layers between the Performers: in shards, gathered for the whole step.
    """

    sublayers: int
    largest_sublayer: int
    go: int
    rest: int

    @property
    def total(self) -> int:
        """All of them."""
        return self.sublayers + self.go + self.rest


@dataclass(frozen=True)
class _Encoder:
    """A Performer: its positions of one cell and its shape."""

    positions: int
    width: int
    depth: int
    heads: int
    dim_head: int
    ff_mult: int

    @property
    def inner(self) -> int:
        return self.heads * self.dim_head

    @property
    def attention_parameters(self) -> int:
        return 4 * self.width * self.inner + self.width

    @property
    def feed_forward_parameters(self) -> int:
        return 2 * self.ff_mult * self.width**2 + (self.ff_mult + 1) * self.width

    def layer_bytes(self, size: int, stream: int, exact: bool) -> int:
        """Bytes that the backward pass of one layer keeps for one cell.

        Residual inputs and norms' statistics, inputs of the matrices, queries, keys, values, attended values, hidden
        units of the feed-forward part, FAVOR+ sums. `stream` is the size of a number of the residual stream.
        """
        matrices = 2 * self.width + 4 * self.inner + self.ff_mult * self.width
        per_position = 2 * self.width * stream + matrices * size + 4 * FLOAT32
        if exact:
            return self.positions * (per_position + self.heads * FLOAT32)
        features = int(self.dim_head * math.log(self.dim_head))
        return self.positions * (per_position + 9 * self.heads) + self.heads * features * (self.dim_head + 1) * FLOAT32

    def copied_weight_bytes(self, size: int, sharded: bool) -> int:
        """Bytes of the copies of a layer's weights that its backward pass keeps, however many cells there are.

        Those of q, k and v, put together; with whole weights in bfloat16 also those of two further matrices.
        """
        others = 0 if size == FLOAT32 or sharded else self.inner * self.width + self.ff_mult * self.width**2
        return (3 * self.inner * self.width + others) * size

    def working_bytes(self, size: int, stream: int) -> int:
        """Bytes that the backward pass of one layer needs for one cell while it runs."""
        part = max(2 * self.ff_mult * self.width, 4 * self.inner)
        return self.positions * (part * size + 2 * self.width * stream)


def _encoders(arch: Architecture, n_genes: int) -> tuple[_Encoder, _Encoder, _Encoder]:
    """Return the large encoder, that of the remaining genes and the full-length one."""
    n_positions = n_genes + 1
    n_top = min(arch.top_genes, n_positions)
    large = (n_top, arch.large_dim, arch.large_depth, arch.large_heads, arch.large_dim_head)
    mini = (n_positions - n_top, arch.base_dim, arch.mini_depth, arch.mini_heads, arch.mini_dim_head)
    decoder = (n_positions, arch.base_dim, arch.decoder_depth, arch.decoder_heads, arch.decoder_dim_head)
    return _Encoder(*large, arch.ff_mult), _Encoder(*mini, arch.ff_mult), _Encoder(*decoder, arch.ff_mult)


def count_parameters(arch: Architecture, n_genes: int) -> Parameters:
    """Count the parameters of a model over `n_genes` genes and the PAD position.

    Examples
    --------
    >>> from sclong.config.load import load_architecture
    >>> count_parameters(load_architecture("1b"), 27_874).total
    1006086461
    """
    encoders = _encoders(arch, n_genes)
    dim, wide, positions = arch.base_dim, arch.large_dim, n_genes + 1
    values = 2 * arch.value_hidden_dim + arch.value_hidden_dim * dim + dim
    between = dim * wide + wide + 2 * wide + wide * dim + dim
    norms = 3 * 2 * dim + sum(4 * e.width * e.depth for e in encoders)  # of tokens, after the large encoder, at the end
    return Parameters(
        sublayers=sum((e.attention_parameters + e.feed_forward_parameters) * e.depth for e in encoders),
        largest_sublayer=max(max(e.attention_parameters, e.feed_forward_parameters) for e in encoders),
        go=positions * dim + dim * dim + dim,
        rest=positions * dim + values + dim + between + norms + dim + 1,
    )


@dataclass(frozen=True)
class TrainingMemory:
    """Bytes of one training process, at the moment of a step when they are most.

    Attributes
    ----------
    weights, optimizer
        Float32 weights, and Adam's two running means: whole, or this process's shards.
    gradients
        At the end of a step.
    exchange
        DDP: buckets of gradients. FSDP: gathered parts and their gradients.
    activations
        What the backward pass of one pass keeps, with the copies of weights it needs.
    working
        What a layer's backward pass needs while it runs.
    step
        Intermediates of the optimiser (CUDA: one value per parameter).
    peak
        The most that is held at one time: not the sum, since gradients come while activations go.
    """

    weights: int
    optimizer: int
    gradients: int
    exchange: int
    activations: int
    working: int
    step: int
    peak: int


def training_memory(
    arch: Architecture,
    n_genes: int,
    cells: int,
    parallel: Parallel = "none",
    processes: int = 1,
    passes: int = 1,
    device: Literal["cpu", "cuda"] = "cuda",
) -> TrainingMemory:
    """Work out what a process holds at most during an optimiser step.

    Parameters
    ----------
    arch, n_genes
        The model; ``precision``, ``recompute_layers`` and ``top_attention`` count.
    cells
        Cells of one forward and backward pass of the process (``micro_batch_size``).
    parallel, processes
        How all processes share the model, and how many they are, over all nodes.
    passes
        Forward and backward passes of a step: with more than one, gradients are there while activations are, and FSDP
        keeps them whole until the last.
    device
        On CUDA the optimiser works on all parameters at once, and norms are float32 in bfloat16 models too.
    """
    count = count_parameters(arch, n_genes)
    size = 2 if arch.precision == "bfloat16" else FLOAT32
    sharded = parallel == "fsdp" and processes > 1
    share = processes if sharded else 1
    own = (count.sublayers + count.rest) // share + count.go
    whole_gradients = sharded and passes > 1
    gradients = FLOAT32 * (count.total if whole_gradients else own)
    exchange, at_the_end = 0, 0
    if parallel == "ddp" and processes > 1:
        exchange = FLOAT32 * count.total
    elif sharded:
        # rest, gathered for the whole step; two gathered parts and the buffer of the next, a part's gradients twice
        exchange = FLOAT32 * count.rest + count.largest_sublayer * (4 * size + FLOAT32)
        at_the_end = 2 * FLOAT32 * count.rest
    step = FLOAT32 * own if device == "cuda" else 0
    held, kept, working = _pass_memory(arch, n_genes, cells, size, sharded, gradients, passes, device)
    fixed = FLOAT32 * 3 * own + exchange
    return TrainingMemory(
        weights=FLOAT32 * own,
        optimizer=2 * FLOAT32 * own,
        gradients=gradients,
        exchange=exchange,
        activations=kept,
        working=working,
        step=step,
        peak=fixed + max(held, gradients + at_the_end, gradients + step),
    )


def _pass_memory(
    arch: Architecture, n_genes: int, cells: int, size: int, sharded: bool, gradients: int, passes: int, device: str
) -> tuple[int, int, int]:
    """Return the most that a pass and its gradients hold, what its backward pass keeps, what a layer works with."""
    encoders = _encoders(arch, n_genes)
    kept, working = [], []
    for number, encoder in enumerate(encoders):
        exact = arch.top_attention == "exact" and number == 0
        stream = size if device == "cpu" and number == 0 else FLOAT32  # on CUDA autocast computes norms in float32
        copies = encoder.copied_weight_bytes(size, sharded)
        layer = cells * encoder.layer_bytes(size, stream, exact) + copies
        residual = cells * encoder.positions * encoder.width * stream
        kept.append(encoder.depth * (residual if arch.recompute_layers else layer))
        working.append(cells * encoder.working_bytes(size, stream) + (layer if arch.recompute_layers else 0))
    dim, positions = arch.base_dim, n_genes + 1
    per_cell = positions * (arch.value_hidden_dim * size + 3 * dim * FLOAT32 + 36)
    n_top = encoders[0].positions
    per_cell += n_top * (dim * (2 * FLOAT32 + size) + arch.large_dim * (FLOAT32 + size))
    rest = cells * per_cell + 5 * positions * dim * FLOAT32  # gene vectors do not depend on cells
    before = gradients if passes > 1 else 0
    large, mini, decoder = kept
    moments = [  # the backward pass goes through the full-length encoder, that of the remaining genes, the large one
        large + mini + decoder + working[2],
        large + mini + working[1],
        large + working[0],
        working[0] + (0 if passes > 1 else gradients),  # at the first layer, when the other gradients are there
    ]
    return before + rest + max(moments), rest + sum(kept), max(working)


def cells_that_fit(
    arch: Architecture, n_genes: int, limit_bytes: float, parallel: Parallel = "none", processes: int = 1
) -> int:
    """Return the most cells of a pass with which a step of several passes stays below a limit on a GPU; 0: none fit."""

    def peak(cells: int) -> int:
        return training_memory(arch, n_genes, cells, parallel, processes, passes=2).peak

    cells = 0
    for power in reversed(range(16)):
        if peak(cells + 2**power) <= limit_bytes:
            cells += 2**power
    return cells
