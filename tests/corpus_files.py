"""Parts of a corpus, written and read for tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse

from sclong.config.sections import CellFilters, CorpusSource
from sclong.corpus.part import write_part
from sclong.corpus.shards import ShardStore
from sclong.corpus.source import file_dataset
from sclong.genes.vocabulary import Vocabulary
from sclong.io.files import read_json

ANY = CorpusSource(name="x", input="file:x")


def write_file_part(path: Path, out: Path, vocabulary: Vocabulary, source: CorpusSource = ANY, **filters: Any) -> Path:
    """Write the part of a file; return its folder."""
    work_dir = out.parent / f"unfinished-{out.name}"
    write_part([file_dataset(path, source)], out, work_dir, vocabulary, CellFilters(**filters), {})
    return out


def counts_of(folder: Path) -> sparse.csr_matrix:
    """Return all counts of a set of shards."""
    store = ShardStore(folder)
    return store.rows(np.arange(len(store)))


def coverage_of(part: Path, number: int = 0) -> dict[str, Any]:
    """Return what is said of a data set of a part."""
    facts: dict[str, Any] = read_json(part / "coverage.json")["datasets"][number]
    return facts


def obs_of(part: Path) -> pd.DataFrame:
    """Return the table of cells as it is on the disk."""
    return pd.concat([pd.read_parquet(p) for p in sorted(part.glob("shard_*/obs.parquet"))], ignore_index=True)


def contents(folder: Path) -> dict[str, bytes]:
    """Return name -> bytes of all files below a folder."""
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}
