"""Pretrain, run and judge scLong, and judge anything that claims to be better."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["__version__", "embed", "load_checkpoint"]

# Every file has one writer and gets its name when it is whole, so that HDF5's locks guard nothing here; on Lustre and
# NFS they fail or hang. Read by HDF5 when it is loaded.
os.environ.setdefault("HDF5_USE_FILE_LOCKING", "FALSE")

if TYPE_CHECKING:
    from sclong.checkpoint.folder import load_checkpoint
    from sclong.embed.embedding import embed


def __getattr__(name: str) -> Any:
    """Import the Python interface when it is asked for: a dry run of the workflow never loads torch."""
    if name == "load_checkpoint":
        from sclong.checkpoint.folder import load_checkpoint

        return load_checkpoint
    if name == "embed":
        from sclong.embed.embedding import embed

        return embed
    raise AttributeError(f"module 'sclong' has no attribute {name!r}")
