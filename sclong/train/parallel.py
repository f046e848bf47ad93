"""Several processes train one model: who they are, how they talk, and how the model's gradients are put together.

The model knows nothing of this. Every process has an equal, contiguous share of each step's cells; DDP or FSDP2 is put
around the model from outside.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

from sclong.config.sections import PretrainConfig
from sclong.errors import ConfigError, DeviceError, SclongError
from sclong.nn.dual_encoder import DualEncoder
from sclong.nn.performer import PreNorm
from sclong.train.stop import StopNowError

warnings.filterwarnings("ignore", message="FSDP2-wrapped module .* returned a view tensor")
warnings.filterwarnings("ignore", message="`broadcast_buffers` is deprecated")

T = TypeVar("T")


@dataclass(frozen=True)
class World:
    """The processes of a training, seen from one of them.

    Attributes
    ----------
    rank, size
        Which this is, of how many.
    device
        Where this process computes.
    """

    rank: int
    size: int
    device: torch.device

    @property
    def first(self) -> bool:
        """Whether this is the process that writes logs and files."""
        return self.rank == 0

    def share(self, n: int) -> slice:
        """Return this process's contiguous part of `n` things, which `size` divides."""
        part = n // self.size
        return slice(self.rank * part, (self.rank + 1) * part)

    def total(self, values: torch.Tensor) -> torch.Tensor:
        """Return the sums over all processes; a collective call."""
        if self.size > 1:
            values = values.to(self.device, copy=True)
            dist.all_reduce(values)
        return values

    def check(self, stop: object) -> None:
        """Raise on every process when one of them was asked to stop; a collective call.

        The processes exchange one number on the CPU: no GPU is waited for.

        Parameters
        ----------
        stop
            True where this process was asked.

        Raises
        ------
        StopNowError
        """
        asked = torch.tensor([int(bool(stop))])
        if self.size > 1:
            dist.all_reduce(asked)
        if asked.item():
            raise StopNowError

    def collect(self, value: T) -> list[T]:
        """Return what every process gave, in order of ranks; a collective call."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value)
        return values

    def together(self, function: Callable[[], T]) -> list[T]:
        """Call a function on every process; when it fails on one, raise on all, so that none is waited for.

        Returns
        -------
        list
            What it returned, in order of ranks.
        """
        failure: Exception | None = None
        result: Any = None
        try:
            result = function()
        except Exception as error:
            failure = error
        results = self.collect((result, failure))
        if failure is not None:
            raise failure
        for rank, (_, other) in enumerate(results):
            if other is not None:
                raise other if isinstance(other, (SclongError, OSError)) else RuntimeError(f"process {rank}: {other!r}")
        return [result for result, _ in results]

    def by_first(self, function: Callable[[], T]) -> T:
        """Call a function on the first process alone; return its result, or raise its error, on all."""
        return self.together(lambda: function() if self.first else None)[0]  # type: ignore[return-value]


KEPT: list[dist.ProcessGroup | None] = []
"""Groups that were left, not freed: gloo's destructor, called by Python, can wait for ever for gloo's own thread, which
waits for Python to free the last message (seen with torch 2.13 on a busy machine, at the end of a training)."""


@contextmanager
def joined(config: PretrainConfig) -> Iterator[World]:
    """Meet the other processes; leave them at the end.

    Rank and number of processes are taken from a process group that is there already, else from the environment that
    ``torchrun`` sets.

    Raises
    ------
    ConfigError
        There are more or fewer processes than the configuration says.
    DeviceError
        CUDA was asked for and there is no device for this process.
    """
    expected = config.processes * config.nodes
    here = dist.is_initialized()
    size = dist.get_world_size() if here else int(os.environ.get("WORLD_SIZE", 1))
    rank = dist.get_rank() if here else int(os.environ.get("RANK", 0))
    if size != expected:
        raise ConfigError(
            f"{size} process(es) are running",
            f"{expected}: pretrain.processes {config.processes} x pretrain.nodes {config.nodes}",
            "start as many with torchrun, or change pretrain.processes and pretrain.nodes",
        )
    device = choose_device(config.device, int(os.environ.get("LOCAL_RANK", rank)) if size > 1 else None)
    starts = not here and (size > 1 or config.parallel == "fsdp")
    if starts:
        backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
        if size == 1:
            dist.init_process_group(backend, store=dist.HashStore(), rank=0, world_size=1)
        else:
            dist.init_process_group(backend)
    try:
        yield World(rank, size, device)
    finally:
        if starts:
            KEPT.append(dist.group.WORLD)
            dist.destroy_process_group()


def choose_device(name: str, local_rank: int | None = None) -> torch.device:
    """Return a device that is there; with `local_rank` the GPU of that number.

    Raises
    ------
    DeviceError
        When it is not.
    """
    if name != "cuda":
        return torch.device(name)
    if not torch.cuda.is_available():
        raise DeviceError(
            f"pretrain.device is cuda; torch {torch.__version__} sees no CUDA device",
            "a GPU with its driver, and a torch built for CUDA",
            "set pretrain.device: cpu, or run where a GPU is",
        )
    if local_rank is None:
        return torch.device("cuda")
    if local_rank >= torch.cuda.device_count():
        raise DeviceError(
            f"process {local_rank} of this node, which has {torch.cuda.device_count()} GPU(s)",
            "a GPU for each process of a node",
            "lower pretrain.processes, or ask for more GPUs per node",
        )
    torch.cuda.set_device(local_rank)
    return torch.device("cuda", local_rank)


def allow_tf32(allowed: bool) -> None:
    """Let float32 products of matrices on a GPU be TF32 or not; nothing else changes, on a CPU nothing at all."""
    torch.backends.cuda.matmul.allow_tf32 = allowed
    torch.backends.cudnn.allow_tf32 = allowed


class Replica:
    """The model of one process, tied to those of the others.

    Parameters
    ----------
    model
        On the device of `world`; the same weights on every process.
    world, parallel
        The processes, and how they share the model. With one process "ddp" is "none".

    Attributes
    ----------
    model : DualEncoder
        With "fsdp" its parameters hold this process's shards. The GO encoder stays whole: its vectors are computed once
        per step, outside the forward pass.
    call : nn.Module
        What a pass calls.
    """

    def __init__(self, model: DualEncoder, world: World, parallel: Literal["none", "ddp", "fsdp"]) -> None:
        self.model, self.world = model, world
        self.call: nn.Module = model
        self.sharded = parallel == "fsdp"
        n_positions = model.pos_emb.emb.num_embeddings
        if model.n_top == n_positions:  # DDP would wait for gradients that never come
            model.mini_encoder.requires_grad_(False)
        if self.sharded:
            self._shard()
        elif world.size > 1:
            ids = [world.device.index] if world.device.type == "cuda" else None
            self.call = DistributedDataParallel(model, device_ids=ids, broadcast_buffers=False)
            self._settle_buckets(n_positions)

    def _shard(self) -> None:
        """Shard every attention and feed-forward part, then what is left but the GO encoder.

        Norms, tables and the parts outside the Performers are gathered in float32; inputs are never cast.
        """
        mesh = init_device_mesh(self.world.device.type, (self.world.size,))
        gathered = torch.bfloat16 if self.model.arch.precision == "bfloat16" else None
        policy = MixedPrecisionPolicy(gathered, reduce_dtype=torch.float32, cast_forward_inputs=False)
        for module in [m for m in self.model.modules() if isinstance(m, PreNorm)]:
            fully_shard(module.fn, mesh=mesh, mp_policy=policy)
        fully_shard(
            self.model,
            mesh=mesh,
            mp_policy=MixedPrecisionPolicy(cast_forward_inputs=False),
            ignored_params=set(self.model.go_conv.parameters()),
        )

    def _settle_buckets(self, n_positions: int) -> None:
        """Do one pass whose gradients are thrown away.

        DDP orders its buckets anew after the first pass, and the order in which three or more numbers are added depends
        on where they stand: without this a training that was resumed would differ from one that was not by rounding.
        """
        with self.model.go_conv.once():
            values_BN = torch.zeros(1, n_positions, device=self.world.device)
            self.call(values_BN).reconstruction_BN.sum().backward()
        self.model.zero_grad(set_to_none=True)

    @contextmanager
    def accumulating(self, last: bool) -> Iterator[None]:
        """Forward and backward pass of a part of the step's cells; processes talk in the last alone."""
        if isinstance(self.model, FSDPModule):
            self.model.set_requires_gradient_sync(last)
        with self.call.no_sync() if isinstance(self.call, DistributedDataParallel) and not last else nullcontext():
            yield

    def finish_gradients(self) -> None:
        """Average the gradients that FSDP knows nothing of. To be called when all backward passes are done."""
        if self.sharded and self.world.size > 1:
            for parameter in self.model.go_conv.parameters():
                if parameter.grad is not None:
                    dist.all_reduce(parameter.grad)
                    parameter.grad /= self.world.size

    def whole_state(self) -> dict[str, torch.Tensor]:
        """Return the weights, whole, on the CPU; a collective call (the first process alone gets them)."""
        state = {}
        for name, tensor in self.model.state_dict().items():
            whole = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
            if self.world.first:
                state[name] = whole.detach().cpu().contiguous()
        return state
