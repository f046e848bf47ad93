"""Files over http(s) that survive cut connections: what came is kept in a ``.part`` file and resumed."""

from __future__ import annotations

import fcntl
import http.client
import os
import re
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

from sclong import __version__
from sclong.runlog import LOGGER, Progress

CHUNK_BYTES = 1 << 20
LONGEST_WAIT_S = 60.0
WALL = "the server wants a browser, a login or a licence to be accepted, or is still preparing the file"
TRANSIENT_STATUS = frozenset({408, 429, 500, 502, 503, 504})


class AddressError(Exception):
    """An address cannot give the file; another one may."""


class WrongBytesError(Exception):
    """What came is not the file: it must be discarded."""


class TransientError(Exception):
    """A request failed in a way that another one may mend; `wait_s` is what the server asked for."""

    def __init__(self, reason: str, wait_s: float = 0.0) -> None:
        super().__init__(reason)
        self.wait_s = wait_s


@dataclass(frozen=True)
class Patience:
    """How long a server is borne with (see :func:`sclong.io.fetch.fetch`)."""

    retries: int
    timeout_s: float
    backoff_s: float


@contextmanager
def part_file(destination: Path) -> Iterator[tuple[Path, IO[bytes]]]:
    """Open ``DESTINATION.part`` for appending, for this process alone; it is removed when it stays empty."""
    path = destination.with_name(destination.name + ".part")
    while True:
        part = open(path, "ab", buffering=0)  # noqa: SIM115 - closed below, or given out
        with suppress(OSError):  # some network file systems have no locks
            try:
                fcntl.flock(part, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                LOGGER.info("%s: another process is fetching it; waiting", destination)
                fcntl.flock(part, fcntl.LOCK_EX)
        if path.exists() and os.path.samestat(os.fstat(part.fileno()), path.stat()):
            break
        part.close()  # the other process has moved it into place meanwhile
    with part:
        try:
            yield path, part
        finally:
            if path.exists() and not path.stat().st_size:
                path.unlink()


def _size(part: IO[bytes]) -> int:
    return os.fstat(part.fileno()).st_size


def complete(url: str, part: IO[bytes], size: int | None, patience: Patience, *, label: str) -> None:
    """Ask `url` until `part` has all bytes; after a cut connection, only for those that it lacks.

    Parameters
    ----------
    url
        http(s) address.
    part
        File from :func:`part_file`; what it has is taken for the beginning of the answer.
    size
        Bytes of the whole file; None: as many as the server says, or sends.
    patience
        After more than `retries` requests in a row that failed transiently and brought nothing new, no more are sent.
    label
        Name of the file in the log.

    Raises
    ------
    AddressError
        The address cannot give the file. What it gave stays in `part`.
    WrongBytesError
        More bytes than `size`, or an answer that does not continue what `part` has.
    """
    failures, most = 0, _size(part)
    while size is None or _size(part) < size:
        try:
            said = _request(url, part, size, patience.timeout_s, label)
            if size is None:
                size = _size(part) if said is None else said
            if _size(part) < size:
                raise TransientError(f"connection ended after {_size(part)} of {size} bytes")
        except TransientError as error:
            failures = 0 if _size(part) > most else failures + 1
            most = max(most, _size(part))
            if failures > patience.retries:
                raise AddressError(f"{error} ({failures} requests without progress)") from None
            wait_s = min(max(patience.backoff_s * 2 ** max(failures - 1, 0), error.wait_s), LONGEST_WAIT_S)
            LOGGER.info("%s: %s: %s; again in %.3g s", label, url, error, wait_s)
            time.sleep(wait_s)
    if _size(part) > size:
        raise WrongBytesError(f"found more than the expected {size} bytes")


@contextmanager
def opened(url: str, timeout_s: float, span: str = "") -> Iterator[http.client.HTTPResponse]:
    """Open an address; what goes wrong, also while it is read, is one of this module's errors.

    Parameters
    ----------
    url
        http(s) address.
    timeout_s
        Longest silence of the server, in seconds.
    span
        Bytes that are asked for, as in the header Range (``0-99``); empty: all.

    Raises
    ------
    AddressError
        The address cannot give the file: an error status, or a page in its place (a login, a check for browsers).
    WrongBytesError
        HTTP 416: the server's file is shorter than the first byte that was asked for.
    TransientError
        Another request may mend it.
    """
    # gzip-encoded answers would be other bytes than the file's, and could not be resumed
    headers = {"User-Agent": f"sclong/{__version__}", "Accept-Encoding": "identity"}
    if span:
        headers["Range"] = f"bytes={span}"
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=timeout_s) as response:
            if response.status not in (200, 206):
                raise AddressError(f"HTTP {response.status} without the file: {WALL}")
            yield response
    except urllib.error.HTTPError as error:
        if error.code == 416 and span:
            raise WrongBytesError(
                f"HTTP 416: the server's file is not longer than {span.split('-')[0]} bytes"
            ) from None
        if error.code in TRANSIENT_STATUS:
            asked = error.headers.get("Retry-After", "")
            raise TransientError(f"HTTP {error.code} {error.reason}", float(asked) if asked.isdigit() else 0) from None
        hint = f": {WALL}" if error.code in (401, 403) else ""
        raise AddressError(f"HTTP {error.code} {error.reason}{hint}") from None
    except urllib.error.URLError as error:
        raise _explain(error.reason) from None
    except (http.client.HTTPException, ConnectionError, TimeoutError, ssl.SSLError) as error:
        raise _explain(error) from None


