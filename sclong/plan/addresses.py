"""Addresses of cards and configuration, and the files that they stand for. Torch-free."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sclong.errors import CardError
from sclong.io.sources import Source

KINDS = ("world", "source", "resource", "file")


def split_address(address: str) -> tuple[str, str]:
    """Split ``kind:rest`` and check the kind.

    Raises
    ------
    CardError
        For an unknown kind of address.
    """
    kind, _, rest = address.partition(":")
    if kind not in KINDS or not rest:
        raise CardError(f"address {address!r}", f"one of {', '.join(k + ':...' for k in KINDS)}", "correct the address")
    return kind, rest


@dataclass(frozen=True)
class Paths:
    """Where files of a run lie.

    Attributes
    ----------
    results_dir, data_dir
        Folders of results and of fetched files.
    sources
        Rows of config/sources.tsv.
    """

    results_dir: str
    data_dir: str
    sources: Mapping[str, Source]

    def result(self, *parts: str) -> str:
        """Return a path below the results folder."""
        return "/".join([self.results_dir, *parts])

    def fetched(self, *parts: str) -> str:
        """Return a path below the folder of fetched files."""
        return "/".join([self.data_dir, *parts])

    def path(self, address: str) -> str:
        """Return the file that an address stands for.

        Raises
        ------
        CardError
            Unknown kind, or a source without a row in config/sources.tsv.
        """
        kind, rest = split_address(address)
        if kind == "source" and rest not in self.sources:
            raise CardError(
                f"address {address!r}: no such row in config/sources.tsv", "id/file of a row", "add the row"
            )
        return {
            "world": self.result("world", rest),
            "source": self.fetched("sources", rest),
            "resource": f"resources/{rest}",
            "file": rest,
        }[kind]

    def paths(self, value: str | list[str]) -> str | list[str]:
        """Resolve one address or a list of them."""
        return [self.path(v) for v in value] if isinstance(value, list) else self.path(value)

    def address_of(self, path: str) -> str:
        """Return the address of a fetched file; the inverse of :meth:`path`."""
        return "source:" + path.removeprefix(f"{self.data_dir}/sources/")

    def published_hash(self, key: str) -> str:
        """Return the published hash of a row of sources.tsv, or an empty string; the lock file does not count.

        Raises
        ------
        CardError
            When there is no such row.
        """
        self.path(f"source:{key}")
        return self.sources[key].hash
