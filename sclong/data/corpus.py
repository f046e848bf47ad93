"""From sources to shards: which genes a source detects, its counts in vocabulary order, one manifest for all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy import sparse

from sclong.config import CorpusSource
from sclong.data.align import Alignment, align_genes, harmonize
from sclong.data.normalize import check_counts
from sclong.data.vocabulary import COLUMNS, Vocabulary, gene_table, require_same_vocabulary
from sclong.errors import InputDataError, listing, nearest
from sclong.io.files import atomic_dir, atomic_path, read_json, write_json
from sclong.io.h5ad import read_expression
from sclong.io.shards import ShardWriter
from sclong.io.tables import read_tsv, write_tsv
from sclong.runlog import LOGGER

if TYPE_CHECKING:
    import anndata


def read_source(path: str | Path, source: CorpusSource) -> anndata.AnnData:
    """Read a source as its entry in the preset says and check that it holds counts.

    Raises
    ------
    InputDataError
        Unreadable file, no counts, or a column of obs that is not there.
    """
    adata = read_expression(
        path, source.format, member=source.member, transpose=source.transpose, layer=source.layer,
        gene_column=source.gene_column,
    )  # fmt: skip
    for key in ("donor_column", "cell_type_column"):
        column = getattr(source, key)
        if column is not None and column not in adata.obs:
            like = nearest(column, map(str, adata.obs.columns))
            raise InputDataError(
                f"{path}: obs has no column {column!r}; it has {listing(adata.obs.columns, 10)}",
                f"the column that {key} of corpus source {source.name!r} names",
                f"write {key}: {like[0]}" if like else f"correct {key}, or leave it out",
            )
    if source.keep_cells is not None:
        adata = adata[adata.obs.query(source.keep_cells).index].copy()
    check_counts(adata.X, f"{path} ({adata.uns['counts_from']})")
    return adata


def every_gene(annotation: str | Path, symbols: str | Path | None) -> Vocabulary:
    """Return all annotated genes in the shape of a vocabulary, to align names to before there is one."""
    table = gene_table(annotation, symbols)
    table.insert(0, "index", np.arange(len(table)))
    return Vocabulary(table[list(COLUMNS)], {})


def scan_source(
    path: str | Path, source: CorpusSource, annotation: str | Path, symbols: str | Path | None, out: str | Path
) -> None:
    """Write how many cells of a source detect each annotated gene: columns ensembl_id, cells."""
    adata = read_source(path, source)
    genes = every_gene(annotation, symbols)
    alignment = align_genes(list(adata.var_names), genes)
    detected = harmonize(sparse.csr_matrix(adata.X > 0, dtype=np.float32), alignment, len(genes))
    cells = np.asarray((detected > 0).sum(axis=0)).ravel()
    table = pd.DataFrame({"ensembl_id": genes.ensembl_ids, "cells": cells})
    write_tsv(table[table["cells"] > 0], out)
    LOGGER.info("%s: %d cells, %d names, %s", source.name, adata.n_obs, adata.n_vars, dict(alignment.report))


def detection_table(scans: Sequence[str | Path]) -> pd.DataFrame:
    """Add up what :func:`scan_source` wrote: columns ensembl_id, datasets, cells."""
    tables = [read_tsv(scan, ["ensembl_id", "cells"], dtype={"ensembl_id": str, "cells": int}) for scan in scans]
    stacked = pd.concat(tables, ignore_index=True).groupby("ensembl_id")["cells"]
    return pd.DataFrame({"datasets": stacked.size(), "cells": stacked.sum()}).reset_index()


def harmonize_source(
    path: str | Path, source: CorpusSource, vocabulary: Vocabulary, minimum_genes: int, out: str | Path
) -> None:
    """Write a source's counts in vocabulary order: ``counts.npz``, ``obs.parquet``, ``coverage.json``.

    Cells with fewer than `minimum_genes` detected genes of the vocabulary are dropped and counted.
    """
    adata = read_source(path, source)
    alignment = align_genes(list(adata.var_names), vocabulary)
    counts = harmonize(adata.X, alignment, len(vocabulary))
    detected = np.diff(counts.indptr)
    keep = detected >= minimum_genes
    if not keep.any():
        raise InputDataError(
            f"{path}: none of {adata.n_obs} cells has {minimum_genes} detected genes (the best has {detected.max()})",
            f"cells with at least {minimum_genes} genes (corpus.minimum_genes)",
            "check that the file holds whole cells, or lower corpus.minimum_genes",
        )
    obs = pd.DataFrame(
        {
            "source": source.name,
            "donor": _labels(adata, source.donor_column, "all", source.name),
            "tissue": source.tissue,
            "assay": source.assay,
            "cell_type": _labels(adata, source.cell_type_column, ""),
        }
    )
    with atomic_dir(out) as folder:
        sparse.save_npz(folder / "counts.npz", sparse.csr_matrix(counts[keep], dtype=np.int32))
        obs[keep].to_parquet(folder / "obs.parquet", index=False)
        write_json(folder / "coverage.json", _coverage(source, adata, vocabulary, alignment, detected, keep))


def _labels(adata: anndata.AnnData, column: str | None, otherwise: str, prefix: str = "") -> list[str]:
    values = [otherwise] * adata.n_obs if column is None else adata.obs[column].astype(str).tolist()
    return [f"{prefix}:{v}" for v in values] if prefix else values


def _coverage(
    source: CorpusSource, adata: anndata.AnnData, vocabulary: Vocabulary, alignment: Alignment,
    detected: np.ndarray, keep: np.ndarray,
) -> dict[str, Any]:  # fmt: skip
    return {
        "source": source.name,
        "vocabulary_hash": vocabulary.hash,
        "counts_from": adata.uns["counts_from"],
        "cells_in": adata.n_obs,
        "cells_kept": int(keep.sum()),
        "cells_empty": int((detected == 0).sum()),
        "cells_few_genes": int(((detected > 0) & ~keep).sum()),
        "median_genes": int(np.median(detected[keep])),
        **alignment.report,
    }


MANIFEST = (
    "source", "status", "cells_in", "cells_kept", "cells_empty", "cells_few_genes", "median_genes", "names", "mapped",
    "by_ensembl", "by_symbol", "by_previous_or_alias", "by_entrez", "ambiguous", "unmapped", "duplicated",
    "share_of_vocabulary", "counts_from",
)  # fmt: skip


def build_shards(
    harmonized: Sequence[str | Path],
    out: str | Path,
    vocabulary: Vocabulary,
    cells_per_shard: int,
    manifest: str | Path,
    *,
    left_out: Sequence[str] = (),
) -> None:
    """Write all sources as shards, and a manifest with one row per source.

    Parameters
    ----------
    harmonized
        Folders that :func:`harmonize_source` wrote.
    out, manifest
        Folder of the shards; tab-separated table.
    vocabulary, cells_per_shard
        Genes; cells per shard.
    left_out
        Names of sources that could not be had: they get a row too.

    Raises
    ------
    VocabularyMismatchError
        A source was harmonised to another vocabulary.
    """
    rows: list[Mapping[str, Any]] = []
    with atomic_dir(out) as folder, ShardWriter(folder, vocabulary.hash, len(vocabulary), cells_per_shard) as writer:
        for source in map(Path, harmonized):
            coverage = read_json(source / "coverage.json")
            require_same_vocabulary(coverage["vocabulary_hash"], str(source), vocabulary.hash, "the corpus")
            writer.append(sparse.load_npz(source / "counts.npz"), pd.read_parquet(source / "obs.parquet"))
            rows.append({**coverage, "status": "used"})
    rows += [{"source": name, "status": "left out: no public address, in no mirror"} for name in left_out]
    table = pd.DataFrame(rows).reindex(columns=list(MANIFEST))
    numbers = [c for c in MANIFEST if c not in ("source", "status", "counts_from", "share_of_vocabulary")]
    table[numbers] = table[numbers].astype("Int64")
    with atomic_path(manifest) as tmp:
        table.to_csv(tmp, sep="\t", index=False)
    LOGGER.info("corpus: %d cells of %d sources", int(table["cells_kept"].sum()), len(harmonized))
