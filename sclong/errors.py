"""One family of errors. Each says what was found, what was expected and what to do."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class SclongError(Exception):
    """Base of every error that this project raises on purpose.

    Parameters
    ----------
    found
        What was found, with the offending value and where it stands.
    expected
        What was expected instead.
    action
        What the reader can do about it: a command, a configuration key, a file to fix.
    """

    def __init__(self, found: str, expected: str, action: str) -> None:
        self.found, self.expected, self.action = found, expected, action
        super().__init__(found, expected, action)

    def __str__(self) -> str:
        return f"{self.found}\n  expected:   {self.expected}\n  what to do: {self.action}"


class ConfigError(SclongError):
    """The configuration (config.yaml, a preset, ``--config``) is wrong."""


class CardError(SclongError):
    """A benchmark card or a model card is wrong."""


class InputDataError(SclongError):
    """Data that a user or a source provided cannot be used as it is."""


class VocabularyMismatchError(SclongError):
    """Two things that must share one gene vocabulary do not."""


class FetchError(SclongError):
    """An external file could not be had, or is not the file it should be."""


class CheckpointError(SclongError):
    """A checkpoint is missing, incomplete or does not fit."""


class DeviceError(SclongError):
    """The device that was asked for is not there."""


def nearest(name: str, valid: Iterable[str], n: int = 1) -> list[str]:
    """Return the valid names most like `name`, best first (may be empty)."""
    return get_close_matches(name, sorted(valid), n=n, cutoff=0.5)


def listing(values: Iterable[object], limit: int = 5) -> str:
    """Return the first `limit` values, quoted, and how many more there are.

    Examples
    --------
    >>> listing(["a", "b", "c"], limit=2)
    "'a', 'b' (and 1 more)"
    """
    items = list(values)
    shown = ", ".join(repr(str(v)) for v in items[:limit])
    return shown if len(items) <= limit else f"{shown} (and {len(items) - limit} more)"
