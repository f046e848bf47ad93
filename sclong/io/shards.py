"""The corpus on disk: many cells per file, raw integer counts as CSR arrays that are memory-mapped."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from pandas.api.types import union_categoricals
from scipy import sparse

from sclong.errors import InputDataError, listing
from sclong.io.files import read_json, sha256_file

ARRAYS = ("data", "indices", "indptr")
OBS_COLUMNS = ("source", "dataset", "donor", "tissue", "assay", "cell_type")


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
            kept = self._map(shard["name"], "kept") if shard["kept"] < shard["cells"] else None
            self._arrays.append((data, indices, indptr, kept))
        self.starts = np.concatenate([[0], np.cumsum([s["kept"] for s in self.facts["shards"]])]).astype(np.int64)
        parts = []
        for shard, (*_, kept) in zip(self.facts["shards"], self._arrays, strict=True):
            obs = pd.read_parquet(self.folder / shard["name"] / "obs.parquet", columns=list(OBS_COLUMNS))
            parts.append((obs if kept is None else obs.iloc[kept]).astype("category"))
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
            data, indices, indptr, kept = self._arrays[shard]
            row = cell - self.starts[shard]
            start, stop = indptr[row if kept is None else kept[row] :][:2]
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
