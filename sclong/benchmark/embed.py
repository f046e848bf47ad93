"""The step embed: a model embeds the cells and genes of a data set, once for every benchmark that uses them."""

from __future__ import annotations

from pathlib import Path

from sclong.benchmark.adapter import build
from sclong.benchmark.features import write_features
from sclong.benchmark.model import Embedder
from sclong.config.cards import Recipe


def embed_dataset(
    recipe: Recipe, dataset: Path, checkpoint: Path | None, out: Path, *, batch_size: int, device: str
) -> None:
    """Embed a data set and write the folder of features.

    Parameters
    ----------
    recipe
        The model; its adapter must be an :class:`~sclong.benchmark.model.Embedder`.
    dataset
        Folder of the prepared data set.
    checkpoint
        Checkpoint folder, for models whose card names one.
    out
        Folder to write (:func:`~sclong.benchmark.features.write_features`).
    batch_size
        Cells per forward pass.
    device
        "cpu" or "cuda".
    """
    import anndata

    adapter = build(recipe, Embedder)
    adata = anndata.read_h5ad(dataset / "expression.h5ad")
    embedding = adapter.embed(adata, checkpoint=checkpoint, seed=0, batch_size=batch_size, device=device)
    write_features(out, recipe.name, embedding, adata)
