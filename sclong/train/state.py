"""Training checkpoints: weights and optimiser as safetensors, the rest as JSON, whole or not at all, checked when read.

::

    work_dir/identity.json                 what is trained on what: must not change while a training goes on
    work_dir/training.jsonl                one line per step
    work_dir/step_00000250/model.safetensors, optimizer.safetensors, state.json (step, SHA-256 of the two)
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from sclong.errors import CheckpointError
from sclong.io.files import atomic_dir, read_json, sha256_file, write_json, write_text
from sclong.runlog import LOGGER

TENSOR_FILES = ("model.safetensors", "optimizer.safetensors")


def claim_work_dir(work_dir: Path, identity: Mapping[str, Any]) -> None:
    """Write down what is trained in a folder, or check that it is the same training.

    Parameters
    ----------
    work_dir
        Folder of one training; made if it is not there.
    identity
        JSON values that fix the result: architecture, configuration, hashes of vocabulary, graph and corpus.

    Raises
    ------
    CheckpointError
        When the folder holds another training; names each thing that differs.
    """
    path = work_dir / "identity.json"
    if not path.is_file():
        write_json(path, identity)
        return
    there, asked = flatten(read_json(path)), flatten(identity)
    different = [
        f"{key}: {there.get(key, 'nothing')} there, {asked.get(key, 'nothing')} asked for"
        for key in sorted({*there, *asked})
        if there.get(key) != asked.get(key)
    ]
    if different:
        raise CheckpointError(
            f"{work_dir} holds checkpoints of another training; " + "; ".join(different),
            "a training goes on with what it began with",
            f"choose another folder, or remove {work_dir} to begin anew",
        )


def flatten(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested mappings as one, keys joined by dots."""
    out: dict[str, Any] = {}
    for key, item in value.items():
        if isinstance(item, Mapping):
            out.update(flatten(item, f"{prefix}{key}."))
        else:
            out[f"{prefix}{key}"] = item
    return out


def optimizer_tensors(model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """Return the optimiser's state as ``<parameter>.<quantity>`` -> tensor."""
    return {
        f"{name}.{quantity}": tensor.contiguous()
        for name, parameter in model.named_parameters()
        for quantity, tensor in optimizer.state.get(parameter, {}).items()
    }


def restore_optimizer(
    model: torch.nn.Module, optimizer: torch.optim.Optimizer, tensors: Mapping[str, torch.Tensor]
) -> None:
    """Put back what :func:`optimizer_tensors` returned."""
    index = {name: i for i, (name, _) in enumerate(model.named_parameters())}
    state: dict[int, dict[str, torch.Tensor]] = {}
    for key, tensor in tensors.items():
        name, _, quantity = key.rpartition(".")
        state.setdefault(index[name], {})[quantity] = tensor
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def save_state(work_dir: Path, step: int, model: torch.nn.Module, optimizer: torch.optim.Optimizer, keep: int) -> Path:
    """Write the checkpoint of a step and remove all but the newest `keep`."""
    folder = work_dir / f"step_{step:08d}"
    with atomic_dir(folder) as tmp:
        save_file({k: v.contiguous() for k, v in model.state_dict().items()}, tmp / TENSOR_FILES[0])
        save_file(optimizer_tensors(model, optimizer), tmp / TENSOR_FILES[1])
        write_json(tmp / "state.json", {"step": step, "sha256": {f: sha256_file(tmp / f) for f in TENSOR_FILES}})
    for old in checkpoints(work_dir)[:-keep]:
        shutil.rmtree(old)
    return folder


def checkpoints(work_dir: Path) -> list[Path]:
    """Return the checkpoint folders of a training, oldest first."""
    return sorted(work_dir.glob("step_????????"))


def damage(folder: Path) -> str | None:
    """Say what is wrong with a checkpoint, or None when it is whole."""
    try:
        recorded = read_json(folder / "state.json")["sha256"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        return f"state.json cannot be read ({error})"
    for name in TENSOR_FILES:
        if not (folder / name).is_file():
            return f"{name} is missing"
        if sha256_file(folder / name) != recorded.get(name):
            return f"{name} is not the file that was written (SHA-256 differs)"
    return None


def restore_newest(work_dir: Path, model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> int:
    """Load the newest whole checkpoint; a damaged one is passed over with a warning, unfinished ones are removed.

    Returns
    -------
    int
        Its step; 0 when there is none, and nothing was loaded.
    """
    for unfinished in [*work_dir.glob(".tmp-*-step_*"), *work_dir.glob(".old-*-step_*")]:
        shutil.rmtree(unfinished)
    for folder in reversed(checkpoints(work_dir)):
        wrong = damage(folder)
        if wrong:
            LOGGER.warning("%s: %s; the checkpoint before it is used instead", folder, wrong)
            continue
        model.load_state_dict(load_file(folder / TENSOR_FILES[0]))
        restore_optimizer(model, optimizer, load_file(folder / TENSOR_FILES[1]))
        return int(read_json(folder / "state.json")["step"])
    return 0


class TrainingLog:
    """``training.jsonl``: one JSON object per line, in order of steps.

    Opening it drops the lines after `last_step`, so that a training that was killed and went on leaves the file that
    it would have left uninterrupted.
    """

    def __init__(self, path: Path, last_step: int) -> None:
        kept = []
        for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() and last_step else []:
            try:
                step = json.loads(line)["step"]
            except ValueError:  # the last line of a killed job
                break
            if step > last_step:
                break
            kept.append(line + "\n")
        write_text(path, "".join(kept))
        self.path = path
        self._file = open(path, "a", encoding="utf-8")  # noqa: SIM115 (closed by close)

    def write(self, **values: Any) -> None:
        """Append a line."""
        self._file.write(json.dumps(values) + "\n")
        self._file.flush()

    def sync(self) -> None:
        """See that all lines are on the disk (before a checkpoint is, so that it never runs ahead of them)."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file."""
        self._file.close()
