"""Writing cells to disk: many cells per file, raw counts as CSR arrays; a writer that was killed goes on where it was.

::

    folder/journal.json   while cells are written: what is on the disk, and how far the input was read then
    folder/shard_00000/   data.npy (counts, the smallest unsigned type that holds them), indices.npy (genes),
                          indptr.npy, obs.parquet
    folder/shards.json    written last: only now the cells are complete
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse

from sclong.cells.hash import cell_hashes
from sclong.errors import InputDataError
from sclong.io.files import atomic_dir, read_json, sha256_file, write_json, writing

FORMAT = 2
LABELS = ("source", "dataset", "donor", "tissue", "assay", "cell_type")
OBS = (*LABELS, "row", "hash_high", "hash_low")


class ShardWriter:
    """Collect cells and write them as shards of equal size; ``shards.json`` is written last.

    Opened on a folder whose writer was killed, it goes on: :attr:`progress` says how far the input had been read, and
    cells that are on the disk already are not written again. The result is byte for byte that of an uninterrupted run,
    given the same cells in the same order.

    Parameters
    ----------
    folder
        Folder of the shards; made if needed.
    vocabulary_hash, n_genes
        Of the vocabulary that the columns follow.
    cells_per_shard
        Cells per shard (the last has fewer). A shard is held in memory until it is full.
    identity
        JSON values that say what is written. If a journal of other values is found, its shards are removed.

    Attributes
    ----------
    progress : mapping or None
        What the last :meth:`append` said of which not all cells are to be repeated; None at the beginning.

    Raises
    ------
    InputDataError
        The folder is complete already.
    """

    def __init__(
        self,
        folder: str | Path,
        vocabulary_hash: str,
        n_genes: int,
        cells_per_shard: int,
        identity: Mapping[str, Any] | None = None,
    ) -> None:
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        if (self.folder / "shards.json").is_file():
            raise InputDataError(
                f"{folder}: holds a complete set of shards",
                "an empty folder, or an unfinished one",
                "choose another folder, or remove it",
            )
        self.vocabulary_hash, self.n_genes, self.cells_per_shard = vocabulary_hash, n_genes, cells_per_shard
        self._identity = {
            "format": FORMAT,
            "vocabulary_hash": vocabulary_hash,
            "n_genes": n_genes,
            "cells_per_shard": cells_per_shard,
            **(identity or {}),
        }
        self.shards: list[dict[str, Any]] = []
        self.progress: Mapping[str, Any] | None = None
        self._skip = 0  # cells that follow `progress` and are on the disk
        self._resume()
        self._pieces: list[tuple[np.ndarray, np.ndarray, np.ndarray, pd.DataFrame]] = []  # data, genes, lengths, obs
        self._written = sum(shard["cells"] for shard in self.shards)
        self._seen = self._written - self._skip
        self._marks: list[tuple[int, Mapping[str, Any] | None]] = [(self._seen, self.progress)]

    def _resume(self) -> None:
        path, shards = self.folder / "journal.json", set(self.folder.glob("shard_*"))
        for unfinished in self.folder.glob(".tmp-*"):
            shutil.rmtree(unfinished) if unfinished.is_dir() else unfinished.unlink()
        if path.is_file():
            journal = read_json(path)
            if journal["identity"] == self._identity:
                self.shards, self.progress, self._skip = journal["shards"], journal["progress"], journal["skip"]
                shards -= {self.folder / shard["name"] for shard in self.shards}
            else:
                path.unlink()
        for unlisted in shards:
            shutil.rmtree(unlisted)

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()

    def append(self, counts: sparse.csr_matrix, obs: pd.DataFrame, progress: Mapping[str, Any] | None = None) -> None:
        """Add cells.

        Parameters
        ----------
        counts : (cells, n_genes)
            Raw counts.
        obs
            A row for each cell. Columns source, donor, tissue, assay, cell_type; dataset (default: the source) and row,
            the cell's number in its data set (default: in this folder).
        progress
            How far the input has been read with these cells, as JSON values.
        """
        if counts.shape != (len(obs), self.n_genes):
            raise InputDataError(
                f"counts of shape {counts.shape} for {len(obs)} rows of obs",
                f"one row for each cell and {self.n_genes} columns, one for each gene of the vocabulary",
                "correct the code that calls the writer",
            )
        counts = sparse.csr_matrix(counts, copy=True)
        counts.eliminate_zeros()
        counts.sort_indices()
        obs = pd.DataFrame(
            {
                **{label: obs[label if label in obs else "source"].astype(str).to_numpy() for label in LABELS},
                "row": (obs["row"] if "row" in obs else self._seen + np.arange(len(obs))).astype(np.int64),
            }
        )
        on_disk = min(max(self._written - self._seen, 0), len(obs))
        self._seen += len(obs)
        if progress is not None:
            self._marks.append((self._seen, progress))
        if on_disk < len(obs):
            self._add(counts[on_disk:], obs.iloc[on_disk:])
        while self._waiting >= self.cells_per_shard:
            self._write_shard(self.cells_per_shard)

    def _add(self, counts: sparse.csr_matrix, obs: pd.DataFrame) -> None:
        hashes = cell_hashes(counts)
        obs = obs.assign(hash_high=hashes[:, 0], hash_low=hashes[:, 1])[list(OBS)]
        data = counts.data.astype(np.min_scalar_type(int(counts.data.max())) if counts.nnz else np.uint8)
        index = np.uint16 if self.n_genes <= 2**16 else np.int32
        self._pieces.append((data, counts.indices.astype(index), np.diff(counts.indptr), obs))

    @property
    def _waiting(self) -> int:
        return sum(len(piece[3]) for piece in self._pieces)

    def _take(self, n: int) -> list[tuple[np.ndarray, np.ndarray, np.ndarray, pd.DataFrame]]:
        """Remove the first `n` waiting cells and return them."""
        taken = []
        while n:
            data, genes, lengths, obs = self._pieces[0]
            k = min(n, len(obs))
            end = int(lengths[:k].sum())
            taken.append((data[:end], genes[:end], lengths[:k], obs.iloc[:k]))
            if k == len(obs):
                self._pieces.pop(0)
            else:
                self._pieces[0] = (data[end:], genes[end:], lengths[k:], obs.iloc[k:])
            n -= k
        return taken

    def _write_shard(self, n: int) -> None:
        name = f"shard_{len(self.shards):05d}"
        pieces = self._take(n)
        with writing(self.folder / name), atomic_dir(self.folder / name) as out:
            _save_pieces(out / "data.npy", [piece[0] for piece in pieces])
            _save_pieces(out / "indices.npy", [piece[1] for piece in pieces])
            lengths = np.concatenate([piece[2] for piece in pieces])
            np.save(out / "indptr.npy", np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]))
            pd.concat([piece[3] for piece in pieces], ignore_index=True).to_parquet(out / "obs.parquet", index=False)
            files = {f.name: sha256_file(f) for f in sorted(out.iterdir())}
        self.shards.append({"name": name, "cells": n, "kept": n, "files": files})
        self._written += n
        total, progress = next(mark for mark in reversed(self._marks) if mark[0] <= self._written)
        self._marks = [mark for mark in self._marks if mark[0] >= total]
        write_json(
            self.folder / "journal.json",
            {"identity": self._identity, "shards": self.shards, "progress": progress, "skip": self._written - total},
        )

    def close(self, *, keep_journal: bool = False) -> None:
        """Write what is left, then ``shards.json``: only now the cells are complete.

        Parameters
        ----------
        keep_journal
            Leave ``journal.json``, for an owner that has more to write and may be killed before.

        Raises
        ------
        InputDataError
            When there was no cell at all.
        """
        if self._waiting:
            self._write_shard(self._waiting)
        if not self.shards:
            raise InputDataError(f"{self.folder}: no cell", "a corpus with cells", "check the sources of the corpus")
        write_shard_list(self.folder, self.vocabulary_hash, self.n_genes, self.shards)
        if not keep_journal:
            (self.folder / "journal.json").unlink(missing_ok=True)


def write_shard_list(folder: Path, vocabulary_hash: str, n_genes: int, shards: list[dict[str, Any]]) -> None:
    """Write ``shards.json``, which makes a folder of shards complete."""
    facts = {
        "format": FORMAT,
        "vocabulary_hash": vocabulary_hash,
        "n_genes": n_genes,
        "cells": sum(shard["kept"] for shard in shards),
        "shards": shards,
    }
    write_json(folder / "shards.json", facts)


def _save_pieces(path: Path, pieces: list[np.ndarray]) -> None:
    """Write arrays end to end as one npy file, of the widest of their types, without joining them in memory."""
    kind = np.result_type(*pieces)
    with open(path, "wb") as file:
        header = {
            "descr": np.lib.format.dtype_to_descr(kind),
            "fortran_order": False,
            "shape": (sum(map(len, pieces)),),
        }
        np.lib.format.write_array_header_1_0(file, header)
        for piece in pieces:
            piece.astype(kind).tofile(file)
