"""Published hashes of files: ``sha256:``, ``sha512:``, ``md5:`` and ``gitblob:`` (the id of a git blob)."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

DIGITS = {"sha256": 64, "sha512": 128, "md5": 32, "gitblob": 40}
"""Hexadecimal digits of each kind of hash."""
OF_ARCHIVE = "archive-"
"""Before a hash: it is that of the archive which a file is a member of."""
FORM = (
    "sha256:, sha512:, md5: or gitblob: and the hexadecimal digits, lower case (archive-sha256: of the whole archive)"
)


def is_hash(text: str) -> bool:
    """Return whether `text` is ``KIND:DIGITS`` with a known kind and as many digits as it has."""
    kind, _, digits = text.partition(":")
    return kind in DIGITS and re.fullmatch(rf"[0-9a-f]{{{DIGITS[kind]}}}", digits) is not None


def file_hash(path: str | Path, kind: str) -> str:
    """Return the hash of a file as ``KIND:DIGITS``.

    A git blob id is the SHA-1 of ``blob SIZE``, a zero byte and the content (``git hash-object FILE`` prints it).

    Parameters
    ----------
    path
        An existing file.
    kind
        One of `DIGITS`.
    """
    digest = hashlib.sha1(usedforsecurity=False) if kind == "gitblob" else hashlib.new(kind, usedforsecurity=False)
    with open(path, "rb") as handle:
        if kind == "gitblob":
            digest.update(b"blob %d\0" % Path(path).stat().st_size)
        while chunk := handle.read(1 << 20):
            digest.update(chunk)
    return f"{kind}:{digest.hexdigest()}"
