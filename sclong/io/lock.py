"""The lock file of the table of sources: hash and size of files without a published hash, as first fetched."""

from __future__ import annotations

import csv
import re
from pathlib import Path

from sclong.errors import ConfigError, InputDataError
from sclong.io.files import atomic_path
from sclong.io.hashes import FORM, file_hash, is_hash

LOCK_COLUMNS = ("key", "hash", "bytes")


def lock_path(path: str | Path) -> Path:
    """Return the lock file of a table of sources: ``sources.lock.tsv`` beside ``sources.tsv``."""
    return Path(path).with_suffix(".lock.tsv")


def load_lock(path: str | Path) -> dict[str, tuple[str, int]]:
    """Return what a lock file recorded: ``ID/FILE`` -> hash and size; nothing where there is no such file.

    Raises
    ------
    ConfigError
        Wrong columns, or a row that is not as it should be (names its line).
    """
    path = Path(path)
    if not path.is_file():
        return {}
    out: dict[str, tuple[str, int]] = {}
    with open(path, newline="", encoding="utf-8", errors="replace") as handle:
        reader = csv.reader(handle, delimiter="\t", quoting=csv.QUOTE_NONE)
        if tuple(next(reader, [])) != LOCK_COLUMNS:
            raise ConfigError(
                f"{path}: wrong columns", f"the columns {list(LOCK_COLUMNS)}", "restore the file from git"
            )
        for cells in reader:
            if len(cells) != 3 or not is_hash(cells[1]) or not re.fullmatch(r"[0-9]+", cells[2]):
                raise ConfigError(
                    f"{path}, line {reader.line_num}: {cells}",
                    f"ID/FILE, a hash ({FORM}) and a size in bytes",
                    "restore the file from git, or remove the row: the file is then trusted once more",
                )
            out[cells[0]] = (cells[1], int(cells[2]))
    return out


def record_first_use(lock: str | Path, key: str, path: str | Path) -> None:
    """Write hash and size of a file without a published hash into the lock file, unless it is there already.

    Parameters
    ----------
    lock
        Lock file; it is made when it does not exist, and replaced whole.
    key
        ``ID/FILE``.
    path
        The file, complete.
    """
    known = load_lock(lock)
    if key in known:
        return
    known[key] = (file_hash(path, "sha256"), Path(path).stat().st_size)
    rows = [LOCK_COLUMNS, *((key, digest, str(size)) for key, (digest, size) in sorted(known.items()))]
    with atomic_path(Path(lock)) as tmp:
        tmp.write_text("".join("\t".join(row) + "\n" for row in rows), encoding="utf-8")


def require_locked(lock: str | Path, path: str | Path) -> None:
    """Compare a file that a person put in place with the lock file; record it there the first time.

    Parameters
    ----------
    lock
        Lock file.
    path
        The file; its key is ``by-hand/NAME``.

    Raises
    ------
    InputDataError
        It is another file than at its first use.
    """
    key = f"by-hand/{Path(path).name}"
    known = load_lock(lock).get(key)
    if known is None:
        record_first_use(lock, key, path)
        return
    found = file_hash(path, known[0].partition(":")[0])
    if found != known[0]:
        raise InputDataError(
            f"{path}: {found}: another file than at its first use",
            f"{known[0]} ({known[1]} bytes), as {lock} has it",
            f"put the first file back, or remove the row {key} from {lock} to trust this one",
        )
