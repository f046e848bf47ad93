"""Pretrain, run and judge scLong, and judge anything that claims to be better."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["__version__", "embed", "load_checkpoint"]

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
