"""Embed the cells and genes of an AnnData with a checkpoint, a batch at a time.

Shapes: B cells of a batch, G genes of the vocabulary, N = G + 1 (PAD last), D width of gene vectors.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from scipy import sparse

from sclong.data.align import Alignment, align_genes, harmonize
from sclong.data.dataset import dense_with_pad
from sclong.data.normalize import to_model_values
from sclong.errors import InputDataError, listing
from sclong.models.base import Embedding
from sclong.runlog import Progress

if TYPE_CHECKING:
    import anndata

    from sclong.checkpoint.folder import LoadedModel

Pooling = Literal["nonzero_mean", "mean"]


@torch.inference_mode()
def embed_adata(
    adata: anndata.AnnData,
    loaded: LoadedModel,
    *,
    batch_size: int = 8,
    pooling: Pooling = "nonzero_mean",
    progress: bool = True,
) -> Embedding:
    """Embed cells and genes.

    Genes are aligned to the checkpoint's vocabulary by name, counts summed where two names are one gene, values
    normalised as in pretraining. A cell's vector is the mean of its contextual gene vectors; a gene's vector is the
    mean of its contextual vectors over all cells. Only sums are held, never cells x genes x D.

    Random features are those of the checkpoint. With the stabilizers "per_head" and "per_cell" a cell's vector does
    not depend on the batch it is in; with "global" it does, as in the published code, and `batch_size` and the order
    of cells are then part of the result.

    Parameters
    ----------
    adata
        Cells x genes; ``uns["value_kind"]`` is counts (default), log1p_cp10k or nonnegative. May be backed.
    loaded
        What :func:`sclong.checkpoint.folder.load_checkpoint` returned; it runs on the device it was loaded to.
    batch_size
        Cells per forward pass.
    pooling
        "nonzero_mean": over the genes detected in the cell. "mean": over all genes of the vocabulary.
    progress
        Whether to write progress lines into the log.

    Returns
    -------
    Embedding
        ``cell_embedding`` (cells, D), ``gene_embedding`` (genes of `adata`, D), both float32. Rows of genes that the
        vocabulary lacks are the mean of the rows of the others, and ``gene_mapped`` is False there.

    Raises
    ------
    InputDataError
        No cell, a cell with none of the vocabulary's genes, values that are not of their kind, or gene names that
        cannot be aligned.
    """
    if adata.n_obs == 0:
        raise InputDataError("an AnnData without cells", "at least one cell", "check what filtered the cells out")
    model, n_genes = loaded.model.eval(), len(loaded.vocabulary)
    device = next(model.parameters()).device
    value_kind = str(adata.uns.get("value_kind", "counts"))
    alignment = align_genes(list(adata.var_names), loaded.vocabulary, extra=adata.var)
    check_cells(adata, alignment, value_kind)

    lines = Progress("embedding", adata.n_obs, "cells", every_s=10.0 if progress else float("inf"))
    cells_CD = np.empty((adata.n_obs, loaded.arch.base_dim), dtype=np.float32)
    genes_GD = torch.zeros(n_genes, loaded.arch.base_dim, dtype=torch.float64, device=device)
    for start in range(0, adata.n_obs, batch_size):
        stop = min(start + batch_size, adata.n_obs)
        counts = harmonize(rows_of(adata, start, stop), alignment, n_genes)
        values_BN = dense_with_pad(to_model_values(counts, value_kind)).to(device)
        vectors_BGD = model(values_BN).gene_embeddings_BND[:, :n_genes]
        cells_CD[start:stop] = pool(vectors_BGD, values_BN[:, :n_genes], pooling).cpu().numpy()
        genes_GD += vectors_BGD.sum(0, dtype=torch.float64)
        lines.update(stop - start)

    mapped = alignment.positions >= 0
    gene_embedding = np.empty((adata.n_vars, loaded.arch.base_dim), dtype=np.float32)
    gene_embedding[mapped] = (genes_GD / adata.n_obs).cpu().numpy()[alignment.positions[mapped]]
    gene_embedding[~mapped] = gene_embedding[mapped].mean(0, dtype=np.float64)
    facts: dict[str, Any] = {
        "checkpoint": loaded.hash,
        "vocabulary": loaded.vocabulary.hash,
        "pooling": pooling,
        "value_kind": value_kind,
        "stabilizer": loaded.arch.stabilizer,
        "batch_size": batch_size,
        "alignment": dict(alignment.report),
    }
    return Embedding(cells_CD, gene_embedding, mapped, facts)


def pool(vectors_BGD: torch.Tensor, values_BG: torch.Tensor, pooling: Pooling) -> torch.Tensor:
    """Return a vector per cell, (B, D): the mean over its detected genes, or over all genes.

    Raises
    ------
    InputDataError
        Another `pooling`.
    """
    if pooling == "mean":
        return vectors_BGD.mean(1)
    if pooling == "nonzero_mean":
        detected_BG = (values_BG != 0).to(vectors_BGD.dtype)
        return torch.einsum("bg,bgd->bd", detected_BG, vectors_BGD) / detected_BG.sum(1, keepdim=True)
    raise InputDataError(f"pooling {pooling!r}", "nonzero_mean or mean", "use nonzero_mean")


def rows_of(adata: anndata.AnnData, start: int, stop: int) -> sparse.csr_matrix:
    """Return some cells' values as CSR, also of a backed AnnData."""
    return sparse.csr_matrix(adata.X[start:stop])


