"""Rows of config/sources.tsv: external files, pinned by hash; what is here and what can be had. Opens no socket."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Literal

from sclong.errors import ConfigError, nearest
from sclong.io.hashes import FORM, OF_ARCHIVE, file_hash, is_hash
from sclong.io.lock import load_lock, lock_path

Kind = Literal["https", "pypi", "mirror"]
Availability = Literal["here", "mirror", "fetchable", "missing"]

KIND_OF_ACCESS: dict[str, Kind] = {"public": "https", "package": "pypi", "mirror": "mirror"}
ADDRESS_FORM: dict[Kind, re.Pattern[str]] = {
    "https": re.compile(r"https?://[^\s/]+/\S*|(?:zip|tar)\+https?://[^\s/]+/[^\s#]*#\S+"),
    "pypi": re.compile(r"pypi:(?P<requirement>[A-Za-z0-9][A-Za-z0-9._-]*==[^#\s]+)#(?P<member>\S.*)"),
    "mirror": re.compile(r"mirror-only: \S.*"),
}
ADDRESS_TEXT: dict[Kind, str] = {
    "https": "https://HOST/PATH, zip+https://HOST/ARCHIVE#MEMBER or tar+https://HOST/ARCHIVE#MEMBER; several with "
    "blanks between them",
    "pypi": "pypi:NAME==VERSION#MEMBER",
    "mirror": "mirror-only: where the bytes come from",
}


@dataclass(frozen=True, slots=True)
class Source:
    """One external file: where it comes from and which bytes it must have.

    Attributes
    ----------
    id, file
        Together the key of the row, ``ID/FILE``; also its place below ``data/sources`` and in a mirror.
    access
        ``public`` (an https address), ``package`` (a member of a published Python package) or ``mirror``
        (these exact bytes have no public address).
    url
        ``https://...`` (several, with blanks between them: each is tried when those before it fail),
        ``zip+https://...#MEMBER`` or ``tar+https://...#MEMBER`` (a member of an archive),
        ``pypi:NAME==VERSION#MEMBER`` or ``mirror-only: where the bytes come from``.
    hash
        Published hash of the file, ``KIND:DIGITS`` (see :mod:`sclong.io.hashes`), or ``archive-KIND:DIGITS`` where only
        that of the archive around it is published: the whole archive is then fetched and compared, and the hash of the
        member is locked. Empty: none is published, and the file is trusted on first use.
    bytes
        Size of the file; None: not published.
    licence, citation
        As stated by the carrier; what to cite.
    locked_hash, locked_bytes
        What the lock file recorded when a file without a published hash was first fetched; empty and None: nothing yet.
    """

    id: str
    file: str
    access: str
    url: str
    hash: str
    bytes: int | None
    licence: str
    citation: str
    locked_hash: str = ""
    locked_bytes: int | None = None

    @property
    def pinned(self) -> bool:
        """Whether a published hash says which bytes are right."""
        return bool(self.hash)

    @property
    def archive_hash(self) -> str:
        """Published hash of the archive that the file is a member of, or an empty string."""
        return self.hash.removeprefix(OF_ARCHIVE) if self.hash.startswith(OF_ARCHIVE) else ""

    @property
    def known_hash(self) -> str:
        """Published hash of the file, else the locked one, else an empty string."""
        return self.locked_hash if self.archive_hash else self.hash or self.locked_hash

    @property
    def known_bytes(self) -> int | None:
        """Published size, else the locked one, else None."""
        return self.locked_bytes if self.bytes is None else self.bytes

    @property
    def urls(self) -> list[str]:
        """Addresses of the origin, in the order in which they are tried."""
        return self.url.split() if self.kind == "https" else [self.url]

    @property
    def expected(self) -> str:
        """Size and hash that the file must have, in words."""
        size = "a file of any size" if self.known_bytes is None else f"{self.known_bytes} bytes"
        text = self.known_hash.replace(":", " ", 1)
        if self.archive_hash:
            archive = f"from an archive with {self.archive_hash.replace(':', ' ', 1)}"
            return f"{size} {archive}" + (f", with {text} as locked at its first use" if text else "")
        where = "" if self.pinned or not text else " (as locked at its first use)"
        return f"{size} with {text}{where}" if text else f"{size}; no hash is published"

    @property
    def key(self) -> str:
        """``ID/FILE``."""
        return f"{self.id}/{self.file}"

    @property
    def address(self) -> str:
        """Address in presets and cards: ``source:ID/FILE``."""
        return f"source:{self.key}"

    @property
    def kind(self) -> Kind:
        """How the origin is reached: ``https``, ``pypi`` or ``mirror`` (not at all)."""
        return KIND_OF_ACCESS[self.access]

    @property
    def package_member(self) -> tuple[str, str]:
        """``NAME==VERSION`` and the member's path, of a row of kind ``pypi``."""
        requirement, _, member = self.url.removeprefix("pypi:").partition("#")
        return requirement, member


