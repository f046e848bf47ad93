"""Embed the cells and genes of an AnnData or of an h5ad file with a checkpoint, a batch at a time.

Shapes: B cells of a batch, G genes of the vocabulary, N = G + 1 (PAD last), D width of gene vectors.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from sclong import __version__
from sclong.cells.contextual import contextual_store
from sclong.cells.embedded_copy import check_outputs, embedded_copy
from sclong.cells.kinds import kind_of, read_kind
from sclong.cells.normalize import to_model_values
from sclong.cells.reader import Reader, open_reader, reader_of
from sclong.embed.cells import Cells, Empty, cells_of, check_cells, gene_labels, genes_listed, output_positions
from sclong.embed.covariation import GeneCovariation, GenesOverCells
from sclong.embed.pooling import POOLINGS, GeneMeans, Pooling, gene_vectors, pool
from sclong.embed.result import Embedding
from sclong.errors import InputDataError, nearest
from sclong.genes.align import harmonize
from sclong.io.files import writing
from sclong.nn.values import dense_with_pad
from sclong.runlog import LOGGER, Progress

if TYPE_CHECKING:
    import anndata

    from sclong.checkpoint.folder import LoadedModel
    from sclong.nn.dual_encoder import Output


@torch.inference_mode()
def embed_adata(
    adata: anndata.AnnData,
    loaded: LoadedModel,
    *,
    batch_size: int = 8,
    pooling: Pooling = "nonzero_mean",
    layer: str | None = None,
    gene_column: str | None = None,
    round: bool = False,
    empty: Empty = "refuse",
    progress: bool = True,
    contextual: bool = False,
    genes: GenesOverCells = "mean",
) -> Embedding:
    """Embed cells and genes.

    Genes are aligned to the checkpoint's vocabulary by name, counts summed where two names are one gene, values
    normalised as in pretraining. A cell's vector is what `pooling` makes of its contextual gene vectors; a gene's
    vector is the mean of its contextual vectors over all cells. Only sums are held, never cells x genes x D, unless
    `contextual` asks for that.

    Random features are those of the checkpoint. With the stabilizers "per_head" and "per_cell" a cell's vector does
    not depend on the batch it is in: to the last bit on a CPU, where cells go through the model one by one, and but
    for rounding on a GPU. With "global" it does depend on it, as in the published code: `batch_size` and the order of
    cells are then part of the result.

    Parameters
    ----------
    adata
        Cells x genes; ``uns["value_kind"]`` is counts (default), log1p_cp10k or nonnegative. May be backed.
    loaded
        What :func:`sclong.load_checkpoint` returned; it runs on the device it was loaded to.
    batch_size
        Cells per forward pass (on a CPU: one, unless the stabilizer is "global").
    pooling
        "nonzero_mean": mean over the genes detected in the cell. "mean": mean over all genes of the vocabulary.
        "reconstruction_profile": a number for each gene of `adata`, the sum of its contextual vector and of its
        reconstructed value (Bai et al. 2026, Eq. 11); genes that the vocabulary lacks get the mean over the model's
        positions, PAD included, as in the published code.
    layer, gene_column, round
        Where the values and names are: by default found by the rules of :func:`sclong.cells.reader.open_reader`.
    empty
        What becomes of cells with none of the vocabulary's genes: "refuse", or "nan": their vectors are NaN.
    progress
        Whether to write progress lines into the log.
    contextual
        Whether to return the contextual vectors themselves too (2 bytes x cells x genes of `adata` x D).
    genes
        What a gene's vector is: "mean" of its contextual vectors over all cells, or their "covariation" with those of
        other genes (:mod:`sclong.embed.covariation`).

    Returns
    -------
    Embedding
        ``cell_embedding`` (cells, D), or (cells, genes of `adata`) for "reconstruction_profile"; ``gene_embedding``
        (genes of `adata`, D), or (genes of `adata`, 1024) for "covariation"; both float32;
        ``contextual_embedding`` (cells, genes of `adata`, D) float16. Rows of genes that the vocabulary lacks are the
        mean of the rows of the others (zeros for "covariation"), and ``gene_mapped`` is False there.

    Raises
    ------
    InputDataError
        No cell, a cell with none of the vocabulary's genes, values that are not of their kind, gene names that
        cannot be aligned, an unknown layer or pooling.
    """
    if adata.n_obs == 0:
        raise InputDataError("an AnnData without cells", "at least one cell", "check what filtered the cells out")
    reader = reader_of(adata, layer, gene_column, round=round)
    cells, positions = cells_of(reader, loaded.vocabulary), output_positions(reader, loaded.vocabulary)
    facts = facts_of(cells, loaded, batch_size, pooling, reader, empty)
    width = adata.n_vars if pooling == "reconstruction_profile" else loaded.arch.base_dim
    pooled = np.empty((adata.n_obs, width), dtype=np.float32)
    means = GeneMeans(loaded)
    together = GeneCovariation(len(loaded.vocabulary), loaded.arch.base_dim, device=loaded.device)
    every = np.empty((adata.n_obs, adata.n_vars, loaded.arch.base_dim), dtype=np.float16) if contextual else None
    for start, values_BN, output in forward(cells, loaded, batch_size, progress):
        part = pool(output, values_BN, pooling, positions)
        pooled[start : start + len(part)] = part
        if genes == "mean":
            means.add(output, values_BN)
        else:
            together.add(output.gene_embeddings_BND[:, :-1])
        if every is not None:
            every[start : start + len(part)] = gene_vectors(output, positions)
    vectors = means.of(positions) if genes == "mean" else together.of(positions)
    facts = facts if genes == "mean" else {**facts, "genes_over_cells": genes}
    return Embedding(pooled, vectors, positions >= 0, facts, every)


def embed(
    adata: anndata.AnnData,
    loaded: LoadedModel,
    key_added: str = "X_sclong",
    *,
    batch_size: int = 8,
    pooling: Pooling = "nonzero_mean",
    layer: str | None = None,
    gene_column: str | None = None,
    round: bool = False,
    empty: Empty = "refuse",
) -> None:
    """Embed cells and genes in place, as scanpy's functions do.

    See :func:`embed_adata` for what is computed and for the errors; :func:`embed_file` does the same from file to file.

    Parameters
    ----------
    adata
        Cells x genes; ``uns["value_kind"]`` is counts (default), log1p_cp10k or nonnegative.
    loaded
        What :func:`sclong.load_checkpoint` returned.
    key_added
        Name of what is set.
    batch_size, pooling, layer, gene_column, round, empty
        As in :func:`embed_adata`; with the stabilizer "global" the result depends on `batch_size`.

    Notes
    -----
    Sets

    - ``adata.obsm[key_added]``: cell embedding, (cells, D) float32; (cells, genes) for "reconstruction_profile"
    - ``adata.varm[key_added]``: gene embedding, (genes, D) float32
    - ``adata.var[key_added + "_mapped"]``: whether the vocabulary has the gene
    - ``adata.uns[key_added]``: hashes of checkpoint and vocabulary, options, and the alignment's report as JSON
    """
    embedding = embed_adata(
        adata,
        loaded,
        batch_size=batch_size,
        pooling=pooling,
        layer=layer,
        gene_column=gene_column,
        round=round,
        empty=empty,
    )
    adata.obsm[key_added] = embedding.cell_embedding
    adata.varm[key_added] = embedding.gene_embedding
    adata.var[f"{key_added}_mapped"] = embedding.gene_mapped
    adata.uns[key_added] = storable(embedding.facts)


@torch.inference_mode()
def embed_file(
    source: str | Path,
    loaded: LoadedModel,
    output: str | Path,
    *,
    key_added: str = "X_sclong",
    batch_size: int = 8,
    pooling: Pooling = "nonzero_mean",
    contextual: str | Path | None = None,
    genes: str | Path | None = None,
    layer: str | None = None,
    gene_column: str | None = None,
    member: str | None = None,
    round: bool = False,
    empty: Empty = "refuse",
    progress: bool = True,
) -> None:
    """Embed an h5ad file of any size: copy it, and add to the copy what :func:`embed` sets.

    The matrix is read, and every result is written, some cells at a time. Memory use: the model, the gene names,
    a (genes, D) array of sums, and 8 bytes per cell. Outputs appear under their names when they are complete.

    Parameters
    ----------
    source, loaded, output
        File to read (see :func:`sclong.cells.reader.open_reader`), checkpoint, h5ad file to write. Files of other
        kinds than h5ad are read whole and converted in a temporary folder beside the output.
    key_added, batch_size, pooling
        As in :func:`embed`.
    contextual
        zarr store to write contextual gene vectors to, (cells, genes, D); see
        :func:`sclong.cells.contextual.contextual_store`.
    genes
        Text file with a gene name per line: the genes of `contextual`, in this order; default: the vocabulary.
    layer, gene_column, member, round
        Where counts and gene names are; see :func:`sclong.cells.reader.open_reader`.
    empty
        As in :func:`embed_adata`.
    progress
        Whether to write progress lines into the log.

    Raises
    ------
    InputDataError
        As :func:`embed_adata`; or outputs that cannot be written.
    """
    source, output = Path(source), Path(output)
    check_outputs(source, output, *([Path(contextual)] if contextual else []))
    with ExitStack() as outputs:
        copied = source
        if kind_of(source) != "h5ad":
            copied = Path(outputs.enter_context(TemporaryDirectory(dir=output.parent))) / "converted.h5ad"
            adata = read_kind(source, kind_of(source), member)
            with writing(output):
                adata.write_h5ad(copied)
            del adata
        file = outputs.enter_context(open_reader(copied, layer, gene_column, round=round))
        file.where = str(source)
        cells, positions = cells_of(file, loaded.vocabulary), output_positions(file, loaded.vocabulary)
        facts = facts_of(cells, loaded, batch_size, pooling, file, empty)
        if contextual:
            kept = genes_listed(Path(genes), loaded.vocabulary) if genes else np.arange(len(loaded.vocabulary))
            labels, attributes = gene_labels(loaded.vocabulary, kept), {"sclong": jsonable(facts)}
            store = outputs.enter_context(
                contextual_store(contextual, file.n_cells, loaded.arch.base_dim, file.cell_names, labels, attributes)
            )
            kept_K = torch.from_numpy(kept).to(loaded.device)
        width = len(positions) if pooling == "reconstruction_profile" else loaded.arch.base_dim
        more = 2**22 + 8 * len(positions) * loaded.arch.base_dim
        copy = outputs.enter_context(embedded_copy(copied, output, key_added, file.n_cells, width, more))
        means = GeneMeans(loaded)
        for start, values_BN, result in forward(cells, loaded, batch_size, progress):
            copy.write(start, pool(result, values_BN, pooling, positions))
            means.add(result, values_BN)
            if contextual:
                store.write(result.gene_embeddings_BND[:, kept_K].float().cpu().numpy())
        if contextual:
            store.flush()  # what can fail fails before either output gets its name
        copy.add(means.of(positions), positions >= 0, storable(facts))


def facts_of(
    cells: Cells, loaded: LoadedModel, batch_size: int, pooling: str, reader: Reader, empty: Empty
) -> dict[str, Any]:
    """Check the options and the cells; return what a reader must know to repeat an embedding.

    Raises
    ------
    InputDataError
        Unknown pooling, no batch size, or what :func:`check_cells` finds.
    """
    if pooling not in POOLINGS:
        like = nearest(pooling, POOLINGS)
        raise InputDataError(f"pooling {pooling!r}", f"one of {', '.join(POOLINGS)}", f"use {(like or POOLINGS)[0]}")
    if batch_size < 1:
        raise InputDataError(f"batch size {batch_size}", "1 or more cells", "use 8")
    if loaded.arch.stabilizer == "global":
        LOGGER.warning(
            "stabilizer 'global': results depend on the batch size (%d) and on the order of cells; "
            "'per_head' and 'per_cell' do not",
            batch_size,
        )
    survey = check_cells(cells, loaded.normalization, empty)
    return {
        "sclong": __version__,
        "checkpoint": loaded.hash,
        "vocabulary": loaded.vocabulary.hash,
        "pooling": pooling,
        "values_from": reader.layer,
        "genes_from": reader.genes_from,
        "read": reader.describe(cells.alignment.report),
        "empty_cells": len(survey.empty),
        "value_kind": cells.value_kind,
        "stabilizer": loaded.arch.stabilizer,
        "precision": loaded.arch.precision,
        "device": loaded.device.type,
        "batch_size": batch_size,
        "alignment": dict(cells.alignment.report),
    }


def jsonable(facts: Mapping[str, Any]) -> Any:
    """Return facts as JSON takes them."""
    return json.loads(json.dumps(facts, default=str))


def storable(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return facts as ``uns`` takes them: the alignment's report as JSON."""
    return {**facts, "alignment": json.dumps(facts["alignment"], default=str)}


def forward(
    cells: Cells, loaded: LoadedModel, batch_size: int, progress: bool
) -> Iterator[tuple[int, torch.Tensor, Output]]:
    """Give, batch after batch, the index of its first cell, the values that the model read (B, N), and its output.

    On a CPU cells go through the model one by one where the stabilizer allows it: products of matrices round
    differently for different shapes, so that a cell's last bits would depend on how many cells are with it.
    """
    model = loaded.model.eval()
    step = 1 if loaded.device.type == "cpu" and loaded.arch.stabilizer != "global" else batch_size
    lines = Progress("embedding", cells.n_cells, "cells", every_s=10.0 if progress else float("inf"))
    done = 0
    for block in cells.blocks(step):
        values = to_model_values(
            harmonize(block, cells.alignment, len(loaded.vocabulary), cells.value_kind),
            cells.value_kind,
            loaded.normalization,
        )
        for start in range(0, block.shape[0], step):
            values_BN = dense_with_pad(values[start : start + step]).to(loaded.device)
            yield done + start, values_BN, model(values_BN)
            lines.update(len(values_BN))
        done += block.shape[0]
