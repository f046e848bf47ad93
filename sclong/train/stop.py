"""Asked to stop: by SIGTERM, by SIGUSR1 (SLURM's warning before the time is up), or because the launcher is gone."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType
from typing import Any

from sclong.errors import SclongError

SIGNALS = (signal.SIGTERM, signal.SIGUSR1)
RETRY = 75
"""Exit code of a training that was asked to stop and can go on: EX_TEMPFAIL of sysexits.h."""


class StopRequest:
    """Remembers that the process was asked to stop, until the next pass begins; a context manager.

    Attributes
    ----------
    reason : str
        Name of the signal; "" when nobody asked.
    """

    def __init__(self) -> None:
        self.reason = ""
        self._before: dict[signal.Signals, Any] = {}
        self._parent = os.getppid() if "TORCHELASTIC_RUN_ID" in os.environ else None

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, _: FrameType | None) -> None:
        self.reason = signal.Signals(number).name

    def __bool__(self) -> bool:
        """Whether this process should stop."""
        if self._parent is not None and os.getppid() != self._parent:
            self.reason = self.reason or "the launcher is gone"
        return bool(self.reason)


class StopNowError(Exception):
    """A process was asked to stop, and all processes know it: raised between two passes, on all of them."""


class TrainingStoppedError(SclongError):
    """The training was asked to stop; its checkpoint is written."""
