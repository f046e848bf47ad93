"""Which cells of the corpus are cells of a benchmark: found by their counts, whatever file they came in.

The genes of the vocabulary that a benchmark measures are cut into `BLOCKS` sets. A corpus cell is a benchmark's if its
counts agree with those of one of the benchmark's cells on all genes of one set, and at least `LEAST_GENES` of them are
detected there; the sets are hashed (:mod:`sclong.cells.hash`). So cells are found although the benchmark's file lacks
genes, and although some genes were named otherwise and went elsewhere.

Where a benchmark has no counts, they are recovered from log(1 + normalised counts); where they cannot be, cells are
compared by the ranks of their values: within a cell, any increasing function of the counts (a size factor, whatever it
was estimated by, and a logarithm) leaves which genes are expressed, which have equal values, and the order of the
others as they were. Both sides are ranked among the measured genes of a set, equal values sharing a rank without gaps.

Not found are cells that were counted again with another program or annotation, cells with corrected counts or with
values that were changed gene by gene (lengths of genes, z-scores), and cells with few detected genes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse

from sclong.cells.hash import among, cell_hashes
from sclong.cells.reader import open_reader
from sclong.corpus.assemble import still_there
from sclong.errors import InputDataError
from sclong.genes.align import align_genes, harmonize
from sclong.genes.vocabulary import Vocabulary, require_same_vocabulary
from sclong.io.files import atomic_path, read_json
from sclong.io.tables import write_tsv
from sclong.runlog import LOGGER

BLOCKS = 8
LEAST_GENES = 50  # detected genes of a set that two cells must share before equal counts mean equal cells
FILES = ("cells.h5ad", "expression.h5ad")
COMPARED, BY_RANKS = "compared", "compared by ranks"
TOLERANCE = 0.02  # of a count, when counts are recovered from log-normalised values
COLUMNS = (
    "dataset",
    "benchmarks",
    "status",
    "cells",
    "cells_compared",
    "genes",
    "cells_in_sources",
    "excluded",
    "cells_in_corpus",
    "sources",
)


def recover_counts(values: sparse.csr_matrix) -> sparse.csr_matrix:
    """Return the counts behind log(1 + normalised counts), where every cell has a gene with one count.

    The exponential is undone and each cell divided by its smallest value; cells that do not come out as whole numbers
    become empty.

    Parameters
    ----------
    values : (cells, genes)
        Natural logarithm of one plus counts times a factor of the cell.
    """
    out = sparse.csr_matrix(values, dtype=np.float64, copy=True)
    out.eliminate_zeros()
    out.data = np.expm1(out.data)
    lengths = np.diff(out.indptr)
    cell = np.repeat(np.arange(out.shape[0]), lengths)
    smallest = np.full(out.shape[0], np.inf)
    np.minimum.at(smallest, cell, out.data)
    ratio = out.data / smallest[cell]
    whole = np.rint(ratio)
    bad = np.abs(ratio - whole) > TOLERANCE * np.maximum(whole, 1)
    spoiled = np.bincount(cell, weights=bad, minlength=out.shape[0]) > 0
    out.data = np.where(spoiled[cell], 0, whole)
    out.eliminate_zeros()
    return out


def ranks(values: sparse.csr_matrix) -> sparse.csr_matrix:
    """Return the dense rank of each value among the distinct ones of its cell: 1 for the smallest, without gaps.

    Parameters
    ----------
    values : (cells, genes)
        Positive values, stored without zeros.

    Returns
    -------
    (cells, genes) CSR int64
    """
    cell = np.repeat(np.arange(values.shape[0]), np.diff(values.indptr))
    order = np.lexsort((values.data, cell))
    by_cell, ascending = cell[order], values.data[order]
    begins = np.ones(len(order), dtype=bool)
    begins[1:] = by_cell[1:] != by_cell[:-1]
    greater = begins.copy()
    greater[1:] |= ascending[1:] != ascending[:-1]
    climbed = np.cumsum(greater)
    before = np.maximum.accumulate(np.where(begins, climbed - 1, 0))
    out = np.empty(len(order), dtype=np.int64)
    out[order] = climbed - before
    return sparse.csr_matrix((out, values.indices, values.indptr), shape=values.shape)


def block_hashes(counts: sparse.csr_matrix, genes: np.ndarray, by_rank: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Return what cells are compared by.

    Parameters
    ----------
    counts : (cells, genes)
        In vocabulary order.
    genes : (genes,) bool
        Those that the benchmark measures.
    by_rank
        Hash the ranks of values instead of counts (see the module's first lines).

    Returns
    -------
    cell : (n,) int64
        Cell that each hash belongs to.
    hashes : (n, 2) uint64
        One for all measured genes and one for each of `BLOCKS` sets of them, where `LEAST_GENES` are detected.
    """
    cell_of_entry = np.repeat(np.arange(counts.shape[0]), np.diff(counts.indptr))
    measured, block_of_entry = genes[counts.indices], counts.indices % BLOCKS
    cells, hashes = [], []
    for block in range(-1, BLOCKS):
        chosen = measured if block < 0 else measured & (block_of_entry == block)
        detected = np.bincount(cell_of_entry[chosen], minlength=counts.shape[0])
        ends = np.concatenate([[0], np.cumsum(detected)])
        part = sparse.csr_matrix((counts.data[chosen], counts.indices[chosen], ends), shape=counts.shape)
        many = np.flatnonzero(detected >= LEAST_GENES)
        cells.append(many)
        hashes.append(cell_hashes(ranks(part[many]) if by_rank else part[many]))
    return np.concatenate(cells), np.concatenate(hashes)


