"""The corpus on disk, read: many cells per file, raw counts as CSR arrays that are memory-mapped.

Shapes: B cells, N genes. The files are described in :mod:`.shard_writer`; a corpus may hold only some cells of
a shard (``kept.npy``).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from pandas.api.types import union_categoricals
from scipy import sparse

from sclong.corpus.shard_writer import FORMAT, LABELS
from sclong.errors import InputDataError, listing
from sclong.io.files import read_json, sha256_file

OBS_COLUMNS = LABELS
Arrays = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray | None]


class ShardStore:
    """Read shards; arrays are memory-mapped, and no file stays open: a corpus may have more than a process may open.

    Parameters
    ----------
    folder
        What :class:`~sclong.corpus.shard_writer.ShardWriter` or :func:`~sclong.corpus.assemble.build_corpus` wrote.
    columns
        Columns of :attr:`obs`.

    Attributes
    ----------
    vocabulary_hash, n_genes
        Of the vocabulary that the columns follow.

    Raises
    ------
    InputDataError
        No ``shards.json`` (the corpus is not complete), one of an older format, or a shard that is not what it says.
    """

    def __init__(self, folder: str | Path, columns: Sequence[str] = OBS_COLUMNS) -> None:
        self.folder = Path(folder)
        if not (self.folder / "shards.json").is_file():
            raise InputDataError(f"{folder}: no shards.json", "a complete corpus", "make it: rule shards")
        self.facts = read_json(self.folder / "shards.json")
        if self.facts.get("format") != FORMAT:
            raise InputDataError(
                f"{folder}: shards of format {self.facts.get('format', 1)}",
                f"format {FORMAT}",
                "remove the folder and make the corpus again: it was written by an older version",
            )
        self.vocabulary_hash: str = self.facts["vocabulary_hash"]
        self.n_genes: int = self.facts["n_genes"]
        self.shards = self.facts["shards"]
        self.starts = np.concatenate([[0], np.cumsum([s["kept"] for s in self.shards])]).astype(np.int64)
        self.columns = list(columns)
        self._arrays = [self._map(shard) for shard in self.shards]

    @cached_property
    def obs(self) -> pd.DataFrame:
        """Cells x categorical columns (source, dataset, donor, tissue, assay, cell_type); read when first asked for."""
        parts = []
        for shard, (*_, kept) in zip(self.shards, self._arrays, strict=True):
            path = self.folder / shard["name"] / "obs.parquet"
            try:
                obs = pq.read_table(path, columns=self.columns, read_dictionary=self.columns).to_pandas()
            except (OSError, ValueError) as error:
                raise _damaged(path, error) from error
            parts.append(obs if kept is None else obs.iloc[kept])
        return pd.DataFrame({c: union_categoricals([part[c] for part in parts]) for c in self.columns})

    def _map(self, shard: dict[str, Any]) -> Arrays:
        """Return data, indices, indptr and kept of a shard."""
        folder = self.folder / shard["name"]
        data, indices, indptr = (map_array(folder / f"{name}.npy") for name in ("data", "indices", "indptr"))
        if len(indptr) != shard["cells"] + 1 or indptr[-1] != len(data) or len(data) != len(indices):
            raise InputDataError(
                f"{folder}: {len(indptr) - 1} cells, {len(data)} values, {len(indices)} indices",
                f"{shard['cells']} cells and as many values as indices",
                "the shard is damaged: remove the corpus folder and make it again",
            )
        return data, indices, indptr, map_array(folder / "kept.npy") if shard["kept"] < shard["cells"] else None

    def __len__(self) -> int:
        return int(self.starts[-1])

    def __getstate__(self) -> dict[str, Any]:
        return {"folder": self.folder, "columns": self.columns}

    def __setstate__(self, state: dict[str, Any]) -> None:  # another process maps the files itself
        ShardStore.__init__(self, **state)

    def rows(self, cells: np.ndarray) -> sparse.csr_matrix:
        """Return the raw counts of some cells, in the order asked for: (B, N) CSR float32."""
        cells = np.asarray(cells, dtype=np.int64)
        shards = np.searchsorted(self.starts, cells, side="right") - 1
        counts, genes, ends = [np.empty(0, np.uint8)], [np.empty(0, np.uint16)], [0]
        for shard, row in zip(shards.tolist(), (cells - self.starts[shards]).tolist(), strict=True):
            data, indices, indptr, kept = self._arrays[shard]
            start, stop = indptr[(row if kept is None else kept[row]) :][:2].tolist()
            counts.append(data[start:stop])
            genes.append(indices[start:stop])
            ends.append(ends[-1] + stop - start)
        if max((int(part.max()) for part in genes if len(part)), default=0) >= self.n_genes:
            raise InputDataError(
                f"{self.folder}: a gene index of {max(int(part.max()) for part in genes if len(part))} in a shard",
                f"indices below {self.n_genes}, the genes of its vocabulary",
                f"a shard is damaged: `sclong verify {self.folder}` names the file; make the corpus again",
            )
        flat, where = np.concatenate(counts).astype(np.float32), np.concatenate(genes).astype(np.int32)
        return sparse.csr_matrix((flat, where, np.array(ends)), shape=(len(cells), self.n_genes))

    def verify(self) -> None:
        """Compare every file with the hash that was stored when it was written.

        Raises
        ------
        InputDataError
            Names the files that differ, are missing, or do not belong there.
        """
        wrong = []
        for shard in self.shards:
            here = self.folder / shard["name"]
            found = {p.name for p in here.iterdir()} if here.is_dir() else set()
            wrong += [f"{shard['name']}/{name} (not of this corpus)" for name in sorted(found - set(shard["files"]))]
            for name, digest in shard["files"].items():
                if name not in found:
                    wrong.append(f"{shard['name']}/{name} (missing)")
                elif sha256_file(here / name) != digest:
                    wrong.append(f"{shard['name']}/{name} (changed)")
        listed = {shard["name"] for shard in self.shards}
        wrong += [f"{p.name} (not of this corpus)" for p in sorted(self.folder.glob("shard_*")) if p.name not in listed]
        if wrong:
            raise InputDataError(
                f"{self.folder}: {len(wrong)} files are not what was written: {listing(wrong, len(wrong))}",
                "the files of shards.json",
                "remove the corpus folder and make it again",
            )


def _damaged(path: Path, error: Exception) -> InputDataError:
    reason = " ".join(str(error).split())[:200]
    return InputDataError(
        f"{path}: {type(error).__name__}: {reason}", "a whole shard", "remove the corpus folder and make it again"
    )


def map_array(path: Path) -> np.ndarray:
    """Return a one-dimensional ``.npy`` file, mapped read only. The file does not stay open, as a numpy memmap's does.

    Raises
    ------
    InputDataError
        No such file, or not a whole one.
    """
    try:
        with open(path, "rb") as file:
            np.lib.format.read_magic(file)
            shape, _, kind = np.lib.format.read_array_header_1_0(file)
            start = file.tell()
        with pa.memory_map(str(path)) as file:
            first, size = file.read_buffer(1), file.size()  # one byte keeps the map; asking for all would read it ahead
        whole = pa.foreign_buffer(first.address, size, base=first)
        return np.frombuffer(whole, kind, shape[0], start) if shape[0] else np.empty(0, kind)
    except (OSError, ValueError) as error:
        raise _damaged(path, error) from error
