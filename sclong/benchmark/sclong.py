"""scLong as a model of the benchmarks: a checkpoint folder embeds cells and genes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sclong.benchmark.model import Embedder
from sclong.embed.result import Embedding
from sclong.errors import CheckpointError

if TYPE_CHECKING:
    import anndata

    from sclong.embed.covariation import GenesOverCells
    from sclong.embed.embedding import Pooling


class ScLong(Embedder):
    """Cell and contextual gene embeddings of a scLong checkpoint, trained or not.

    Parameters
    ----------
    pooling
        How gene vectors become a cell's: "nonzero_mean" (over detected genes), "mean" (over all), or
        "reconstruction_profile" (a number per gene, as published); see :func:`sclong.embed.embedding.embed_adata`.
    genes
        What a gene's vector is: "mean" over cells, or "covariation" (:mod:`sclong.embed.covariation`).
    stabilizer, dtype
        Instead of the checkpoint's own; see :func:`sclong.checkpoint.folder.load_checkpoint`.
    """

    def __init__(
        self,
        pooling: Pooling = "nonzero_mean",
        stabilizer: str | None = None,
        dtype: str | None = None,
        genes: GenesOverCells = "mean",
    ) -> None:
        self.pooling, self.stabilizer, self.dtype, self.genes = pooling, stabilizer, dtype, genes

    def embed(
        self, adata: anndata.AnnData, *, checkpoint: Path | None, seed: int, batch_size: int, device: str = "cpu"
    ) -> Embedding:
        """Embed `adata` with the checkpoint; `seed` changes nothing (see the base class).

        A data set without cells asks for static vectors: its genes get their rows of the gene table. One whose
        ``uns["contextual"]`` is true asks for the gene vectors of each cell too.

        Raises
        ------
        CheckpointError
            No checkpoint was given, or it is not whole.
        InputDataError
            The data cannot be embedded (see :func:`sclong.embed.embedding.embed_adata`).
        """
        from sclong.benchmark.gene_tables import checkpoint_table
        from sclong.checkpoint.folder import load_checkpoint
        from sclong.embed.embedding import embed_adata

        if adata.n_obs == 0:
            return checkpoint_table(adata, checkpoint, "gene_table", device)
        if checkpoint is None:
            raise CheckpointError("no checkpoint was given", "a checkpoint folder", "name one in the model's card")
        loaded = load_checkpoint(checkpoint, device=device, stabilizer=self.stabilizer, dtype=self.dtype)
        contextual = bool(adata.uns.get("contextual", False))
        return embed_adata(
            adata, loaded, batch_size=batch_size, pooling=self.pooling, contextual=contextual, genes=self.genes
        )
