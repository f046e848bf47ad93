"""The corpus on disk, read: many cells per file, raw counts as CSR arrays that are memory-mapped.

Shapes: B cells, N genes. The files are described in :mod:`sclong.io.shard_writer`; a corpus may hold only some cells of
a shard (``kept.npy``).
"""

from __future__ import annotations

import resource
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from pandas.api.types import union_categoricals
from scipy import sparse

from sclong.errors import InputDataError, listing
from sclong.io.files import read_json, sha256_file
from sclong.io.shard_writer import FORMAT, LABELS

OBS_COLUMNS = LABELS
SPARE_FILES = 256  # that a process may open besides shards
Arrays = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray | None]


class ShardStore:
    """Read shards; arrays are memory-mapped. Where there are more shards than files may be open, few are at a time.

    Parameters
    ----------
    folder
        What :class:`~sclong.io.shard_writer.ShardWriter` or :func:`~sclong.data.corpus.build_corpus` wrote.
    columns
        Columns of ``obs`` to read.

    Attributes
    ----------
    obs : DataFrame (cells)
        Categorical columns source, dataset, donor, tissue, assay, cell_type.
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
                f"{folder}: shards of format {self.facts.get('format', 1)}", f"format {FORMAT}",
                "remove the folder and make the corpus again: it was written by an older version",
            )  # fmt: skip
        self.vocabulary_hash: str = self.facts["vocabulary_hash"]
        self.n_genes: int = self.facts["n_genes"]
        self.shards = self.facts["shards"]
        self.starts = np.concatenate([[0], np.cumsum([s["kept"] for s in self.shards])]).astype(np.int64)
        self._open: OrderedDict[int, Arrays] = OrderedDict()
        self._most_open = max((_files_that_may_be_open(4 * len(self.shards)) - SPARE_FILES) // 4, 8)
        for number in range(len(self.shards)):  # what is damaged is seen now
            self._shard(number)
        self.obs = self._read_obs(columns)

    def _read_obs(self, columns: Sequence[str]) -> pd.DataFrame:
        parts = []
        for number, shard in enumerate(self.shards):
            path = self.folder / shard["name"] / "obs.parquet"
            try:
                obs = pd.read_parquet(path, columns=list(columns))
            except (OSError, ValueError) as error:
                raise _damaged(path, error) from error
            if shard["kept"] < shard["cells"]:
                obs = obs.iloc[self._load(number, "kept")]
            parts.append(obs.astype("category"))
        if not parts:
            return pd.DataFrame({c: pd.Categorical([]) for c in columns})
        return pd.DataFrame({c: union_categoricals([part[c] for part in parts]) for c in columns})

    def _load(self, number: int, name: str, mmap_mode: str | None = None) -> np.ndarray:
        path = self.folder / self.shards[number]["name"] / f"{name}.npy"
        try:
            return np.load(path, mmap_mode=mmap_mode, allow_pickle=False)  # type: ignore[arg-type]
        except (OSError, ValueError) as error:
            raise _damaged(path, error) from error

    def _shard(self, number: int) -> Arrays:
        """Return data, indices, indptr and kept of a shard; the longest unused one is closed where there are many."""
        if number in self._open:
            self._open.move_to_end(number)
            return self._open[number]
        shard = self.shards[number]
        data, indices = (np.asarray(self._load(number, name, "r")) for name in ("data", "indices"))
        indptr = np.asarray(self._load(number, "indptr", "r"))
        if len(indptr) != shard["cells"] + 1 or indptr[-1] != len(data) or len(data) != len(indices):
            raise InputDataError(
                f"{self.folder / shard['name']}: {len(indptr) - 1} cells, {len(data)} values, {len(indices)} indices",
                f"{shard['cells']} cells and as many values as indices",
                "the shard is damaged: remove the corpus folder and make it again",
            )
        kept = self._load(number, "kept") if shard["kept"] < shard["cells"] else None
        self._open[number] = data, indices, indptr, kept
        while len(self._open) > self._most_open:
            self._open.popitem(last=False)
        return self._open[number]

    def __len__(self) -> int:
        return int(self.starts[-1])

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_open": OrderedDict()}  # a worker maps the files itself

    def cell(self, position: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the raw counts of one cell as they are on the disk.

        Returns
        -------
        counts, genes : (detected,)
            Views of the files: uint8, uint16 or uint32; uint16 or int32, ascending.
        """
        number = int(np.searchsorted(self.starts, position, side="right")) - 1
        data, indices, indptr, kept = self._shard(number)
        row = int(position - self.starts[number])
        row = row if kept is None else int(kept[row])
        start, stop = indptr[row : row + 2]
        return data[start:stop], indices[start:stop]

    def rows(self, cells: np.ndarray) -> sparse.csr_matrix:
        """Return the raw counts of some cells, in the order asked for: (B, N) CSR float32."""
        parts = [self.cell(int(cell)) for cell in np.asarray(cells, dtype=np.int64)]
        indptr = np.concatenate([[0], np.cumsum([len(counts) for counts, _ in parts], dtype=np.int64)])
        flat = np.concatenate([*(counts for counts, _ in parts), np.empty(0, np.uint8)]).astype(np.float32)
        where = np.concatenate([*(genes for _, genes in parts), np.empty(0, np.uint16)]).astype(np.int32)
        return sparse.csr_matrix((flat, where, indptr), shape=(len(parts), self.n_genes))

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
                f"{self.folder}: {len(wrong)} files are not what was written: {listing(wrong)}",
                "the files of shards.json", "remove the corpus folder and make it again",
            )  # fmt: skip


def _damaged(path: Path, error: Exception) -> InputDataError:
    reason = " ".join(str(error).split())[:200]
    return InputDataError(
        f"{path}: {type(error).__name__}: {reason}", "a whole shard", "remove the corpus folder and make it again"
    )


def _files_that_may_be_open(wanted: int) -> int:
    """Ask the system for as many open files as are wanted; return how many it gives."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    enough = wanted + SPARE_FILES
    if soft != resource.RLIM_INFINITY and soft < enough:
        most = enough if hard == resource.RLIM_INFINITY else min(enough, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
        soft = most
    return enough if soft == resource.RLIM_INFINITY else soft
