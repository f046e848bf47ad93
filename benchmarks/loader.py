"""How fast cells become dense training batches, and what they take on the disk, against one file per cell.

    python benchmarks/loader.py              # prints tables, writes benchmarks/results/loader.md
    python benchmarks/loader.py --cells 2000 # smaller, writes nothing

20,000 simulated cells with as many detected genes as a 10x cell has. One thread, files in the page cache, random order,
dense float32 batches of 27,874 genes and PAD. Rates are medians of five runs, by processor time and by the clock; every
way of reading is checked against the counts first. bionemo-scdl is measured too where it is installed. The last part is
about size: as many shards and rows of obs as 48 million cells have, and few files that may be open.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"))

import numpy as np
import pandas as pd
import torch
from scipy import sparse

from sclong.corpus.shard_writer import ShardWriter
from sclong.corpus.shards import ShardStore
from sclong.io.files import sha256_file, write_json, write_text
from sclong.train.dataset import CellOrder, PretrainingCells
from sclong.train.loader import CellLoader

N_GENES, DETECTED, REPEATS, WHOLE = 27_874, 2_445, 5, 48_024_242
HERE = Path(__file__).resolve().parent


def simulated_cells(n_cells: int) -> sparse.csr_matrix:
    """Return counts: most are 1, a few are hundreds; uint16."""
    random = np.random.default_rng(0)
    chance = random.permutation(np.minimum(random.gamma(0.35, 1.0, N_GENES), 5))
    chance = np.minimum(chance * DETECTED / chance.sum(), 1)
    rows = [np.flatnonzero(random.random(N_GENES) < chance) for _ in range(n_cells)]
    indptr = np.cumsum([0, *map(len, rows)])
    counts = np.minimum(random.zipf(2.2, indptr[-1]), 2000).astype(np.uint16)
    return sparse.csr_matrix((counts, np.concatenate(rows).astype(np.int32), indptr), shape=(n_cells, N_GENES))


def write_shards(counts: sparse.csr_matrix, folder: Path, cells_per_shard: int) -> None:
    """Write the project's shards; every cell has one of a hundred donors."""
    n = counts.shape[0]
    obs = pd.DataFrame({c: "x" for c in ("source", "tissue", "assay", "cell_type")}, index=range(n))
    with ShardWriter(folder, "benchmark", N_GENES, cells_per_shard) as writer:
        writer.append(counts, obs.assign(donor=[f"d{i % 100}" for i in range(n)]))


def spent() -> np.ndarray:
    """Return processor seconds of this process and its ended children, and the clock."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return np.array([time.process_time() + children.ru_utime + children.ru_stime, time.perf_counter()])


def rates(batches: Callable[[], Iterator[int]]) -> tuple[float, float]:
    """Return cells per processor second and per second of the clock: medians over runs of `batches`, which counts cells."""
    found = []
    for _ in range(REPEATS):
        before = spent()
        n = sum(batches())
        found.append(n / (spent() - before))
    return tuple(statistics.median(column) for column in zip(*found, strict=True))


def npz_reader(folder: Path) -> Callable[[np.ndarray], torch.Tensor]:
    """Return a reader of one scipy npz file per cell, as the published code has them (values as stored, no PAD)."""

    def read(rows: np.ndarray) -> torch.Tensor:
        cells = [sparse.load_npz(folder / f"cell{row}.npz").toarray()[0] for row in rows]
        return torch.from_numpy(np.stack(cells).astype(np.float32))

    return read


def scdl_reader(counts: sparse.csr_matrix, folder: Path) -> Callable[[np.ndarray], torch.Tensor] | None:
    """Return a reader of bionemo-scdl's memory maps (values as stored), or None where it is not installed."""
    try:
        from bionemo.scdl.io.single_cell_memmap_dataset import SingleCellMemMapDataset
    except ImportError:
        return None
    import anndata

    anndata.AnnData(counts.astype(np.float32)).write_h5ad(folder.with_suffix(".h5ad"))
    h5ad = str(folder.with_suffix(".h5ad"))
    data = SingleCellMemMapDataset(str(folder), h5ad_path=h5ad, use_X_not_raw=True, data_dtype="uint16")

    def read(rows: np.ndarray) -> torch.Tensor:
        out = np.zeros((len(rows), N_GENES + 1), dtype=np.float32)
        for out_N, row in zip(out, rows, strict=True):
            (values, columns), *_ = data.get_row(int(row))
            out_N[columns.astype(np.int64)] = values
        return torch.from_numpy(out)

    return read