def benchmark_cells(dataset: str | Path, vocabulary: Vocabulary, out: str | Path) -> None:
    """Write the hashes of a benchmark's cells.

    Parameters
    ----------
    dataset
        Folder of a prepared data set. Cells are those of `FILES`, where they are there.
    vocabulary
        Of the corpus.
    out
        npz: ``genes`` (those of the vocabulary that the benchmark measures, bool), ``hashes`` and ``rank_hashes``
        (n, 2) uint64, ``cells``, ``compared`` (cells with enough detected genes), ``status``, ``vocabulary_hash``.
    """
    none, genes = np.empty((0, 2), dtype=np.uint64), np.zeros(len(vocabulary), dtype=bool)
    hashes, n_cells, n_compared, status = {False: [none], True: [none]}, 0, {False: 0, True: 0}, ""
    for path in [Path(dataset) / name for name in FILES if (Path(dataset) / name).is_file()]:
        try:
            with open_reader(path) as file:
                n_cells += file.n_cells
                alignment = align_genes(file.genes, vocabulary, extra=file.var)
                here = np.zeros(len(vocabulary), dtype=bool)
                here[alignment.positions[alignment.positions >= 0]] = True
                genes |= here
                for block in file.blocks():
                    for by_rank, values in _comparable(block, file.value_kind):
                        cell, found = block_hashes(harmonize(values, alignment, len(vocabulary)), genes, by_rank)
                        hashes[by_rank].append(found)
                        n_compared[by_rank] += len(np.unique(cell))
        except InputDataError as error:
            status = f"not compared: {error.found}"
    if any(n_compared.values()):
        status = BY_RANKS if n_compared[True] else COMPARED
    elif not status:
        status = f"not compared: no cell with values of {LEAST_GENES} genes"
    with atomic_path(out) as tmp, tmp.open("wb") as handle:
        np.savez(
            handle,
            hashes=np.unique(np.concatenate(hashes[False]), axis=0),
            rank_hashes=np.unique(np.concatenate(hashes[True]), axis=0),
            genes=genes,
            cells=n_cells,
            compared=sum(n_compared.values()),
            status=status,
            vocabulary_hash=vocabulary.hash,
        )


def _comparable(values: sparse.csr_matrix, value_kind: str) -> list[tuple[bool, sparse.csr_matrix]]:
    """Return cells as what they are compared by: (False, counts), and (True, values) of those without counts."""
    if value_kind == "counts":
        return [(False, values)]
    values = sparse.csr_matrix(values, dtype=np.float64, copy=True)
    values.data[~(values.data > 0)] = 0
    values.eliminate_zeros()
    if value_kind == "nonnegative":  # nobody says that they are logarithms of normalised counts
        return [(True, values)]
    counts = recover_counts(values)
    lost = sparse.diags((np.diff(counts.indptr) == 0).astype(np.float64)) @ values
    lost.eliminate_zeros()
    return [(False, counts), (True, sparse.csr_matrix(lost))]


def require_compared(cells: Mapping[str, str | Path]) -> None:
    """Refuse a corpus that was not compared with the cells of a benchmark that it must leave out.

    Parameters
    ----------
    cells
        Data set -> what :func:`benchmark_cells` wrote.

    Raises
    ------
    InputDataError
    """
    wrong = []
    for name, path in cells.items():
        with np.load(path) as file:
            status = str(file["status"])
        if not is_compared(status):
            wrong.append(f"{name} ({status})")
    if wrong:
        raise InputDataError(
            f"cells that must be left out of the corpus cannot be looked for: {'; '.join(wrong)}",
            f"a file of each of these data sets whose cells have values of at least {LEAST_GENES} genes",
            "put the files there that the benchmark's card names, or take the benchmark from corpus.exclude_benchmarks "
            "and do not judge the model on it",
        )


def is_compared(status: str) -> bool:
    """Return whether a data set with this status was compared with the corpus."""
    return status in (COMPARED, BY_RANKS)


