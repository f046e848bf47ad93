"""The released files of the authors, which only a person can fetch: where they belong. Torch-free."""

from __future__ import annotations

from pathlib import Path

from sclong.errors import ConfigError

GENES = "selected_genes_27k.txt"
WANTED = f"the weights (.pth), the hyper-parameters (.pkl) and {GENES}"


def released_files(folder: str | None) -> dict[str, str] | None:
    """Return the files of the release, or None where the folder is not there or empty.

    Parameters
    ----------
    folder
        Key ``released`` of the configuration; None: the released checkpoint is not wanted.

    Returns
    -------
    dict
        ``weights``, ``hyperparameters``, ``genes``: paths.

    Raises
    ------
    ConfigError
        Some of the files are there and others are missing, an empty one, or several of a kind.
    """
    place = Path(folder) if folder else None
    if place is None or not place.is_dir():
        return None
    found = {
        "weights": sorted(place.glob("*.pth")),
        "hyperparameters": sorted(place.glob("*.pkl")),
        "genes": [place / GENES] if (place / GENES).is_file() else [],
    }
    if not any(found.values()):
        return None
    wrong = [name for name, files in found.items() if len(files) != 1 or not files[0].stat().st_size]
    if wrong:
        counts = ", ".join(f"{len(files)} of {name}" for name, files in found.items())
        raise ConfigError(
            f"{place}: {counts}, some of them missing or empty",
            f"{WANTED}, one file of each",
            "complete the folder (docs/import_checkpoint.md), or set released: null",
        )
    return {name: str(files[0]) for name, files in found.items()}


def lacks_release(folder: str | None) -> str:
    """Say in one line what a run without the released checkpoint lacks."""
    return f"{WANTED} are not in {folder or 'data/authors'} (docs/import_checkpoint.md)"