COLUMNS = tuple(field.name for field in fields(Source) if not field.name.startswith("locked_"))


def fault(path: str | Path, source: Source) -> str | None:
    """Say what is wrong with a file's bytes; None when they are the right ones, as far as that is known."""
    size, expected = Path(path).stat().st_size, source.known_bytes
    if expected is not None and size != expected:
        return f"found {size} bytes, expected {expected}"
    if not size and expected is None:
        return "found an empty file"
    if not source.known_hash:
        return None
    found = file_hash(path, source.known_hash.partition(":")[0])
    return None if found == source.known_hash else f"found {_words(found)}, expected {_words(source.known_hash)}"


def _words(text: str) -> str:
    return text.replace(":", " ", 1)


def load_sources(path: str | Path) -> dict[str, Source]:
    """Read and check the table of sources, and the lock file beside it.

    Parameters
    ----------
    path
        Tab-separated table with the columns of :class:`Source`; see docs/sources.md.

    Returns
    -------
    dict
        ``ID/FILE`` -> row, in the order of the file.

    Raises
    ------
    ConfigError
        No such file, wrong columns, or a row that is not as it should be (names its line).
    """
    path = Path(path)
    if not path.is_file():
        raise ConfigError(f"no table of sources at {path}", "config/sources.tsv", "run from the repository's root")
    out: dict[str, Source] = {}
    lock = load_lock(lock_path(path))
    with open(path, newline="", encoding="utf-8", errors="replace") as handle:
        reader = csv.reader(handle, delimiter="\t", quoting=csv.QUOTE_NONE)
        header = next(reader, [])
        if tuple(header) != COLUMNS:
            raise ConfigError(f"{path}: columns {header}", f"the columns {list(COLUMNS)}", "correct the first line")
        for cells in reader:
            where = f"{path}, line {reader.line_num}"
            source = _parse_row(cells, where)
            if source.key in out:
                raise ConfigError(f"{where}: {source.key!r} appears twice", "one row per file", "remove one of them")
            if (not source.hash or source.archive_hash) and source.key in lock:
                digest, size = lock[source.key]
                source = replace(source, locked_hash=digest, locked_bytes=size)
            out[source.key] = source
    return out


def _parse_row(cells: list[str], where: str) -> Source:
    if len(cells) != len(COLUMNS):
        raise ConfigError(f"{where}: {len(cells)} cells", f"{len(COLUMNS)} cells, tab separated", "correct the row")
    row = dict(zip(COLUMNS, cells, strict=True))
    where = f"{where} ({row['id']}/{row['file']})"
    for column in ("id", "file"):
        if not row[column].strip(". ") or "/" in row[column] or "\\" in row[column]:
            raise ConfigError(f"{where}: {column} {row[column]!r}", "the name of a file, no path", "correct the row")
    if row["access"] not in KIND_OF_ACCESS:
        raise ConfigError(
            f"{where}: access {row['access']!r}", f"one of {', '.join(KIND_OF_ACCESS)}", "correct the row"
        )
    kind = KIND_OF_ACCESS[row["access"]]
    addresses = row["url"].split(" ") if kind == "https" else [row["url"]]
    if not all(ADDRESS_FORM[kind].fullmatch(address) for address in addresses):
        raise ConfigError(
            f"{where}: url {row['url']!r}", f"{ADDRESS_TEXT[kind]} (access {row['access']})", "correct the row"
        )
    if row["hash"] and not is_hash(row["hash"].removeprefix(OF_ARCHIVE)):
        raise ConfigError(
            f"{where}: hash {row['hash']!r}",
            f"{FORM}; empty where none is published",
            "write sha256: and what sha256sum prints",
        )
    if row["bytes"] and not re.fullmatch(r"[0-9]+", row["bytes"]):
        raise ConfigError(
            f"{where}: bytes {row['bytes']!r}",
            "a whole number, or nothing where it is not known",
            "write the file's size",
        )
    if row["hash"].startswith(OF_ARCHIVE) and not all(split_archive(address)[0] for address in addresses):
        raise ConfigError(
            f"{where}: hash {row['hash']!r} of an archive, and an address that is none",
            "zip+https://...#MEMBER or tar+https://...#MEMBER",
            "correct the row",
        )
    if kind != "https" and not (row["hash"] and row["bytes"]):
        raise ConfigError(
            f"{where}: no hash or no size", f"both, for access {row['access']}", "write what sha256sum and wc -c print"
        )
    return Source(**{**row, "bytes": int(row["bytes"]) if row["bytes"] else None})  # type: ignore[arg-type]


