"""A member of a zip or tar archive at an http(s) address, without unpacking or, where it can be, fetching the rest."""

from __future__ import annotations

import io
import re
import tarfile
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from sclong.io.download import (
    CHUNK_BYTES,
    LONGEST_WAIT_S,
    WALL,
    AddressError,
    Patience,
    TransientError,
    WrongBytesError,
    complete,
    is_page,
    opened,
    part_file,
)
from sclong.io.hashes import file_hash
from sclong.runlog import LOGGER

BLOCK_BYTES = 4 << 20
"""Bytes of one request for a piece of an archive."""
LARGEST_MEMBER = 1 << 38
"""A member of unknown size is not unpacked beyond this many bytes (256 GiB)."""
LARGEST_RATIO = 2000
"""Nor beyond so many times the compressed size that the archive states: deflate cannot exceed 1,032."""


class HttpFile(io.RawIOBase):
    """A file at an address whose server gives ranges: readable at any place, a block of bytes per request.

    Parameters
    ----------
    url
        http(s) address.
    patience
        How often a request that failed is repeated.

    Raises
    ------
    AddressError
        The address cannot give the file, or gives no ranges (`ranges` is then False).
    """

    def __init__(self, url: str, patience: Patience) -> None:
        self.url, self.patience = url, patience
        self.place, self.start, self.block = 0, 0, b""
        first = self._get(0, 256)
        self.ranges = first is not None
        self.size = first[1] if first else 0
        if first and is_page(url, first[0]):
            raise AddressError(f"an html page in place of the archive: {WALL}")

    def _get(self, start: int, stop: int) -> tuple[bytes, int] | None:
        """Return bytes and the size of the whole file; None where the server does not give ranges."""
        failures = 0
        while True:
            try:
                with opened(self.url, self.patience.timeout_s, f"{start}-{stop - 1}") as response:
                    span = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+)", response.headers.get("Content-Range", ""))
                    if response.status != 206 or span is None:
                        if is_page(self.url, response.read(256)):
                            raise AddressError(f"an html page in place of the archive: {WALL}")
                        return None
                    content = response.read()
                    if int(span[1]) != start or len(content) != int(span[2]) - start + 1:
                        raise TransientError(f"{len(content)} bytes of the range {span[0]}")
                    return content, int(span[3])
            except TransientError as error:
                failures += 1
                if failures > self.patience.retries:
                    raise AddressError(f"{error} ({failures} requests without progress)") from None
                time.sleep(min(max(self.patience.backoff_s * 2 ** (failures - 1), error.wait_s), LONGEST_WAIT_S))

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def tell(self) -> int:
        """Return the place of the next byte."""
        return self.place

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a place; returns it."""
        self.place = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self.place, io.SEEK_END: self.size}[whence]
        return self.place

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Read bytes of one block; returns how many."""
        if self.place >= self.size:
            return 0
        if not self.start <= self.place < self.start + len(self.block):
            found = self._get(self.place, min(self.place + BLOCK_BYTES, self.size))
            if found is None:
                raise AddressError("the server stopped giving ranges")
            self.start, self.block = self.place, found[0]
        inside = self.place - self.start
        piece = self.block[inside : inside + len(buffer)]
        buffer[: len(piece)] = piece
        self.place += len(piece)
        return len(piece)


@contextmanager
def from_zip(url: str, member: str, scratch: Path, patience: Patience) -> Iterator[IO[bytes]]:
    """Open a member of a zip archive: by ranges, else from a copy of the whole archive in `scratch`.

    Raises
    ------
    AddressError
        The address cannot give the archive, which is damaged, has no such member, or states an impossible size.
    """
    remote = HttpFile(url, patience)
    try:
        if remote.ranges:
            with _zip_member(io.BufferedReader(remote, BLOCK_BYTES), member) as reader:
                yield reader
            return
        LOGGER.info("%s: the server gives no ranges: the whole archive is fetched", url)
        with part_file(scratch / "archive.zip") as (path, part):
            complete(url, part, None, patience, label=url.rpartition("/")[2])
            with open(path, "rb") as whole, _zip_member(whole, member) as reader:
                yield reader
    except (zipfile.BadZipFile, WrongBytesError, EOFError) as error:
        raise AddressError(f"the archive cannot be read: {error}") from None


