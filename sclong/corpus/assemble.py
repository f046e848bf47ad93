"""From parts to the corpus: exact duplicates and cells of benchmarks left out, one manifest for all.

Nothing is copied: the corpus holds hard links to the shards of its parts (copies where the file system has no links)
and, for a shard of which not all cells belong to it, the list of those that do.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from sclong.cells.hash import first_of_equals
from sclong.corpus.part import DROPPED
from sclong.corpus.shard_writer import write_shard_list
from sclong.errors import InputDataError
from sclong.genes.vocabulary import Vocabulary, require_same_vocabulary
from sclong.io.files import atomic_dir, read_json, sha256_file
from sclong.io.tables import read_tsv, write_tsv
from sclong.runlog import LOGGER


def detection_table(scans: Sequence[str | Path]) -> pd.DataFrame:
    """Add up what :func:`~sclong.corpus.source.scan_source` wrote: columns ensembl_id, datasets, cells.

    A scan with a column ``datasets`` of its own, as that of the Census, counts for as many data sets.

    Raises
    ------
    InputDataError
        When there is no scan at all.
    """
    if not scans:
        raise InputDataError(
            "no source of the corpus ranks genes: all are optional",
            "at least one that is not optional",
            "look at corpus.sources; optional ones do not count, so that the vocabulary does not depend on a mirror",
        )
    tables = [read_tsv(scan, ["ensembl_id", "cells"], dtype={"ensembl_id": str, "cells": int}) for scan in scans]
    tables = [table if "datasets" in table else table.assign(datasets=1) for table in tables]
    stacked = pd.concat(tables, ignore_index=True).groupby("ensembl_id", as_index=False)[["datasets", "cells"]].sum()
    return stacked


MANIFEST = (
    "source",
    "dataset",
    "status",
    "tissue",
    "assay",
    "donors",
    "cells_in",
    "cells_kept",
    *DROPPED,
    "cells_of_benchmarks",
    "cells_duplicate",
    "median_genes",
    "names",
    "mapped",
    "by_ensembl",
    "by_symbol",
    "by_previous_or_alias",
    "by_entrez",
    "ambiguous",
    "unmapped",
    "duplicated",
    "with_version",
    "with_blanks",
    "share_of_vocabulary",
    "share_of_counts",
    "counts_from",
)
TEXT = ("source", "dataset", "status", "tissue", "assay", "counts_from")
SHARES = ("share_of_vocabulary", "share_of_counts")
LEFT_OUT_HERE = ("cells_of_benchmarks", "cells_duplicate")


def build_corpus(
    parts: Sequence[str | Path],
    out: str | Path,
    vocabulary: Vocabulary,
    manifest: str | Path,
    *,
    overlaps: Sequence[str | Path] = (),
    left_out: Sequence[str] = (),
) -> None:
    """Put parts together, and write a manifest with a row for each data set.

    Cells of benchmarks are left out first; of cells with the same counts the first stays, in the order of the parts.

    Parameters
    ----------
    parts
        Folders that :func:`~sclong.corpus.part.write_part` wrote.
    out, manifest
        Folder of the corpus; tab-separated table.
    vocabulary
        Genes of the corpus.
    overlaps
        Tables that :func:`~sclong.corpus.leakage.find_overlap` wrote, of the benchmarks whose cells are left out.
    left_out
        Names of sources that could not be had: they get a row too.

    Raises
    ------
    VocabularyMismatchError
        A part follows another vocabulary.
    InputDataError
        No cell is left.
    """
    folders = [Path(part) for part in parts]
    for part in folders:
        found = read_json(part / "coverage.json")["vocabulary_hash"]
        require_same_vocabulary(found, str(part), vocabulary.hash, "the corpus")
    shards = [_ShardOfPart(part, shard) for part in folders for shard in read_json(part / "shards.json")["shards"]]
    hashes = np.concatenate([np.empty((0, 2), dtype=np.uint64), *(shard.hashes() for shard in shards)])
    of_benchmark = np.concatenate([np.empty(0, dtype=bool), *_marks(shards, overlaps)])
    kept = np.zeros(len(hashes), dtype=bool)
    kept[~of_benchmark] = first_of_equals(hashes[~of_benchmark])
    if not kept.any():
        raise InputDataError(
            f"none of {len(kept)} cells is left", "cells that are in no benchmark", "add sources to the corpus"
        )
    ends = np.cumsum([shard.cells for shard in shards])[:-1]
    with atomic_dir(out) as folder:
        links = _link_shards(shards, np.split(kept, ends), folder)
        write_shard_list(folder, vocabulary.hash, len(vocabulary), links)
    reasons = {"cells_of_benchmarks": of_benchmark, "cells_duplicate": ~of_benchmark & ~kept, "cells_kept": kept}
    sums = _by_dataset(shards, {name: np.split(r, ends) for name, r in reasons.items()})
    _write_manifest(folders, sums, left_out, manifest)
    LOGGER.info("corpus: %d cells of %d, in %d shards", int(kept.sum()), len(kept), len(links))


@dataclass(frozen=True)
class _ShardOfPart:
    part: Path
    facts: Mapping[str, Any]

    @property
    def cells(self) -> int:
        return int(self.facts["cells"])

    @property
    def folder(self) -> Path:
        return self.part / str(self.facts["name"])

    @property
    def address(self) -> str:
        return f"{self.part.name}/{self.facts['name']}"

    def hashes(self) -> np.ndarray:
        table = pd.read_parquet(self.folder / "obs.parquet", columns=["hash_high", "hash_low"])
        return table.to_numpy(dtype=np.uint64)

    def datasets(self) -> pd.Series:
        return pd.read_parquet(self.folder / "obs.parquet", columns=["dataset"])["dataset"]


def _marks(shards: Sequence[_ShardOfPart], overlaps: Sequence[str | Path]) -> list[np.ndarray]:
    """Return for each shard which of its cells are in one of the overlaps, (cells,) bool."""
    marks = {shard.address: np.zeros(shard.cells, dtype=bool) for shard in shards}
    for path in overlaps:
        table = pd.read_parquet(path, columns=["part", "shard", "place"])
        for (part, shard), places in table.groupby(["part", "shard"])["place"]:
            marks[f"{part}/{shard}"][places.to_numpy()] = True
    return list(marks.values())


def _by_dataset(
    shards: Sequence[_ShardOfPart], reasons: Mapping[str, Sequence[np.ndarray]]
) -> dict[tuple[str, str], dict[str, int]]:
    """Return (part, data set) -> reason -> number of cells."""
    out: dict[tuple[str, str], dict[str, int]] = {}
    for number, shard in enumerate(shards):
        datasets = shard.datasets()
        for name in datasets.unique():
            mine = (datasets == name).to_numpy()
            sums = out.setdefault((shard.part.name, name), dict.fromkeys(reasons, 0))
            for reason, masks in reasons.items():
                sums[reason] += int(masks[number][mine].sum())
    return out


def _link_shards(shards: Sequence[_ShardOfPart], kept: Sequence[np.ndarray], folder: Path) -> list[dict[str, Any]]:
    out: list[dict[str, Any]] = []
    for shard, mine in zip(shards, kept, strict=True):
        if not mine.any():
            continue
        target = folder / f"shard_{len(out):05d}"
        target.mkdir()
        for file in shard.facts["files"]:
            _link(shard.folder / file, target / file)
        files = dict(shard.facts["files"])
        if not mine.all():
            np.save(target / "kept.npy", np.flatnonzero(mine))
            files["kept.npy"] = sha256_file(target / "kept.npy")
        out.append(
            {"name": target.name, "from": shard.address, "cells": len(mine), "kept": int(mine.sum()), "files": files}
        )
    return out


def still_there(corpus: str | Path, overlap: pd.DataFrame) -> int:
    """Return how many cells of an overlap (columns part, shard, place) are in the corpus."""
    count = 0
    by_shard = {f"{part}/{shard}": t["place"].to_numpy() for (part, shard), t in overlap.groupby(["part", "shard"])}
    for shard in read_json(Path(corpus) / "shards.json")["shards"]:
        places = by_shard.get(shard["from"], np.empty(0, dtype=np.int64))
        path = Path(corpus) / shard["name"] / "kept.npy"
        count += int(np.isin(places, np.load(path)).sum()) if path.is_file() else len(places)
    return count


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without hard links
        shutil.copy2(source, target)


def _write_manifest(
    parts: Sequence[Path],
    sums: Mapping[tuple[str, str], Mapping[str, int]],
    left_out: Sequence[str],
    manifest: str | Path,
) -> None:
    rows: list[Mapping[str, Any]] = []
    for part in parts:
        for facts in read_json(part / "coverage.json")["datasets"]:
            n = sums.get((part.name, facts["dataset"]), dict.fromkeys([*LEFT_OUT_HERE, "cells_kept"], 0))
            rows.append({**facts, **n, "status": "used" if n["cells_kept"] else "no cell is left"})
    rows += [{"source": name, "status": "left out: no public address, in no mirror"} for name in left_out]
    table = pd.DataFrame(rows).reindex(columns=list(MANIFEST))
    numbers = [c for c in MANIFEST if c not in (*TEXT, *SHARES)]
    table[numbers] = table[numbers].astype("Int64")
    write_tsv(table, manifest)