def size_of(folder: Path) -> tuple[int, int]:
    """Return bytes on the disk (blocks that are taken) and number of files."""
    files = [p for p in folder.rglob("*") if p.is_file()]
    return sum(p.stat().st_blocks * 512 for p in files), len(files)


def measure_rates(counts: sparse.csr_matrix, folder: Path) -> list[str]:
    """Return the lines of the table of rates and sizes."""
    n = counts.shape[0]
    write_shards(counts, folder / "shards", max(n // 4, 1))
    (folder / "npz").mkdir()
    for row in range(n):
        sparse.save_npz(folder / "npz" / f"cell{row}.npz", counts[row].astype(np.float32))
    store = ShardStore(folder / "shards")
    others = {
        "npz per cell": (npz_reader(folder / "npz"), folder / "npz"),
        "bionemo-scdl": (scdl_reader(counts, folder / "scdl"), folder / "scdl"),
    }
    some = np.random.default_rng(1).permutation(n)[:50]
    for name, (read, _) in others.items():
        assert read is None or (read(some)[:, :N_GENES].numpy() == counts[some].toarray()).all(), name

    def pretraining(batch: int) -> PretrainingCells:
        return PretrainingCells(store, batch_size=batch, held_out_fraction=0.01, validation_cells=1, seed=0)

    cells = pretraining(4)
    assert torch.equal(cells.values(some), cells.values_naive(some))
    table, by_npz = [], {}
    for name in ("npz per cell", "shards", "shards, 2 workers", "shards, naive twin", "bionemo-scdl"):
        row, where = f"| {name} ", folder / "shards"
        for batch in (4, 32):
            steps, cells = max(n // 2 // batch, 1), pretraining(batch)
            workers = 2 if "workers" in name else 0

            def loader(cells: PretrainingCells = cells, steps: int = steps, workers: int = workers) -> Iterator[int]:
                yield from (len(rows) for _, rows, _ in CellLoader(cells, 1, steps, workers=workers))

            read = cells.values_naive
            if name in others:
                read, where = others[name]
            if read is None:
                row = ""
                break
            if name == "npz per cell":
                steps //= 5

            def direct(cells: PretrainingCells = cells, steps: int = steps, read: Callable = read) -> Iterator[int]:
                yield from (len(read(cells.order.cells(step))) for step in range(1, steps + 1))

            by_processor, by_clock = rates(loader if name in ("shards", "shards, 2 workers") else direct)
            by_npz.setdefault(batch, by_processor)
            row += f"| {by_processor:,.0f} ({by_clock:,.0f}) | {by_processor / by_npz[batch]:.1f} "
        if row:
            taken, files = size_of(where)
            at_scale = {"npz per cell": f"{WHOLE:,}", "bionemo-scdl": f"{files} for each data set"}
            files_then = at_scale.get(name, f"{-(-WHOLE // 200_000) * 4 + 1:,}")
            table.append(row + f"| {taken / n:,.0f} | {taken / n * WHOLE / 1e9:,.0f} GB | {files_then} |")
    return table


def with_few_files(folder: Path, workers: int) -> None:
    """Read 300 shards where 1,024 files may be open; print files that are open, and cells per processor second."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, 1024))
    store = ShardStore(folder)
    cells = PretrainingCells(store, batch_size=32, held_out_fraction=0.01, validation_cells=1, seed=0)
    by_processor, _ = rates(
        lambda: (len(rows) for _, rows, _ in CellLoader(cells, 1, len(store) // 64, workers=workers))
    )
    print(json.dumps([len(store.facts["shards"]), len(os.listdir("/proc/self/fd")), by_processor]))


def of_whole_size(folder: Path) -> None:
    """Open a corpus whose obs has 48 million rows (and no counts); print seconds and memory."""
    store = ShardStore(folder)
    before, begun = peak_gb(), spent()
    obs = store.obs
    print(json.dumps([len(obs), *(spent() - begun), peak_gb() - before]))


def write_obs(folder: Path, n_shards: int, cells: int) -> None:
    """Write shards without counts: links to one, with a thousand donors, fifty tissues and so on."""
    random = np.random.default_rng(0)
    kinds = {"source": 100, "dataset": 300, "donor": 1000, "tissue": 50, "assay": 20, "cell_type": 600}
    first = folder / "shard_00000"
    first.mkdir(parents=True)
    obs = {k: np.array([f"{k} number {i}" for i in range(m)])[random.integers(0, m, cells)] for k, m in kinds.items()}
    pd.DataFrame(obs).assign(row=np.arange(cells)).to_parquet(first / "obs.parquet", index=False)
    for name, array in (
        ("data", np.empty(0, np.uint8)),
        ("indices", np.empty(0, np.uint16)),
        ("indptr", np.zeros(cells + 1, np.int64)),
    ):
        np.save(first / f"{name}.npy", array)
    files = {p.name: sha256_file(p) for p in first.iterdir()}
    for number in range(1, n_shards):
        (folder / f"shard_{number:05d}").mkdir()
        for name in files:
            os.link(first / name, folder / f"shard_{number:05d}" / name)
    shards = [{"name": f"shard_{i:05d}", "cells": cells, "kept": cells, "files": files} for i in range(n_shards)]
    write_json(
        folder / "shards.json",
        {"format": 2, "vocabulary_hash": "x", "n_genes": N_GENES, "cells": n_shards * cells, "shards": shards},
    )


def peak_gb() -> float:
    """Return the most memory this process has held."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024 / 1e9


def measure_order() -> list[str]:
    """Return what it costs to know the cells of a step among 48 million: ours, and a permutation held in memory."""
    order = CellOrder(np.arange(WHOLE, dtype=np.int64), 1024, 0)
    begun = spent()
    for step in range(1, 201):
        order.cells(step * 1000)
    ours = (spent() - begun)[0] / 200
    begun = spent()
    kept = np.random.default_rng(0).permutation(WHOLE)
    return [
        f"- the 1,024 cells of any step: {ours * 1e3:.2f} ms, no memory; a permutation of 48 million numbers by numpy: "
        f"{(spent() - begun)[0]:.1f} s for each epoch and {kept.nbytes / 1e9:.2f} GB in each process"
    ]


def in_process(step: str, folder: Path, workers: int = 0) -> list[float]:
    """Measure in a fresh process."""
    call = [sys.executable, __file__, "--step", step, "--folder", str(folder), "--workers", str(workers)]
    done = subprocess.run(call, check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=20_000)
    parser.add_argument("--step", choices=("few", "whole"), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--workers", type=int, default=0, help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.step:
        return with_few_files(args.folder, args.workers) if args.step == "few" else of_whole_size(args.folder)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        counts = simulated_cells(args.cells)
        table = measure_rates(counts, folder)
        write_shards(counts, folder / "many", max(args.cells // 300, 1))
        few = [in_process("few", folder / "many", workers) for workers in (0, 2)]
        write_obs(folder / "whole", 240, 200_000)
        n, seconds, _, gb = in_process("whole", folder / "whole")
        order = measure_order()
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    cpu = next((x.split(": ")[1] for x in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in x), "")
    shown = "\n".join(
        [
            "# Cells to dense batches",
            "",
            f"`python benchmarks/loader.py`: {args.cells:,} cells, {counts.nnz / args.cells:,.0f} detected genes each of "
            f"{N_GENES:,}; {cpu or platform.machine()}, one thread; Python {platform.python_version()}, "
            f"numpy {np.__version__}, torch {torch.__version__}; after commit {commit}.",
            "",
            "Cells per processor second (per second of the clock), medians of 5. Other programs used the machine: trust processor time.",
            "Shards are normalised (log1p of counts per 10,000) while they are read; npz and bionemo-scdl hand out what is stored.",
            "Ratio: to npz per cell, by processor time. With workers, processor time is that of all processes, their start included.",
            "",
            "| read from | batch 4 | ratio | batch 32 | ratio | bytes per cell on the disk | 48,024,242 cells | files then |",
            "|---|---|---|---|---|---|---|---|",
            *table,
            "",
            "Bytes and files of 48 million cells are extrapolated (shards of 200,000 cells).",
            "",
            "## Size",
            "",
            *order,
            f"- `obs` of {n:,.0f} cells in 240 shards, six columns: {seconds:.0f} s of processor, {gb:.2f} GB more at the peak",
            *(
                f"- {int(k)} shards, {'2 workers' if w else 'no worker'}, 1,024 open files allowed: {int(fds)} open, {rate:,.0f} cells per processor second"
                for w, (k, fds, rate) in zip((0, 2), few, strict=True)
            ),
            "",
        ]
    )
    print(shown)
    if args.cells == 20_000:
        write_text(HERE / "results/loader.md", shown)


if __name__ == "__main__":
    main()
