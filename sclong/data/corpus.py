"""From sources to shards: which genes a source detects, its counts in vocabulary order, one manifest for all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy import sparse

from sclong.config_sections import CorpusSource
from sclong.data.align import Alignment, align_genes, harmonize
from sclong.data.normalize import check_counts
from sclong.data.vocabulary import COLUMNS, Vocabulary, gene_table, require_same_vocabulary
from sclong.errors import InputDataError, listing, nearest
from sclong.io.files import atomic_dir, read_json, write_json
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
    check_counts(adata.X, f"{path} ({adata.uns['counts_from']})")
    adata.uns["cells_not_wanted"] = 0
    if source.keep_cells is not None:
        wanted = _wanted(adata.obs, source.keep_cells, f"keep_cells of corpus source {source.name!r}")
        adata = adata[wanted].copy()
        adata.uns["cells_not_wanted"] = int((~wanted).sum())
    return adata


def _wanted(obs: pd.DataFrame, query: str, where: str) -> np.ndarray:
    try:
        wanted = np.asarray(obs.eval(query))
    except (NameError, SyntaxError, TypeError, ValueError) as error:
        raise InputDataError(
            f"{where}: {query!r} cannot be evaluated: {error}",
            f"a pandas expression on the columns of obs, {listing(obs.columns, 12)}", "correct keep_cells",
        ) from error  # fmt: skip
    if wanted.dtype != bool or not wanted.any():
        found = f"is {wanted.dtype}, not true or false" if wanted.dtype != bool else f"keeps none of {len(obs)} cells"
        raise InputDataError(f"{where}: {query!r} {found}", "a condition that keeps cells", "correct keep_cells")
    return wanted


def every_gene(annotation: str | Path, symbols: str | Path | None) -> Vocabulary:
    """Return all annotated genes in the shape of a vocabulary, to align names to before there is one."""
    table = gene_table(annotation, symbols)
    table.insert(0, "index", np.arange(len(table)))
    return Vocabulary(table[list(COLUMNS)], {})


def scan_source(
    path: str | Path, source: CorpusSource, annotation: str | Path, symbols: str | Path | None, out: str | Path
) -> None:
    """Write how many cells of a source detect each annotated gene: columns ensembl_id, cells.

    What the names are, counted by rule over all annotated genes, is written beside it, with the suffix ``.json``.
    """
    adata = read_source(path, source)
    genes = every_gene(annotation, symbols)
    alignment = align_genes(list(adata.var_names), genes, extra=adata.var)
    detected = harmonize(adata.X, alignment, len(genes))
    cells = np.bincount(detected.indices, minlength=len(genes))
    table = pd.DataFrame({"ensembl_id": genes.ensembl_ids, "cells": cells})
    facts = {"source": source.name, "cells": adata.n_obs, **alignment.report}
    facts["share_of_genes"] = facts.pop("share_of_vocabulary")
    facts["genes"] = facts.pop("genes_of_vocabulary")
    write_json(Path(out).with_suffix(".json"), facts)
    write_tsv(table[table["cells"] > 0], out)
    LOGGER.info("%s: %d cells, %d of %d names known", source.name, adata.n_obs, facts["mapped"], facts["names"])


def detection_table(scans: Sequence[str | Path]) -> pd.DataFrame:
    """Add up what :func:`scan_source` wrote: columns ensembl_id, datasets, cells.

    Raises
    ------
    InputDataError
        When there is no scan at all.
    """
    if not scans:
        raise InputDataError(
            "no source of the corpus ranks genes: all are optional", "at least one that is not optional",
            "look at corpus.sources; optional ones do not count, so that the vocabulary does not depend on a mirror",
        )  # fmt: skip
    tables = [read_tsv(scan, ["ensembl_id", "cells"], dtype={"ensembl_id": str, "cells": int}) for scan in scans]
    stacked = pd.concat(tables, ignore_index=True).groupby("ensembl_id")["cells"]
    return pd.DataFrame({"datasets": stacked.size(), "cells": stacked.sum()}).reset_index()


def harmonize_source(
    path: str | Path, source: CorpusSource, vocabulary: Vocabulary, minimum_genes: int, out: str | Path
) -> None:
    """Write a source's counts in vocabulary order: ``counts.npz``, ``obs.parquet``, ``coverage.json``.

    Cells with fewer than `minimum_genes` detected genes of the vocabulary are dropped and counted.

    Raises
    ------
    InputDataError
        When no cell is left, and what :func:`read_source` and :func:`~sclong.data.align.align_genes` refuse.
    """
    adata = read_source(path, source)
    alignment = align_genes(list(adata.var_names), vocabulary, extra=adata.var)
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
            "donor": [f"{source.name}:{donor}" for donor in _labels(adata, source.donor_column, "all")],
            "tissue": source.tissue,
            "assay": source.assay,
            "cell_type": _labels(adata, source.cell_type_column, ""),
        }
    )
    with atomic_dir(out) as folder:
        sparse.save_npz(folder / "counts.npz", sparse.csr_matrix(counts[keep], dtype=np.int32))
        obs[keep].to_parquet(folder / "obs.parquet", index=False)
        write_json(folder / "coverage.json", _coverage(source, adata, vocabulary, alignment, counts, obs, keep))


def _labels(adata: anndata.AnnData, column: str | None, otherwise: str) -> list[str]:
    """Return a column of obs as text, missing values as "unknown"; without a column, `otherwise` for each cell."""
    if column is None:
        return [otherwise] * adata.n_obs
    values = adata.obs[column]
    return values.astype(str).where(values.notna(), "unknown").tolist()


def _coverage(
    source: CorpusSource, adata: anndata.AnnData, vocabulary: Vocabulary, alignment: Alignment,
    counts: sparse.csr_matrix, obs: pd.DataFrame, keep: np.ndarray,
) -> dict[str, Any]:  # fmt: skip
    detected = np.diff(counts.indptr)
    return {
        "source": source.name,
        "vocabulary_hash": vocabulary.hash,
        "counts_from": adata.uns["counts_from"],
        "assay": source.assay,
        "tissue": source.tissue,
        "donors": int(obs.loc[keep, "donor"].nunique()),
        "cells_in": adata.n_obs + adata.uns["cells_not_wanted"],
        "cells_kept": int(keep.sum()),
        "cells_not_wanted": adata.uns["cells_not_wanted"],
        "cells_empty": int((detected == 0).sum()),
        "cells_few_genes": int(((detected > 0) & ~keep).sum()),
        "median_genes": int(np.median(detected[keep])),
        "share_of_counts": round(float(counts.sum(dtype=np.float64) / adata.X.sum(dtype=np.float64)), 4),
        **alignment.report,
    }


MANIFEST = (
    "source", "status", "tissue", "assay", "donors", "cells_in", "cells_kept", "cells_not_wanted", "cells_empty",
    "cells_few_genes", "median_genes", "names", "mapped", "by_ensembl", "by_symbol", "by_previous_or_alias",
    "by_entrez", "ambiguous", "unmapped", "duplicated", "with_version", "with_blanks", "share_of_vocabulary",
    "share_of_counts", "counts_from",
)  # fmt: skip
NOT_INTEGER = ("source", "status", "tissue", "assay", "share_of_vocabulary", "share_of_counts", "counts_from")


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
    numbers = [c for c in MANIFEST if c not in NOT_INTEGER]
    table[numbers] = table[numbers].astype("Int64")
    write_tsv(table, manifest)
    LOGGER.info("corpus: %d cells of %d sources", int(table["cells_kept"].sum()), len(harmonized))