def check_cells(adata: anndata.AnnData, alignment: Alignment, value_kind: str, chunk: int = 4096) -> None:
    """Check, before hours are spent, that values are of their kind and that every cell has a gene of the vocabulary.

    Raises
    ------
    InputDataError
        Values that are not of their kind; names the cells that have no gene.
    """
    known = np.flatnonzero(alignment.positions >= 0)
    detected = np.empty(adata.n_obs, dtype=np.int64)
    for start in range(0, adata.n_obs, chunk):
        values = to_model_values(rows_of(adata, start, start + chunk)[:, known], value_kind)
        detected[start : start + chunk] = np.asarray((values != 0).sum(axis=1)).ravel()
    if not detected.all():
        empty = adata.obs_names[detected == 0]
        raise InputDataError(
            f"{len(empty)} of {adata.n_obs} cells have none of the vocabulary's genes: {listing(empty)}",
            "cells with at least one detected gene",
            "remove them, for instance with scanpy.pp.filter_cells(adata, min_genes=200)",
        )


def embed(
    adata: anndata.AnnData,
    loaded: LoadedModel,
    key_added: str = "X_sclong",
    *,
    batch_size: int = 8,
    pooling: Pooling = "nonzero_mean",
) -> None:
    """Embed cells and genes in place, as scanpy's functions do.

    See :func:`embed_adata` for what is computed and for the errors.

    Parameters
    ----------
    adata
        Cells x genes; ``uns["value_kind"]`` is counts (default), log1p_cp10k or nonnegative.
    loaded
        A loaded checkpoint.
    key_added
        Name of what is set.
    batch_size, pooling
        As in :func:`embed_adata`; with the stabilizer "global" the result depends on `batch_size`.

    Notes
    -----
    Sets

    - ``adata.obsm[key_added]``: cell embedding, (cells, D) float32
    - ``adata.varm[key_added]``: gene embedding, (genes, D) float32
    - ``adata.var[key_added + "_mapped"]``: whether the vocabulary has the gene
    - ``adata.uns[key_added]``: hashes of checkpoint and vocabulary, options, and the alignment's report as JSON
    """
    embedding = embed_adata(adata, loaded, batch_size=batch_size, pooling=pooling)
    adata.obsm[key_added] = embedding.cell_embedding
    adata.varm[key_added] = embedding.gene_embedding
    adata.var[f"{key_added}_mapped"] = embedding.gene_mapped
    facts = dict(embedding.facts)
    adata.uns[key_added] = facts | {"alignment": json.dumps(facts["alignment"], default=str)}