def find_overlap(parts: Sequence[str | Path], cells: str | Path, out: str | Path, processes: int = 1) -> None:
    """Write which cells of parts of the corpus are cells of a benchmark: columns part, shard, place, source.

    Parameters
    ----------
    parts
        Folders that :func:`~sclong.corpus.part.write_part` wrote.
    cells
        What :func:`benchmark_cells` wrote.
    out
        Parquet table.
    processes
        Shards that are read at a time.

    Raises
    ------
    VocabularyMismatchError
        Parts and benchmark were put in order by different vocabularies.
    """
    with np.load(cells) as file:
        known = {name: file[name] for name in ("hashes", "rank_hashes", "genes", "vocabulary_hash")}
    shards = []
    for part in map(Path, parts):
        facts = read_json(part / "shards.json")
        theirs = str(known["vocabulary_hash"])
        require_same_vocabulary(facts["vocabulary_hash"], str(part), theirs, "the benchmark")
        shards += [part / shard["name"] for shard in facts["shards"]]
    if not len(known["hashes"]) and not len(known["rank_hashes"]):
        shards = []
    if processes > 1 and len(shards) > 1:
        with ProcessPoolExecutor(processes) as pool:
            tables = list(pool.map(_overlap_of_shard, shards, [known] * len(shards)))
    else:
        tables = [_overlap_of_shard(shard, known) for shard in shards]
    columns = {"part": str, "shard": str, "place": np.int64, "source": str}
    table = pd.concat([pd.DataFrame({c: pd.Series(dtype=t) for c, t in columns.items()}), *tables], ignore_index=True)
    with atomic_path(out) as tmp:
        table.to_parquet(tmp, index=False)
    LOGGER.info("%s: %d cells of the corpus's sources", Path(cells).stem, len(table))


def _overlap_of_shard(shard: Path, known: Mapping[str, np.ndarray], cells_at_once: int = 20_000) -> pd.DataFrame:
    arrays = {name: np.load(shard / f"{name}.npy", mmap_mode="r") for name in ("data", "indices", "indptr")}
    indptr, found = np.asarray(arrays["indptr"]), []
    for start in range(0, len(indptr) - 1, cells_at_once):
        stop = min(start + cells_at_once, len(indptr) - 1)
        entries = slice(indptr[start], indptr[stop])
        counts = sparse.csr_matrix(
            (
                arrays["data"][entries],
                arrays["indices"][entries].astype(np.int32),
                indptr[start : stop + 1] - indptr[start],
            ),
            shape=(stop - start, len(known["genes"])),
        )
        for name, by_rank in (("hashes", False), ("rank_hashes", True)):
            if len(known[name]):
                cell, hashes = block_hashes(counts, known["genes"], by_rank)
                found.append(start + cell[among(hashes, known[name])])
    places = np.unique(np.concatenate(found)).astype(np.int64)
    sources = pd.read_parquet(shard / "obs.parquet", columns=["source"])["source"].to_numpy()[places]
    return pd.DataFrame({"part": shard.parent.name, "shard": shard.name, "place": places, "source": sources})


def leakage_table(
    datasets: Mapping[str, Sequence[str]],
    cells: Mapping[str, str | Path],
    overlaps: Mapping[str, str | Path],
    excluded: Sequence[str],
    not_compared: Mapping[str, str],
    corpus: str | Path,
    out: str | Path,
) -> None:
    """Write the audit: one row for each data set of a benchmark.

    Parameters
    ----------
    datasets
        Data set -> benchmarks that use it.
    cells, overlaps
        Data set -> what :func:`benchmark_cells` and :func:`find_overlap` wrote.
    excluded
        Data sets whose cells the corpus leaves out.
    not_compared
        Benchmark -> why its data is not here.
    corpus
        Folder of the corpus.
    out
        Tab-separated table; columns `COLUMNS`. ``cells_in_sources`` were found in the sources of the corpus,
        ``cells_in_corpus`` are still in it: 0 for what is excluded.
    """
    rows: list[dict[str, Any]] = []
    for name, benchmarks in datasets.items():
        with np.load(cells[name]) as file:
            facts = {key: file[key].item() for key in ("status", "cells", "compared")} | {
                "genes": int(file["genes"].sum())
            }
        overlap = pd.read_parquet(overlaps[name])
        by_source = overlap["source"].value_counts().sort_index()
        compared = is_compared(facts["status"])
        rows.append(
            {
                "dataset": name,
                "benchmarks": ", ".join(benchmarks),
                "status": facts["status"],
                "cells": facts["cells"],
                "cells_compared": facts["compared"],
                "genes": facts["genes"],
                "cells_in_sources": len(overlap) if compared else pd.NA,
                "excluded": "yes" if name in excluded else "no",
                "cells_in_corpus": still_there(corpus, overlap) if compared else pd.NA,
                "sources": ", ".join(f"{source}: {n}" for source, n in by_source.items()),
            }
        )
    rows += [{"benchmarks": name, "status": f"not compared: {why}"} for name, why in not_compared.items()]
    table = pd.DataFrame(rows).reindex(columns=list(COLUMNS))
    numbers = [column for column in COLUMNS if column.startswith("cells") or column == "genes"]
    table[numbers] = table[numbers].astype("Int64")
    write_tsv(table, out)
