"""Checkpoints that come with the package, by name.

A name (``base``) stands for a folder of ``resources/checkpoints``; a wheel carries these folders as
``sclong/pretrained``.
"""

from __future__ import annotations

from pathlib import Path

from sclong.errors import CheckpointError, listing

PACKAGE = Path(__file__).parents[1]
PLACES = (PACKAGE / "pretrained", PACKAGE.parent / "resources" / "checkpoints")


def shipped() -> dict[str, Path]:
    """Return the checkpoints that come with the package: name to folder."""
    folders = [
        f for place in PLACES if place.is_dir() for f in sorted(place.iterdir()) if (f / "model.safetensors").is_file()
    ]
    return {folder.name: folder for folder in reversed(folders)}


def find_checkpoint(name_or_folder: str | Path) -> Path:
    """Return the folder of a checkpoint that is given by its folder, or by the name of one that comes with the package.

    Raises
    ------
    CheckpointError
        There is no such folder, and no such name.
    """
    folder = Path(name_or_folder)
    if folder.is_dir():
        return folder
    known = shipped()
    if str(name_or_folder) in known:
        return known[str(name_or_folder)]
    raise CheckpointError(
        f"{name_or_folder}: no such folder",
        "a checkpoint folder" + (f", or one of {listing(list(known))}, which come with sclong" if known else ""),
        "give the folder that pretraining or import-checkpoint wrote",
    )
