"""Files that are there whole or not at all, and their hashes."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sclong.errors import InputDataError


def _fsync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Give a temporary file name in the folder of `path`; move it there when the block ends well.

    What existed at `path` stays as it was if the block raises, the process is killed or the disk is full.

    Parameters
    ----------
    path
        Final file; of a link, its target is replaced. Its folder is made. The temporary name keeps the suffixes, for
        writers that look at them.

    Examples
    --------
    >>> with atomic_path("table.tsv") as tmp:  # doctest: +SKIP
    ...     tmp.write_text("gene")
    """
    path = _place_of(Path(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    fd, name = tempfile.mkstemp(prefix=".tmp-", suffix="-" + path.name, dir=path.parent)
    os.close(fd)
    tmp = Path(name)
    try:
        yield tmp
        os.chmod(tmp, 0o666 & ~_umask())
        _fsync(tmp)
        os.replace(tmp, path)
        _fsync(path.parent)
    finally:
        tmp.unlink(missing_ok=True)


def _place_of(path: Path) -> Path:
    """Return where a file is written: the target of a link, which stays one. A device or a pipe is never replaced.

    Raises
    ------
    InputDataError
    """
    if path.is_symlink():
        path = path.resolve()
    if path.exists() and not path.is_file():
        kind = "a folder" if path.is_dir() else "a device or a pipe"
        raise InputDataError(f"{path} is {kind}", "the name of a file", "name another file: this one stays as it is")
    return path


@contextmanager
def atomic_dir(path: str | Path) -> Iterator[Path]:
    """Give a temporary folder beside `path`; put it in its place when the block ends well.

    An existing folder is replaced only once the new one is complete.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    tmp = Path(tempfile.mkdtemp(prefix=".tmp-", suffix="-" + path.name, dir=path.parent))
    try:
        yield tmp
        os.chmod(tmp, 0o777 & ~_umask())
        for file in tmp.rglob("*"):
            if file.is_file():
                _fsync(file)
        old = None
        if path.exists():
            old = Path(tempfile.mkdtemp(prefix=".old-", suffix="-" + path.name, dir=path.parent))
            os.replace(path, old)
        os.replace(tmp, path)
        if old is not None:
            shutil.rmtree(old)
        _fsync(path.parent)
    finally:
        shutil.rmtree(tmp, ignore_errors=True)


def move_dir(source: Path, target: Path) -> None:
    """Move a folder to a place that is free, whole or not at all, also to another file system."""
    try:
        os.replace(source, target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        with atomic_dir(target) as tmp:
            shutil.copytree(source, tmp, dirs_exist_ok=True)
        shutil.rmtree(source)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn an error of the file system into one that says what is there now: what was there before."""
    try:
        yield
    except OSError as error:
        reason = " ".join(str(error).split())[:200]
        raise InputDataError(
            f"{path} cannot be written: {type(error).__name__}: {reason}",
            "a folder that takes files, with enough space",
            "free space, or choose another folder; nothing is there but what was there before",
        ) from error


def write_text(path: str | Path, text: str) -> None:
    """Write `text` atomically (UTF-8)."""
    with atomic_path(path) as tmp:
        tmp.write_text(text, encoding="utf-8")


def write_json(path: str | Path, value: Any) -> None:
    """Write `value` as indented JSON with sorted keys, atomically."""
    write_text(path, json.dumps(value, indent=2, sort_keys=True) + "\n")


def read_json(path: str | Path) -> Any:
    """Read a JSON file."""
    return json.loads(Path(path).read_text(encoding="utf-8"))


def sha256_file(path: str | Path) -> str:
    """Return the hexadecimal SHA-256 of a file's bytes."""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def sha256_tree(path: str | Path) -> str:
    """Return one SHA-256 over the names and bytes of all files below a folder (or of one file)."""
    path = Path(path)
    if path.is_file():
        return sha256_file(path)
    digest = hashlib.sha256()
    for file in sorted(p for p in path.rglob("*") if p.is_file() and p.name != ".snakemake_timestamp"):
        digest.update(f"{file.relative_to(path).as_posix()}\0{sha256_file(file)}\n".encode())
    return digest.hexdigest()
