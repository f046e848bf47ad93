"""What a training is: everything that fixes its result, written beside its checkpoints. Torch-free."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sclong.config.sections import NO_EFFECT, Architecture, PretrainConfig
from sclong.errors import CheckpointError
from sclong.io.files import atomic_dir, read_json, write_json
from sclong.provenance import code_hash

ENTRY = "sclong.train.job:train"
"""What every process of a training runs: the entry point of the hash of its code."""


def planned_identity(arch: Architecture, config: PretrainConfig) -> dict[str, Any]:
    """Return the part of a training's identity that is known before any file is read."""
    return {
        "code": code_hash(ENTRY),
        "architecture": arch.model_dump(),
        "pretrain": config.model_dump(exclude=NO_EFFECT),
    }


PLAN = "plan.json"
"""In the folder of a training: the configuration of its data, as :func:`check_plan` compares it."""


def check_plan(work_dir: Path, settings: Mapping[str, Any]) -> None:
    """Check, before any job runs, that a training's data is to be made as it was when the training began.

    The hashes of vocabulary, graph and corpus are compared when a training starts; by then Snakemake has removed what
    they would replace. Settings are known before the first job.

    Parameters
    ----------
    work_dir
        Folder of one training; it need not exist.
    settings
        JSON values: the sections of the configuration that decide vocabulary, graph, gene vectors and corpus.

    Raises
    ------
    CheckpointError
        When a training of other settings is there; names each that differs, and says how to keep both.
    """
    if (work_dir / "identity.json").is_file():
        _compare(work_dir, work_dir / PLAN, settings, whole=True)


def remember_plan(work_dir: Path, settings: Mapping[str, Any]) -> None:
    """Write down the settings of a training's data, for :func:`check_plan`."""
    write_json(work_dir / PLAN, settings)


def keep_export(checkpoint: Path, work_dir: Path) -> None:
    """Keep an exported checkpoint that a job is about to replace, as ``exported`` in the folder of its training.

    Snakemake removes the outputs of a job before it runs, and those of a job that fails. Files are linked where the
    file system can, so that this takes no space.

    Parameters
    ----------
    checkpoint
        Exported checkpoint; it need not exist.
    work_dir
        Folder of its training.
    """
    if not (checkpoint / "model.safetensors").is_file():
        return
    with atomic_dir(work_dir / "exported") as tmp:
        shutil.copytree(checkpoint, tmp, copy_function=_link, dirs_exist_ok=True)


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # a file system without links
        shutil.copy2(source, target)


def claim_work_dir(work_dir: Path, identity: Mapping[str, Any]) -> None:
    """Write down what is trained in a folder, or check that it is the same training.

    Parameters
    ----------
    work_dir
        Folder of one training; made if it is not there.
    identity
        JSON values that fix the result: code, architecture, configuration, hashes of vocabulary, graph and corpus.

    Raises
    ------
    CheckpointError
        When the folder holds another training (:func:`check_work_dir`).
    """
    if not (work_dir / "identity.json").is_file():
        write_json(work_dir / "identity.json", identity)
    check_work_dir(work_dir, identity, whole=True)


def check_work_dir(work_dir: Path, identity: Mapping[str, Any], *, whole: bool = False) -> None:
    """Check that a folder holds no checkpoints of another training.

    Parameters
    ----------
    work_dir
        Folder of one training; it need not exist.
    identity
        As of :func:`claim_work_dir`, or a part of it.
    whole
        Whether `identity` is all of it, so that a key that only the folder has is a difference.

    Raises
    ------
    CheckpointError
        When the folder holds another training; names each thing that differs, and says how to keep both.
    """
    _compare(work_dir, work_dir / "identity.json", identity, whole=whole)


def _compare(work_dir: Path, path: Path, identity: Mapping[str, Any], *, whole: bool) -> None:
    if not path.is_file():
        return
    there, wanted = flatten(read_json(path)), flatten(identity)
    keys = sorted({*wanted, *(there if whole else ())})
    different = [
        f"{key}: {there.get(key, 'nothing')} there, {wanted.get(key, 'nothing')} now"
        for key in keys
        if there.get(key) != wanted.get(key)
    ]
    if different:
        raise CheckpointError(
            f"{work_dir} holds the checkpoints of another training; " + "; ".join(different),
            "a training goes on with the code, the configuration and the data that it began with",
            "to keep both, give the new one another folder (--config results_dir=...); or undo the change to go on; or "
            f"set the old one aside, mv {work_dir} {work_dir}_kept, and start again: it trains anew (the checkpoint "
            f"that was exported is then {work_dir}_kept/exported)",
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
