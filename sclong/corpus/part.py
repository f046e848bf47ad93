"""A source of the corpus on disk: its cells in vocabulary order, filtered, in shards; memory does not grow with cells.

A part that was killed while it was written goes on where it was, and ends as if nothing had happened.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from sclong.config.sections import CellFilters, CorpusSource
from sclong.corpus.shard_writer import ShardWriter, write_shard_list
from sclong.corpus.source import DataSet, Piece, read_pieces, require_wanted
from sclong.errors import InputDataError
from sclong.genes.align import align_genes, harmonize
from sclong.genes.vocabulary import Vocabulary
from sclong.io.files import move_dir, read_json, write_json
from sclong.runlog import LOGGER

DROPPED = ("cells_not_wanted", "cells_doublet", "cells_empty", "cells_few_genes", "cells_mitochondrial")
"""Why a cell of a source is left out; each cell is counted once, under the first that applies."""
TALLY = ("cells_in", *DROPPED, "cells_kept", "counts", "counts_found")


def write_part(
    datasets: Sequence[DataSet],
    out: str | Path,
    work_dir: str | Path,
    vocabulary: Vocabulary,
    filters: CellFilters,
    identity: Mapping[str, Any],
    *,
    may_be_empty: bool = False,
) -> None:
    """Write the cells of data sets as shards, and ``coverage.json`` with a row for each data set.

    Parameters
    ----------
    datasets
        Read one after the other.
    out
        Folder of the part; there when it is complete.
    work_dir
        Folder that holds the part until then; a killed job finds it again. On the same disk as `out`.
    vocabulary
        Order of the genes.
    filters
        Which cells stay; cells per shard.
    identity
        JSON values that fix the result besides: the part goes on only if they are the same.
    may_be_empty
        Accept data sets of which no cell is left.

    Raises
    ------
    InputDataError
        When no cell is left, and what :func:`~sclong.corpus.source.read_pieces` and
        :func:`~sclong.genes.align.align_genes` refuse.
    """
    work_dir, out = Path(work_dir), Path(out)
    (work_dir / "shards.json").unlink(missing_ok=True)  # killed after the last cell was written
    mitochondrial = mitochondrial_genes(vocabulary) if filters.maximum_mitochondrial_share is not None else None
    identity = {**identity, "filters": filters.model_dump()}
    writer = ShardWriter(work_dir, vocabulary.hash, len(vocabulary), filters.cells_per_shard, identity)
    progress = writer.progress or {"done": [], "row": 0, "tally": dict.fromkeys(TALLY, 0)}
    if writer.progress:
        LOGGER.info("%s: goes on after %d data sets and %d cells", out.name, len(progress["done"]), progress["row"])
    done, row, tally = list(progress["done"]), int(progress["row"]), dict(progress["tally"])
    for dataset in datasets[len(done) :]:
        stream = dataset.open()
        alignment = align_genes(stream.genes, vocabulary, extra=stream.var)
        for piece in read_pieces(dataset, stream, row):
            row += len(piece.labels)
            counts = harmonize(piece.counts, alignment, len(vocabulary))
            keep = _filter(piece, counts, filters, mitochondrial, tally)
            writer.append(counts[keep], piece.labels[keep], {"done": list(done), "row": row, "tally": dict(tally)})
        require_wanted(dataset, tally["cells_in"], tally["cells_not_wanted"])
        facts = {"source": dataset.source.name, "dataset": dataset.name, "counts_from": stream.counts_from}
        done.append({**facts, **tally, **alignment.report})
        found, names = alignment.report["mapped"], alignment.report["names"]
        LOGGER.info(
            "%s: counts from %s, %d genes, %.0f%% found, %d of %d cells kept",
            dataset.name,
            stream.counts_from,
            names,
            100 * found / names,
            tally["cells_kept"],
            tally["cells_in"],
        )
        row, tally = 0, dict.fromkeys(TALLY, 0)
    if not sum(facts["cells_kept"] for facts in done):
        if not may_be_empty:
            raise _nothing_left(datasets, done, filters)
        write_shard_list(work_dir, vocabulary.hash, len(vocabulary), [])
    else:
        writer.close(keep_journal=True)
    rows = [_finish(facts, work_dir) for facts in done]
    write_json(work_dir / "coverage.json", {"vocabulary_hash": vocabulary.hash, "datasets": rows})
    if out.exists():
        shutil.rmtree(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    move_dir(work_dir, out)
    (out / "journal.json").unlink(missing_ok=True)


def file_identity(path: str | Path, source: CorpusSource) -> dict[str, Any]:
    """Return what says that a file and how it is read are still the same: entry of the corpus, size, time of change."""
    path = Path(path)
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    stats = [[p.name, p.stat().st_size, p.stat().st_mtime_ns] for p in files]
    return {"source": source.model_dump(mode="json"), "files": stats}


def mitochondrial_genes(vocabulary: Vocabulary) -> np.ndarray:
    """Return which genes are mitochondrial, (genes,) bool: symbols that begin with MT-.

    Raises
    ------
    InputDataError
        When the vocabulary has none.
    """
    found = vocabulary.table["symbol"].str.upper().str.startswith("MT-").to_numpy(dtype=bool)
    if not found.any():
        raise InputDataError(
            "the vocabulary has no gene whose symbol begins with MT-",
            "mitochondrial genes, because corpus.maximum_mitochondrial_share is set",
            "set it to null, or give the vocabulary symbols",
        )
    return found


def _filter(
    piece: Piece, counts: Any, filters: CellFilters, mitochondrial: np.ndarray | None, tally: dict[str, int]
) -> np.ndarray:
    """Return which cells stay, (cells,) bool; count the others by reason."""
    detected = np.diff(counts.indptr)
    total = np.asarray(counts.sum(axis=1, dtype=np.float64)).ravel()
    share = np.zeros(len(detected))
    if mitochondrial is not None:
        np.divide(counts @ mitochondrial.astype(np.float64), total, out=share, where=total > 0)
    reasons = {
        "cells_not_wanted": ~piece.wanted,
        "cells_doublet": piece.doublet,
        "cells_empty": detected == 0,
        "cells_few_genes": detected < filters.minimum_genes,
        "cells_mitochondrial": share > (filters.maximum_mitochondrial_share or 1),
    }
    keep = np.ones(len(detected), dtype=bool)
    for reason, applies in reasons.items():
        tally[reason] += int((keep & applies).sum())
        keep &= ~applies
    tally["cells_in"] += len(keep)
    tally["cells_kept"] += int(keep.sum())
    tally["counts"] += int(piece.counts.sum(dtype=np.float64))
    tally["counts_found"] += int(total.sum())
    return keep


def _finish(facts: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Add what is known of the cells that were kept: donors, tissues, assays, genes per cell."""
    shards, donors, tissues, assays, detected = read_json(folder / "shards.json")["shards"], set(), set(), set(), []
    for shard in shards:
        obs = pd.read_parquet(folder / shard["name"] / "obs.parquet", columns=["dataset", "donor", "tissue", "assay"])
        mine = (obs["dataset"] == facts["dataset"]).to_numpy()
        donors |= set(obs.loc[mine, "donor"])
        tissues |= set(obs.loc[mine, "tissue"])
        assays |= set(obs.loc[mine, "assay"])
        detected.append(np.diff(np.load(folder / shard["name"] / "indptr.npy"))[mine])
    genes = np.concatenate([*detected, np.empty(0, dtype=np.int64)])
    counts, found = facts["counts"], facts["counts_found"]
    rest = {key: value for key, value in facts.items() if key not in ("counts", "counts_found")}
    return {
        **rest,
        "donors": len(donors),
        "tissue": "; ".join(sorted(tissues)),
        "assay": "; ".join(sorted(assays)),
        "median_genes": int(np.median(genes)) if len(genes) else 0,
        "share_of_counts": round(found / counts, 4) if counts else 0.0,
    }


def _nothing_left(
    datasets: Sequence[DataSet], done: Sequence[Mapping[str, Any]], filters: CellFilters
) -> InputDataError:
    reasons = ", ".join(f"{sum(f[r] for f in done)} {r.removeprefix('cells_')}" for r in DROPPED)
    return InputDataError(
        f"{', '.join(d.where for d in datasets)}: none of {sum(f['cells_in'] for f in done)} cells is left ({reasons})",
        f"cells with at least {filters.minimum_genes} genes (corpus.minimum_genes) that no other filter drops",
        "check that the file holds whole cells, or lower corpus.minimum_genes",
    )
