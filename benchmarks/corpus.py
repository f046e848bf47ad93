"""What the steps of the corpus cost for each million cells: processor time, disk, memory.

    python benchmarks/corpus.py                       # 20,000 cells, and 5,000 to see that memory does not grow
    python benchmarks/corpus.py --cells 40000 10000

Cells are drawn with as many detected genes as a 10x cell has (2,445 on average of 27,874). Every step runs in a process of
its own: writing a part from an h5ad file, finding the cells of a benchmark, putting the corpus together, verifying it,
counting it.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import sparse

N_GENES, DETECTED, BENCHMARK_CELLS = 27_874, 2_445, 2_000
STEPS = ("part", "overlap", "corpus", "verify", "summary")


def make_input(folder: Path, n_cells: int) -> None:
    """Write a vocabulary, cells as h5ad, and a benchmark of which every second cell is among them."""
    import anndata

    from sclong.genes.vocabulary import COLUMNS, Vocabulary

    random = np.random.default_rng(0)
    ids = [f"ENSG{n:011d}" for n in range(N_GENES)]
    table = pd.DataFrame({"index": range(N_GENES), "ensembl_id": ids, "symbol": [f"SYM{n}" for n in range(N_GENES)]})
    Vocabulary(table.assign(biotype="protein_coding", aliases="", entrez_id="")[list(COLUMNS)]).write(
        folder / "vocabulary.tsv"
    )
    chance = random.permutation(np.minimum(random.gamma(0.35, 1.0, N_GENES), 5))
    chance = np.minimum(chance * DETECTED / chance.sum(), 1)
    rows = [np.flatnonzero(random.random(N_GENES) < chance) for _ in range(n_cells)]
    indptr = np.cumsum([0, *map(len, rows)])
    counts = (1 + random.geometric(0.5, indptr[-1])).astype(np.float32)
    matrix = sparse.csr_matrix((counts, np.concatenate(rows), indptr), shape=(n_cells, N_GENES))
    obs = pd.DataFrame({"donor": random.integers(0, 10, n_cells).astype(str)}, index=[f"c{n}" for n in range(n_cells)])
    anndata.AnnData(matrix, obs, pd.DataFrame(index=ids)).write_h5ad(folder / "cells.h5ad")
    (folder / "benchmark").mkdir()
    other = matrix[:BENCHMARK_CELLS].copy()
    other.data[np.repeat(np.arange(BENCHMARK_CELLS) % 2 == 1, np.diff(other.indptr))] += (
        1  # every second is another cell
    )
    anndata.AnnData(other, var=pd.DataFrame(index=ids)).write_h5ad(folder / "benchmark/expression.h5ad")


def run_step(step: str, folder: Path) -> None:
    """Do one step and print its processor time (s), wall time (s) and peak memory above what it began with (GB)."""
    from sclong.config.sections import CellFilters, CorpusSource
    from sclong.corpus.assemble import build_corpus
    from sclong.corpus.leakage import benchmark_cells, find_overlap
    from sclong.corpus.part import write_part
    from sclong.corpus.shards import ShardStore
    from sclong.corpus.source import file_dataset
    from sclong.corpus.summary import summarise_corpus
    from sclong.genes.vocabulary import Vocabulary

    vocabulary = Vocabulary.read(folder / "vocabulary.tsv")
    if step == "overlap":
        benchmark_cells(folder / "benchmark", vocabulary, folder / "benchmark.npz")
    before = peak_kib()
    processor, wall = time.process_time(), time.perf_counter()
    if step == "part":
        source = CorpusSource(name="x", input="file:x", donor_column="donor")
        dataset = file_dataset(folder / "cells.h5ad", source)
        filters = CellFilters(cells_per_shard=5000)
        write_part([dataset], folder / "part", folder / "unfinished", vocabulary, filters, {})
    elif step == "overlap":
        find_overlap([folder / "part"], folder / "benchmark.npz", folder / "overlap.parquet")
    elif step == "corpus":
        build_corpus(
            [folder / "part"], folder / "shards", vocabulary, folder / "m.tsv", overlaps=[folder / "overlap.parquet"]
        )
    elif step == "verify":
        ShardStore(folder / "shards").verify()
    else:
        summarise_corpus(folder / "shards", vocabulary, folder / "cells.tsv", folder / "genes.tsv")
    peak = (peak_kib() - before) * 1024 / 1e9
    print(json.dumps([time.process_time() - processor, time.perf_counter() - wall, peak]))


def peak_kib() -> int:
    """Return the most memory this process has held, KiB (its own: getrusage also knows that of its parent)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


def main() -> None:
    """Run the steps for each number of cells and print tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, nargs="+", default=[20_000, 5_000])
    parser.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.step:
        run_step(args.step, args.folder)
        return
    for n_cells in args.cells:
        print(f"\n### {n_cells:,} cells\n")
        print("| step | processor s per million cells | wall | peak memory above the start, GB |\n|---|---|---|---|")
        with tempfile.TemporaryDirectory() as name:
            make_input(Path(name), n_cells)
            for step in STEPS:
                call = [sys.executable, __file__, "--step", step, "--folder", name]
                done = subprocess.run(call, check=True, capture_output=True, text=True)
                processor, wall, peak = json.loads(done.stdout.splitlines()[-1])
                print(f"| {step} | {processor / n_cells * 1e6:,.0f} | {wall / n_cells * 1e6:,.0f} | {peak:.2f} |")
            files = [p for p in (Path(name) / "shards").rglob("*") if p.is_file()]
            entries = np.load(Path(name) / "shards/shard_00000/indptr.npy")
            kept = json.loads((Path(name) / "shards/shards.json").read_text())["cells"]
            size = sum(p.stat().st_size for p in files) / n_cells
            print(
                f"\n{entries[-1] / (len(entries) - 1):,.0f} detected genes per cell; {size:,.0f} bytes per cell; "
                f"{kept:,} cells kept of {n_cells:,} ({BENCHMARK_CELLS // 2:,} are a benchmark's)"
            )


if __name__ == "__main__":
    main()
