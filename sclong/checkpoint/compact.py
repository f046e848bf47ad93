"""The small copy of a checkpoint that comes with the package."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from sclong.checkpoint.folder import FILES, read_config
from sclong.errors import CheckpointError, listing
from sclong.io.files import atomic_dir, sha256_file, write_json


def compact(folder: str | Path, output: str | Path) -> None:
    """Write a checkpoint with its floating-point weights in float16: half the size, made float32 when it is read.

    Random directions of attention are weights too. How far embeddings move is for the caller to measure; for the base
    checkpoint see its card.

    Parameters
    ----------
    folder
        A checkpoint folder.
    output
        Folder to write, whole or not at all.

    Raises
    ------
    CheckpointError
        A weight does not fit float16 (its size is above 65,504).
    """
    folder = Path(folder)
    config, _ = read_config(folder / "config.json")
    state = load_file(folder / "model.safetensors")
    low = {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in state.items()}
    lost = [name for name, tensor in low.items() if not torch.isfinite(tensor).all()]
    if lost:
        raise CheckpointError(
            f"weights that do not fit float16: {listing(lost)}",
            "weights of at most 65,504",
            "keep the whole checkpoint",
        )
    with atomic_dir(output) as out:
        for name in FILES:
            if name != "model.safetensors":
                shutil.copyfile(folder / name, out / name)
        save_file({name: tensor.contiguous() for name, tensor in low.items()}, out / "model.safetensors")
        shutil.copymode(out / "vocabulary.tsv", out / "model.safetensors")
        stored = {"dtype": "float16", "of": sha256_file(folder / "model.safetensors")[:16]}
        write_json(out / "config.json", {**config, "stored": stored})
