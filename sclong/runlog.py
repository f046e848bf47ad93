"""Progress and logs: one line per interval, no carriage returns, uncaught errors end in the log."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable
from pathlib import Path

from sclong.errors import SclongError

LOGGER = logging.getLogger("sclong")


def start(log_file: str | Path | None = None, level: int = logging.INFO) -> logging.Logger:
    """Send log lines to `log_file` (or stderr) and make uncaught errors end there too.

    Parameters
    ----------
    log_file
        File that takes the log; its folder is made. None: standard error.
    level
        Lowest level that is written.
    """
    handler: logging.Handler
    if log_file:
        Path(log_file).parent.mkdir(parents=True, exist_ok=True)
        handler = logging.FileHandler(log_file, mode="w")
    else:
        handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s", "%Y-%m-%d %H:%M:%S"))
    LOGGER.handlers[:] = [handler]
    LOGGER.setLevel(level)
    LOGGER.propagate = False
    return LOGGER


def explain(error: BaseException) -> str:
    """Return the text a person should read for `error`: three parts for ours, the type's name for others."""
    return str(error) if isinstance(error, SclongError) else f"{type(error).__name__}: {error}"


class Progress:
    """Log one line per interval with rate and time left.

    Parameters
    ----------
    label
        What is being done ("embedding cells").
    total
        Number of units to do.
    unit
        Name of the unit in the rate ("cells").
    every_s
        Seconds between lines.
    """

    def __init__(
        self, label: str, total: int, unit: str, every_s: float = 10.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.label, self.total, self.unit, self.every_s, self.clock = label, total, unit, every_s, clock
        self.start = self.last = clock()
        self.done = 0

    def update(self, n: int = 1, note: str = "") -> None:
        """Count `n` more units; write a line when the interval has passed or all is done."""
        self.done += n
        now = self.clock()
        if now - self.last < self.every_s and self.done < self.total:
            return
        self.last = now
        rate = self.done / max(now - self.start, 1e-9)
        left_s = (self.total - self.done) / max(rate, 1e-9)
        LOGGER.info(
            "%s: %d/%d %s, %.3g %s/s, %.0f s left%s",
            self.label, self.done, self.total, self.unit, rate, self.unit, left_s, f", {note}" if note else "",
        )  # fmt: skip
