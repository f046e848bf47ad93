"""scLong as a model of the benchmarks: a checkpoint folder embeds cells and genes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from sclong.errors import CheckpointError
from sclong.models.base import Embedder, Embedding

if TYPE_CHECKING:
    import anndata


class ScLong(Embedder):
    """Cell and contextual gene embeddings of a scLong checkpoint, trained or not.

    Parameters
    ----------
    pooling
        How gene vectors become a cell's: "nonzero_mean" (over detected genes) or "mean" (over all).
    """

    def __init__(self, pooling: Literal["nonzero_mean", "mean"] = "nonzero_mean") -> None:
        self.pooling = pooling

    def embed(
        self, adata: anndata.AnnData, *, checkpoint: Path | None, seed: int, batch_size: int, device: str = "cpu"
    ) -> Embedding:
        """Embed `adata` with the checkpoint; `seed` changes nothing (see the base class).

        Raises
        ------
        CheckpointError
            No checkpoint was given, or it is not whole.
        InputDataError
            The data cannot be embedded (see :func:`sclong.embedding.embed_adata`).
        """
        from sclong.checkpoint.folder import load_checkpoint
        from sclong.embedding import embed_adata

        if checkpoint is None:
            raise CheckpointError("no checkpoint was given", "a checkpoint folder", "name one in the model's card")
        loaded = load_checkpoint(checkpoint, device=device)
        return embed_adata(adata, loaded, batch_size=batch_size, pooling=self.pooling)