def is_page(url: str, start: bytes) -> bool:
    """Return whether the first bytes of an answer are those of an html page, and the address is not one's."""
    if urlsplit(url).path.lower().endswith((".html", ".htm")):
        return False
    return start.lstrip(b"\xef\xbb\xbf \t\r\n")[:64].lower().startswith((b"<!doctype html", b"<html"))


def _request(url: str, part: IO[bytes], size: int | None, timeout_s: float, label: str) -> int | None:
    """Send one request for what `part` lacks, and append what comes; return the file's size as the server says it."""
    offset = _size(part)
    with opened(url, timeout_s, f"{offset}-" if offset else "") as response:
        length = response.headers.get("Content-Length", "")
        said = int(length) if length.isdigit() else None
        if offset and response.status == 206:
            span = response.headers.get("Content-Range", "")
            if not re.match(rf"bytes {offset}-", span):
                raise WrongBytesError(f"asked for bytes from {offset} on, the server sent {span!r}")
            whole = span.rpartition("/")[2]
            said = int(whole) if whole.isdigit() else None
        elif offset:  # the server sends the whole file
            part.truncate(0)
            offset = 0
        _append(response, url, part, size, offset, label)
        if not _size(part) and size != 0:
            raise AddressError(f"HTTP {response.status} with an empty body: {WALL}")
        return said


def _append(
    response: http.client.HTTPResponse, url: str, part: IO[bytes], size: int | None, offset: int, label: str
) -> None:
    known = size is not None
    progress = Progress(f"{label}{f' from byte {offset} on' if offset else ''}", (size or 0) - offset, "bytes")
    while chunk := response.read1(CHUNK_BYTES):
        if not _size(part) and is_page(url, chunk):
            raise AddressError(f"an html page in place of the file: {WALL}")
        view = memoryview(chunk)
        while view:  # the file is unbuffered: a disk that fills up takes a part of it
            view = view[part.write(view) :]
        if size is not None and _size(part) > size:
            raise WrongBytesError(f"found more than the expected {size} bytes")
        if known:
            progress.update(len(chunk))


def _explain(reason: object) -> TransientError | AddressError:
    """Tell a failure that another request may mend from one that it cannot."""
    text = f"{type(reason).__name__}: {reason}" if isinstance(reason, Exception) else str(reason)
    transient = (
        TimeoutError,
        ConnectionResetError,
        ConnectionAbortedError,
        BrokenPipeError,
        ssl.SSLError,
        http.client.IncompleteRead,
        http.client.BadStatusLine,
    )
    if isinstance(reason, transient) and not isinstance(reason, ssl.SSLCertVerificationError):
        return TransientError(text)
    return AddressError(text)
