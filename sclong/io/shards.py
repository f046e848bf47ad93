"""The corpus on disk: many cells per file, raw integer counts as CSR arrays that are memory-mapped."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType

import numpy as np
import pandas as pd
from pandas.api.types import union_categoricals
from scipy import sparse

from sclong.errors import InputDataError, listing
from sclong.io.files import atomic_dir, read_json, sha256_file, write_json

ARRAYS = ("data", "indices", "indptr")
OBS_COLUMNS = ("source", "donor", "tissue", "assay", "cell_type")


class ShardWriter:
    """Collect cells and write them as shards of equal size; ``shards.json`` is written last.

    Parameters
    ----------
    folder
        Folder of the shards; made if needed.
    vocabulary_hash, n_genes
        Of the vocabulary that the columns follow.
    cells_per_shard
        Cells per shard (the last has fewer).
    """

    def __init__(self, folder: str | Path, vocabulary_hash: str, n_genes: int, cells_per_shard: int) -> None:
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.vocabulary_hash, self.n_genes, self.cells_per_shard = vocabulary_hash, n_genes, cells_per_shard
        self.shards: list[dict[str, object]] = []
        self.counts: list[sparse.csr_matrix] = []
        self.obs: list[pd.DataFrame] = []
        self.waiting = 0

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()

    def append(self, counts: sparse.csr_matrix, obs: pd.DataFrame) -> None:
        """Add cells: (cells, n_genes) integer counts, and a row of `OBS_COLUMNS` for each."""
        assert counts.shape == (len(obs), self.n_genes)
        self.counts.append(sparse.csr_matrix(counts))
        self.obs.append(obs[list(OBS_COLUMNS)].astype(str))
        self.waiting += len(obs)
        if self.waiting >= self.cells_per_shard:
            self._write(self.waiting // self.cells_per_shard * self.cells_per_shard)

    def _write(self, n: int) -> None:
        """Write the first `n` waiting cells, `cells_per_shard` to a shard."""
        counts = sparse.csr_matrix(sparse.vstack(self.counts, format="csr"))
        obs = pd.concat(self.obs, ignore_index=True)
        for start in range(0, n, self.cells_per_shard):
            stop = min(start + self.cells_per_shard, n)
            self._write_shard(counts[start:stop], obs.iloc[start:stop])
        self.counts, self.obs, self.waiting = [counts[n:]], [obs.iloc[n:]], len(obs) - n

    def _write_shard(self, counts: sparse.csr_matrix, obs: pd.DataFrame) -> None:
        counts.sort_indices()
        name = f"shard_{len(self.shards):05d}"
        with atomic_dir(self.folder / name) as out:
            np.save(out / "data.npy", counts.data.astype(np.uint32))
            np.save(out / "indices.npy", counts.indices.astype(np.int32))
            np.save(out / "indptr.npy", counts.indptr.astype(np.int64))
            obs.to_parquet(out / "obs.parquet", index=False)
            files = {f.name: sha256_file(f) for f in sorted(out.iterdir())}
        self.shards.append({"name": name, "cells": len(obs), "files": files})

    def close(self) -> None:
        """Write what is left, then ``shards.json``: only now the corpus is complete.

        Raises
        ------
        InputDataError
            When there was no cell at all.
        """
        if self.waiting:
            self._write(self.waiting)
        if not self.shards:
            raise InputDataError(f"{self.folder}: no cell", "a corpus with cells", "check the sources of the corpus")
        write_json(
            self.folder / "shards.json",
            {
                "vocabulary_hash": self.vocabulary_hash,
                "n_genes": self.n_genes,
                "cells": sum(int(str(s["cells"])) for s in self.shards),
                "shards": self.shards,
            },
        )


class ShardStore:
    """Read shards; arrays are memory-mapped.

    Parameters
    ----------
    folder
        What :class:`ShardWriter` wrote.

    Attributes
    ----------
    obs : DataFrame (cells)
        Categorical columns source, donor, tissue, assay, cell_type.

    Raises
    ------
    InputDataError
        No ``shards.json`` (the corpus is not complete), or an array that is not what it says.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        if not (self.folder / "shards.json").is_file():
            raise InputDataError(f"{folder}: no shards.json", "a complete corpus", "make it: rule shards")
        self.facts = read_json(self.folder / "shards.json")
        self.vocabulary_hash: str = self.facts["vocabulary_hash"]
        self.n_genes: int = self.facts["n_genes"]
        self._arrays = []
        for shard in self.facts["shards"]:
            data, indices, indptr = (self._map(shard["name"], name) for name in ARRAYS)
            if len(indptr) != shard["cells"] + 1 or indptr[-1] != len(data) or len(data) != len(indices):
                raise InputDataError(
                    f"{self.folder / shard['name']}: {len(indptr) - 1} cells, {len(data)} values, "
                    f"{len(indices)} indices",
                    f"{shard['cells']} cells and as many values as indices",
                    "the shard is damaged: remove the corpus folder and make it again",
                )
            self._arrays.append((data, indices, indptr))
        self.starts = np.concatenate([[0], np.cumsum([s["cells"] for s in self.facts["shards"]])]).astype(np.int64)
        parts = [
            pd.read_parquet(self.folder / s["name"] / "obs.parquet").astype("category") for s in self.facts["shards"]
        ]
        self.obs = pd.DataFrame({c: union_categoricals([part[c] for part in parts]) for c in OBS_COLUMNS})

    def _map(self, shard: str, name: str) -> np.ndarray:
        path = self.folder / shard / f"{name}.npy"
        try:
            return np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError) as error:
            raise InputDataError(
                f"{path}: {error}", "a whole shard", "remove the corpus folder and make it again"
            ) from error

    def __len__(self) -> int:
        return int(self.starts[-1])

    def rows(self, cells: np.ndarray) -> sparse.csr_matrix:
        """Return the raw counts of some cells, in the order asked for: (k, n_genes) CSR float32."""
        cells = np.asarray(cells, dtype=np.int64)
        values, columns, lengths = [], [], []
        for cell, shard in zip(cells, np.searchsorted(self.starts, cells, side="right") - 1, strict=True):
            data, indices, indptr = self._arrays[shard]
            start, stop = indptr[cell - self.starts[shard] :][:2]
            values.append(data[start:stop])
            columns.append(indices[start:stop])
            lengths.append(stop - start)
        indptr = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        flat = np.concatenate([*values, np.empty(0, np.uint32)]).astype(np.float32)
        where = np.concatenate([*columns, np.empty(0, np.int32)]).astype(np.int32)
        return sparse.csr_matrix((flat, where, indptr), shape=(len(cells), self.n_genes))

    def verify(self) -> None:
        """Compare every file with the hash that was stored when it was written.

        Raises
        ------
        InputDataError
            Names the files that differ.
        """
        wrong = [
            f"{shard['name']}/{name}"
            for shard in self.facts["shards"]
            for name, digest in shard["files"].items()
            if not (self.folder / shard["name"] / name).is_file()
            or sha256_file(self.folder / shard["name"] / name) != digest
        ]
        if wrong:
            raise InputDataError(
                f"{self.folder}: {len(wrong)} files are not what was written: {listing(wrong)}",
                "the files of shards.json", "remove the corpus folder and make it again",
            )  # fmt: skip
