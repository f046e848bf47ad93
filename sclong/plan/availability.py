"""Which files of a run can be had, and what to say of those that cannot. Torch-free."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sclong.config.cards import BenchmarkCard, DataSpec
from sclong.config.load import Config
from sclong.errors import FetchError, listing
from sclong.io.missing import missing_report
from sclong.io.sources import availability
from sclong.plan.addresses import Paths, split_address


@dataclass(frozen=True)
class Availability:
    """Says of addresses whether their files are here, in the mirror, can be fetched, or cannot be had."""

    config: Config
    paths: Paths

    def status(self, addresses: Sequence[str]) -> dict[str, str]:
        """Return address -> here, mirror, fetchable, or missing."""
        keys = [split_address(a)[1] for a in addresses if a.startswith("source:") and self.paths.path(a)]
        config = self.config
        found = availability(keys, self.paths.sources, config.data_dir, config.mirror, config.offline)
        status: dict[str, str] = {f"source:{key}": value for key, value in found.items()}
        for address in addresses:
            kind, _ = split_address(address)
            if kind in ("file", "resource"):
                status[address] = "here" if Path(self.paths.path(address)).exists() else "missing"
            elif kind == "world":
                status[address] = "here"
        return status

    def lost(self, addresses: Sequence[str]) -> list[str]:
        """Return the addresses whose files cannot be had as configured."""
        return [a for a, s in self.status(addresses).items() if s == "missing"]

    def lost_path(self, path: str) -> bool:
        """Say whether a file that must be fetched cannot be had as configured."""
        return bool(self.lost([self.paths.address_of(path)]))

    def near(self, spec: DataSpec) -> bool:
        """Say whether all files of a data set are here or in the mirror."""
        return set(self.status(addresses_of(spec)).values()) <= {"here", "mirror"}

    def explain_missing(self, addresses: Sequence[str]) -> str:
        """Say of each missing file what it is, where it comes from and where it belongs."""
        keys = [a.removeprefix("source:") for a in addresses if a.startswith("source:")]
        lines = [missing_report(keys, self.paths.sources, self.config.data_dir)] if keys else []
        by_hand = [a for a in addresses if a.startswith(("file:", "resource:"))]
        lines += [f"  {self.paths.path(a)}: put it there by hand" for a in by_hand]
        return "\n".join(lines)

    def require_local_census(self) -> None:
        """Refuse to read the public Census where no socket may be opened.

        Raises
        ------
        FetchError
        """
        census = self.config.corpus.census
        if census is not None and (census.uri is None or "://" in census.uri):
            raise FetchError(
                f"offline, and the corpus reads release {census.version} of the CELLxGENE Census",
                "a copy on a disk",
                "name the folder of a copy (corpus.census.uri), or drop offline: true, or set corpus.census: null",
            )

    def choose(self, card: BenchmarkCard) -> Choice:
        """Choose the first data of a card that can be had."""
        alternatives = card.alternatives(self.config.preset)
        if not alternatives:
            return Choice(None, f"its card has no data for preset {self.config.preset!r} ({card.name}.yaml)", False)
        reasons = []
        for spec in alternatives:
            lost = self.lost(addresses_of(spec))
            if not lost:
                return Choice(spec, "", True)
            reasons.append((spec, lost))
        public = [spec for spec, lost in reasons if all(self._has_public_address(a) for a in lost)]
        if public:  # offline: the run says in one message what all of them lack
            return Choice(public[0], "", True)
        spec, lost = reasons[0]
        if all(a.startswith("source:") for a in lost):
            return Choice(None, f"files without a public address, in no mirror: {listing(lost)}", False)
        return Choice(None, f"{card.name} ({spec.dataset}): {card.summary}\n{self.explain_missing(lost)}", True)

    def _has_public_address(self, address: str) -> bool:
        kind, rest = split_address(address)
        return kind == "source" and self.paths.sources[rest].kind != "mirror"


@dataclass(frozen=True)
class Choice:
    """The data of a benchmark: what can be had, or why nothing can, and whether a person can put it in place."""

    spec: DataSpec | None
    why: str
    can_be_put: bool


def addresses_of(spec: DataSpec) -> list[str]:
    """Return the addresses of all files of a data set."""
    return [a for v in spec.inputs.values() for a in (v if isinstance(v, list) else [v])]
