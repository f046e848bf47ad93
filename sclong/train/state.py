"""Training checkpoints: each process writes its shards, whole or not at all, checked when read, by any number of them.

::

    work_dir/identity.json           what is trained on what: must not change while a training goes on
    work_dir/training.jsonl          one line per step
    work_dir/step_00000250/          shard-00001-....safetensors, one file per process (torch.distributed.checkpoint)
                           state.json          step, place in the data, redraws, schedule, SHA-256 of the files

The tensors are ``model.<name>``, ``optimizer.<parameter>.<quantity>`` and ``rng.<rank>.<device>``. No file is a pickle.
"""

from __future__ import annotations

import os
import shutil
import warnings
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader, HuggingFaceStorageWriter

from sclong.errors import CheckpointError
from sclong.io.files import atomic_dir, read_json, sha256_file, write_json
from sclong.runlog import LOGGER
from sclong.train.parallel import World

FORMAT = 2


def tensors_of(model: torch.nn.Module, optimizer: torch.optim.Optimizer, world: World) -> dict[str, torch.Tensor]:
    """Return all tensors of a training as this process holds them: whole, or its shards."""
    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    for name, parameter in model.named_parameters():
        for quantity, tensor in optimizer.state.get(parameter, {}).items():
            tensors[f"optimizer.{name}.{quantity}"] = tensor
    tensors[f"rng.{world.rank}.cpu"] = torch.get_rng_state()
    if world.device.type == "cuda":
        tensors[f"rng.{world.rank}.cuda"] = torch.cuda.get_rng_state(world.device)
    return tensors


def save_state(
    work_dir: Path,
    step: int,
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    world: World,
    facts: Mapping[str, Any],
    keep: int,
    keep_every: int | None = None,
) -> Path:
    """Write the checkpoint of a step; then remove all but the newest `keep` and those that `keep_every` divides.

    A collective call.

    Raises
    ------
    CheckpointError
        It cannot be written, on this process or on another. The checkpoints before it stay as they are.
    """
    folder = work_dir / folder_name(step)
    mine = f"shard-{world.rank + 1:05d}-*.safetensors"
    try:
        with ExitStack() as stack, quiet():
            tmp = Path(world.by_first(lambda: str(stack.enter_context(atomic_dir(folder)))))
            writer = HuggingFaceStorageWriter(str(tmp), save_distributed=True)
            dcp.save(tensors_of(model, optimizer, world), storage_writer=writer, no_dist=world.size == 1)
            hashes = world.together(lambda: {p.name: sha256_file(p) for p in tmp.glob(mine)})
            recorded = {name: digest for part in hashes for name, digest in part.items()}
            state = {"format": FORMAT, "step": step, "processes": world.size, "sha256": recorded, **facts}
            world.by_first(lambda: write_json(tmp / "state.json", state))
            world.by_first(stack.close)  # all have written: the folder gets its name
    except (CheckpointException, OSError) as error:
        reason = " ".join(str(error).split())[-300:]
        raise CheckpointError(
            f"the checkpoint of step {step} cannot be written to {work_dir}: {reason}",
            "a folder that takes files, with enough space",
            "free space and start again; the training goes on from the checkpoint before, which is untouched",
        ) from error
    world.by_first(lambda: remove_old(work_dir, keep, keep_every))
    return folder


@contextmanager
def quiet() -> Iterator[None]:
    """Without the warning that a single process does without a process group."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")
        yield


def remove_old(work_dir: Path, keep: int, keep_every: int | None) -> None:
    """Remove all checkpoints but the newest `keep` and those of steps that `keep_every` divides."""
    for old in checkpoints(work_dir)[:-keep]:
        if keep_every and step_of(old) % keep_every == 0:
            continue
        gone = old.with_name(f".old-{old.name}")  # a job that is killed here leaves no half a checkpoint
        os.replace(old, gone)
        shutil.rmtree(gone)


def checkpoints(work_dir: Path) -> list[Path]:
    """Return the checkpoint folders of a training, oldest first."""
    return sorted(work_dir.glob("step_????????"))


def folder_name(step: int) -> str:
    """Return the name of the checkpoint folder of a step."""
    return f"step_{step:08d}"


def step_of(folder: Path) -> int:
    """Return the step of a checkpoint folder."""
    return int(folder.name.removeprefix("step_"))


def damage(folder: Path) -> str | None:
    """Say what is wrong with a checkpoint, or None when it is whole."""
    try:
        state = read_json(folder / "state.json")
        recorded = dict(state["sha256"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        return f"state.json cannot be read ({error})"
    if state.get("format") != FORMAT:
        return "it was written by another version"
    for name, digest in recorded.items():
        if not (folder / name).is_file():
            return f"{name} is missing"
        if sha256_file(folder / name) != digest:
            return f"{name} is not the file that was written (SHA-256 differs)"
    return None


def newest_whole(work_dir: Path) -> Path | None:
    """Return the newest whole checkpoint; a damaged one is passed over with a warning, unfinished ones are removed."""
    for unfinished in [*work_dir.glob(".tmp-*step_*"), *work_dir.glob(".old-*step_*")]:
        shutil.rmtree(unfinished)
    for folder in reversed(checkpoints(work_dir)):
        wrong = damage(folder)
        if wrong is None:
            return folder
        LOGGER.warning("%s: %s; the checkpoint before it is used instead", folder, wrong)
    return None


def restore_newest(
    work_dir: Path, model: torch.nn.Module, optimizer: torch.optim.Optimizer, world: World
) -> dict[str, Any] | None:
    """Load the newest whole checkpoint, whatever number of processes wrote it; a collective call.

    Returns
    -------
    dict or None
        Its ``state.json``; None when there is none, and nothing was loaded.

    Raises
    ------
    CheckpointError
        It has not the tensors of this model.
    """
    folder = world.by_first(lambda: newest_whole(work_dir))
    if folder is None:
        return None
    reader = HuggingFaceStorageReader(str(folder))
    there = reader.read_metadata().state_dict_metadata
    for name, parameter in model.named_parameters():
        if f"optimizer.{name}.step" in there:
            optimizer.state[parameter] = {
                "step": torch.tensor(0.0),
                "exp_avg": torch.zeros_like(parameter),
                "exp_avg_sq": torch.zeros_like(parameter),
            }
    tensors = tensors_of(model, optimizer, world)
    tensors = {key: tensor for key, tensor in tensors.items() if not key.startswith("rng.") or key in there}
    wrong = sorted(
        key
        for key in {*tensors, *there}
        if not key.startswith("rng.")
        if key not in there or key not in tensors or there[key].size != tensors[key].shape  # type: ignore[union-attr]
    )
    if wrong:
        raise CheckpointError(
            f"{folder}: {len(wrong)} tensors are missing, unknown or of another shape: {wrong[0]}",
            "the tensors of this model and its optimiser",
            "train in another folder, or with the version that wrote the checkpoint",
        )
    with torch.no_grad(), quiet():
        dcp.load(tensors, storage_reader=reader, no_dist=world.size == 1)
    with suppress(KeyError):
        torch.set_rng_state(tensors[f"rng.{world.rank}.cpu"])
        torch.cuda.set_rng_state(tensors[f"rng.{world.rank}.cuda"], world.device)
    return read_json(folder / "state.json")