@contextmanager
def _zip_member(archive: IO[bytes] | io.BufferedReader, member: str) -> Iterator[IO[bytes]]:
    with zipfile.ZipFile(archive) as opened_zip:
        info = opened_zip.getinfo(_find(opened_zip.namelist(), member))
        if info.file_size > LARGEST_RATIO * max(info.compress_size, 1):
            raise AddressError(f"{member}: {info.file_size} bytes in {info.compress_size}: not a file, an archive bomb")
        with opened_zip.open(info) as reader:
            yield reader


@contextmanager
def from_whole(url: str, digest: str, member: str, folder: Path, patience: Patience) -> Iterator[IO[bytes]]:
    """Open a member of an archive whose own hash is published: the whole archive is fetched once and compared.

    Parameters
    ----------
    url, digest
        Address of the archive (zip, or tar of any compression), and its hash as ``KIND:DIGITS``.
    member
        Path in the archive.
    folder
        Where the archive is kept, by its hash, for its other members; it may be deleted at any time.
    patience
        How often a request that failed is repeated.

    Raises
    ------
    AddressError
        The address cannot give the archive, which is another one or has no such member.
    """
    folder.mkdir(parents=True, exist_ok=True)
    whole = folder / digest.replace(":", "-")
    if not whole.is_file():
        with part_file(whole) as (path, part):
            if not whole.is_file():  # another process has fetched it while this one waited
                try:
                    complete(url, part, None, patience, label=url.rpartition("/")[2])
                except WrongBytesError as error:
                    part.truncate(0)
                    raise AddressError(str(error)) from None
                found = file_hash(path, digest.partition(":")[0])
                if found != digest:
                    part.truncate(0)
                    raise AddressError(f"another archive: found {found}, expected {digest}")
                path.replace(whole)
    try:
        with open(whole, "rb") as file:
            if zipfile.is_zipfile(file):
                with _zip_member(file, member) as reader:
                    yield reader
                return
            file.seek(0)
            copy = whole.with_name(f"{whole.name}.member")
            with tarfile.open(fileobj=file, mode="r:*") as archive:
                _copy_member(archive, member, copy)
        try:
            with open(copy, "rb") as reader:
                yield reader
        finally:
            copy.unlink()
    except (zipfile.BadZipFile, tarfile.TarError, EOFError) as error:
        raise AddressError(f"the archive cannot be read: {error}") from None


@contextmanager
def from_tar(url: str, member: str, scratch: Path, patience: Patience) -> Iterator[IO[bytes]]:
    """Open a member of a tar archive (plain, gz, bz2 or xz); the archive is read up to the member and not kept.

    The member is copied to `scratch` first: a stream cannot be continued after a cut connection, so it is read again.

    Raises
    ------
    AddressError
        The address cannot give the archive, which is damaged or has no such member.
    """
    copy, failures = scratch / "member", 0
    while True:
        try:
            with opened(url, patience.timeout_s) as response, tarfile.open(fileobj=response, mode="r|*") as archive:
                _copy_member(archive, member, copy)
            break
        except (TransientError, tarfile.ReadError, EOFError) as error:
            failures += 1
            if failures > patience.retries:
                raise AddressError(f"the archive cannot be read: {error}") from None
            time.sleep(min(patience.backoff_s * 2 ** (failures - 1), LONGEST_WAIT_S))
    with open(copy, "rb") as reader:
        yield reader


def _copy_member(archive: tarfile.TarFile, member: str, copy: Path) -> None:
    seen = []
    for entry in archive:
        seen.append(entry.name)
        if entry.isfile() and entry.name.removeprefix("./") == member:
            reader = archive.extractfile(entry)
            if reader is not None:
                with open(copy, "wb") as writer:
                    limited_copy(reader, writer, entry.size)
                return
    _find(seen, member)


def _find(names: list[str], member: str) -> str:
    for name in names:
        if name.removeprefix("./") == member:
            return name
    like = [name for name in names if name.rpartition("/")[2] == member.rpartition("/")[2]]
    raise AddressError(f"the archive has no member {member}{f'; it has {like[0]}' if like else ''}")


def limited_copy(reader: IO[bytes], writer: IO[bytes], size: int | None) -> None:
    """Copy bytes, but no more than one beyond `size`: what unpacks to more than it should is given up early.

    Raises
    ------
    AddressError
        There are more.
    """
    left = (LARGEST_MEMBER if size is None else size) + 1
    while left and (chunk := reader.read(min(CHUNK_BYTES, left))):
        writer.write(chunk)
        left -= len(chunk)
    if not left:
        raise AddressError(f"wrong bytes: more than the expected {LARGEST_MEMBER if size is None else size} bytes")


__all__ = ["HttpFile", "from_tar", "from_zip", "limited_copy"]
