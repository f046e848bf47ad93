"""Time of the scores of one integrated embedding: this package's, and that of scib-metrics (without kBET) where installed.

    python benchmarks/integration_metrics.py [--cells 300 1000 5000] [--dimensions 50]

Simulated cells: five types, four batches. Each library is timed twice: the first call compiles.
"""

from __future__ import annotations

import argparse
import importlib.util
import time
from collections.abc import Callable

import numpy as np

from sclong.tasks.batch_integration.metrics import integration_scores


def cells(n: int, d: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    draw = np.random.default_rng(0)
    celltype, batch = draw.integers(0, 5, n), draw.integers(0, 4, n)
    embedding = draw.normal(size=(n, d)) + 3 * np.eye(d)[celltype] + 1.5 * np.eye(d)[10 + batch]
    before = draw.normal(size=(n, 50)) + 4 * np.eye(50)[batch]
    return embedding, before, np.char.add("t", celltype.astype(str)), np.char.add("b", batch.astype(str))


def scib_metrics_scores(embedding: np.ndarray, before: np.ndarray, celltype: np.ndarray, batch: np.ndarray) -> None:
    import anndata
    import pandas as pd
    from scib_metrics.benchmark import BatchCorrection, Benchmarker

    names = np.arange(len(batch)).astype(str)
    obs = pd.DataFrame({"batch": pd.Categorical(batch), "celltype": pd.Categorical(celltype)}, index=names)
    adata = anndata.AnnData(before, obs=obs, obsm={"X_emb": embedding, "X_pre": before})
    benchmarker = Benchmarker(
        adata,
        "batch",
        "celltype",
        ["X_emb"],
        batch_correction_metrics=BatchCorrection(kbet_per_label=False),
        pre_integrated_embedding_obsm_key="X_pre",
        progress_bar=False,
    )
    benchmarker.benchmark()


def own_scores(embedding: np.ndarray, before: np.ndarray, celltype: np.ndarray, batch: np.ndarray) -> None:
    integration_scores(embedding, batch, celltype, before)


def seconds(call: Callable[..., None], data: tuple[np.ndarray, ...]) -> str:
    wall, cpu = time.perf_counter(), time.process_time()
    call(*data)
    return f"{time.perf_counter() - wall:8.2f} s ({time.process_time() - cpu:.2f} s of processor)"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", type=int, nargs="+", default=[300, 1000, 5000])
    parser.add_argument("--dimensions", type=int, default=50)
    args = parser.parse_args()
    library = importlib.util.find_spec("scib_metrics") is not None
    if not library:
        print("scib-metrics is not installed: this package alone")
    for n in args.cells:
        data = cells(n, args.dimensions)
        for call in ("first", "second"):
            print(n, f"{call:6s}", "sclong      ", seconds(own_scores, data), flush=True)
            if library:
                print(n, f"{call:6s}", "scib-metrics", seconds(scib_metrics_scores, data), flush=True)


if __name__ == "__main__":
    main()
