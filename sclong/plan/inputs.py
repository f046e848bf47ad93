"""Before a run: files that a configuration names are there, and are those that their rows describe. Torch-free."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sclong.errors import ConfigError, FetchError, nearest
from sclong.io.files import write_json
from sclong.io.sources import fault
from sclong.plan.addresses import split_address
from sclong.world.files import WORLD_FILES

if TYPE_CHECKING:
    from sclong.plan.plan import Plan

CHECKED = "checked.json"
"""Below the folder of fetched files: size, time and hash of each file when its hash was last compared."""


def named_inputs(plan: Plan) -> dict[str, str]:
    """Return key of the configuration -> address, for every file of corpus, vocabulary, GO and Gene2Vec."""
    config = plan.config
    out = {f"corpus.sources, {name}": source.input for name, source in plan.corpus.sources.items()}
    sections = {
        "vocabulary": ("annotation", "symbols", "genes"),
        "go": ("obo", "annotation", "parents"),
        "gene2vec": ("vectors", "genes"),
    }
    for section, keys in sections.items():
        for key in keys:
            address = getattr(getattr(config, section), key)
            if address:
                out[f"{section}.{key}"] = address
    return out


def require_inputs(plan: Plan) -> None:
    """Refuse a configuration that names a file that does not exist.

    Snakemake does not look for the inputs of a job whose outputs are there already: without this, a mistyped name in a
    folder with results would end well, on the results of another configuration.

    Raises
    ------
    ConfigError
        Names the key, the file and, where there is one, the nearest that exists.
    CardError
        An address of an unknown kind or of no row of config/sources.tsv.
    """
    for key, address in named_inputs(plan).items():
        kind, rest = split_address(address)
        path = Path(plan.paths.path(address))
        if kind == "world" and rest not in WORLD_FILES:
            like = nearest(rest, WORLD_FILES)
            raise ConfigError(
                f"{key}: {address!r}: the simulated world has no file {rest!r}",
                f"one of {', '.join(WORLD_FILES)}",
                f"write world:{like[0]}" if like else "correct the address",
            )
        if kind in ("file", "resource") and not path.exists():
            like = nearest(path.name, [p.name for p in path.parent.iterdir()]) if path.parent.is_dir() else []
            raise ConfigError(
                f"{key}: {address!r}: there is no {path}",
                "a file that exists",
                f"write {kind}:{Path(rest).parent / like[0]}" if like else "correct the path, or put the file there",
            )


def require_right_bytes(plan: Plan, paths: Iterable[str]) -> None:
    """Compare fetched files, and those put there by hand, with the hashes of their rows.

    A file whose size, time and row are as at its last comparison is not read again.

    Parameters
    ----------
    plan
        Its sources, and its folder of fetched files.
    paths
        Files; those that are not fetched ones are passed over, and so are those that are not there.

    Raises
    ------
    FetchError
        A file is not the one that its row describes.
    """
    folder = Path(plan.config.data_dir) / "sources"
    record = folder / CHECKED
    known: dict[str, Any] = _read(record)
    before = dict(known)
    for path in sorted(set(paths)):
        file = Path(path)
        source = plan.sources.get(plan.paths.address_of(path).removeprefix("source:"))
        if source is None or not file.is_file():
            continue
        stat = file.stat()
        now = [stat.st_size, stat.st_mtime_ns, stat.st_ino, source.known_hash]
        if known.get(source.key) == now:
            continue
        wrong = fault(file, source)
        if wrong is not None:
            raise FetchError(
                f"{path}: {wrong}: not the file of row {source.key} of the table of sources",
                source.expected,
                f"set the file aside (mv {path} {path}.other): the right one is then fetched; to use your own file, "
                "name it in the configuration as file:PATH",
            )
        known[source.key] = now
    if known != before:
        try:
            write_json(record, known)
        except OSError:  # a folder that is read only: files are compared again next time
            return


def _read(record: Path) -> dict[str, Any]:
    try:
        found = json.loads(record.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # it only saves time
        return {}
    return found if isinstance(found, dict) else {}
