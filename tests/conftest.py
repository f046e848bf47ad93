"""Shared by all tests."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # tests run side by side: one thread each
if not list(Path("/dev").glob("nvidia[0-9]*")):
    # Triton reads this once, when anything first imports it (torch.compile does), for the whole process
    os.environ.setdefault("TRITON_INTERPRET", "1")

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    """Two workers with two torch threads each would wait for each other on two cores."""
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository."""
    return ROOT


@pytest.fixture(scope="session")
def mirror() -> Path:
    """The folder with the real public files; the test skips where there is none."""
    folder = os.environ.get("SCLONG_MIRROR")
    if not folder or not Path(folder).is_dir():
        pytest.skip("the real public files are not here: set SCLONG_MIRROR to a folder laid out as <id>/<file>")
    return Path(folder)