def select(keys: Iterable[str], sources: Mapping[str, Source]) -> list[Source]:
    """Return the rows with these keys, each once, in order.

    Raises
    ------
    ConfigError
        For a key without a row; names the nearest one.
    """
    out = []
    for key in dict.fromkeys(keys):
        if key not in sources:
            like = nearest(key, sources)
            raise ConfigError(
                f"source {key!r}: no such row in the table of sources",
                "ID/FILE of a row",
                f"write {like[0]!r}" if like else "add the row to config/sources.tsv",
            )
        out.append(sources[key])
    return out


def local_path(source: Source, data_dir: str | Path) -> Path:
    """Return the place of a fetched file: ``DATA_DIR/sources/ID/FILE``."""
    return Path(data_dir) / "sources" / source.id / source.file


def is_http(mirror: str | Path | None) -> bool:
    """Say whether a mirror is an http(s) address, and not a folder."""
    return str(mirror).startswith(("http://", "https://"))


def mirror_folder(mirror: str | Path | None) -> Path | None:
    """Return the folder of a mirror; None without a mirror or when it is an http(s) address.

    Raises
    ------
    ConfigError
        When it is neither an address nor a folder.
    """
    if not mirror or is_http(mirror):
        return None
    folder = Path(mirror).expanduser()
    if not folder.is_dir():
        raise ConfigError(
            f"mirror {str(mirror)!r}: no such folder",
            "a folder laid out as ID/FILE, or an http(s) address of one",
            "correct 'mirror' in config/config.yaml (or --mirror)",
        )
    return folder


def availability(
    keys: Iterable[str],
    sources: Mapping[str, Source],
    data_dir: str | Path,
    mirror: str | Path | None = None,
    offline: bool = False,
) -> dict[str, Availability]:
    """Say of each file whether it is here or can be had. Looks at folders only, never at the network.

    Parameters
    ----------
    keys
        ``ID/FILE`` of rows.
    sources
        The table, from :func:`load_sources`.
    data_dir
        Folder of fetched files (see :func:`local_path`).
    mirror
        Folder or http(s) address that is asked before the origin.
    offline
        Nothing may be asked over the network.

    Returns
    -------
    dict
        Key -> ``here`` (its name is taken by a file of the right size, which is never 0; the hash is not looked at),
        ``mirror`` (the mirror is a folder that has
        it), ``fetchable`` (it has a public address, or the mirror is an http(s) address, and the network may be
        used), ``missing``.

    Raises
    ------
    ConfigError
        A key without a row; a mirror that is not there.
    """
    folder = mirror_folder(mirror)

    def status(source: Source) -> Availability:
        path = local_path(source, data_dir)
        size = path.stat().st_size if path.is_file() else 0
        if (size or source.bytes == 0) and path.is_file() and size == (source.known_bytes or size):
            return "here"
        if folder is not None and (folder / source.id / source.file).is_file():
            return "mirror"
        if not offline and (source.kind != "mirror" or is_http(mirror)):
            return "fetchable"
        return "missing"

    return {source.key: status(source) for source in select(keys, sources)}


def split_archive(url: str) -> tuple[str, str, str]:
    """Return the kind of archive ("zip", "tar" or ""), its address and the member's path.

    Examples
    --------
    >>> split_archive("zip+https://example.org/a.zip#b/c.csv")
    ('zip', 'https://example.org/a.zip', 'b/c.csv')
    >>> split_archive("https://example.org/c.csv")
    ('', 'https://example.org/c.csv', '')
    """
    kind, plus, rest = url.partition("+")
    if plus and kind in ("zip", "tar"):
        address, _, member = rest.partition("#")
        return kind, address, member
    return "", url, ""
