"""Time and memory of the GO similarity graph, against its brute-force twin.

    python benchmarks/go_graph.py

Genes with as many terms as in human annotation that is propagated to ancestors: terms of every size, some of nearly all
genes. The twin runs on 300 genes and is extrapolated by the number of pairs; edges are compared. The full size runs in a
fresh process, whose peak memory is printed.
"""

from __future__ import annotations

import json
import os
import platform
import resource
import subprocess
import sys
import time

import numpy as np
from scipy import sparse

from sclong.knowledge.similarity import jaccard_graph, jaccard_graph_naive


def incidence(genes: int, terms: int = 17_000, mean: float = 60.0) -> sparse.csr_matrix:
    """Return genes x terms, about `mean` terms per gene; sizes of terms fall off as a power law, at most half the genes."""
    draw = np.random.default_rng(0)
    share = np.minimum(0.5, 1.0 / np.arange(1, terms + 1) ** 0.9)
    share *= mean / share.sum()
    columns = [np.flatnonzero(draw.random(genes) < min(p, 0.55)) for p in share]
    rows, cols = np.concatenate(columns), np.repeat(np.arange(terms), [len(c) for c in columns])
    return sparse.csr_matrix((np.ones(len(rows), np.float32), (rows, cols)), shape=(genes, terms))


def full() -> None:
    """Build the graph of 18,000 genes."""
    terms = incidence(18_000)
    held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    begun, cpu = time.perf_counter(), time.process_time()
    _, indices, _ = jaccard_graph(terms, 0.1, 20)
    print(json.dumps({
        "edges": len(indices), "terms_per_gene": terms.nnz / 18_000, "largest_term": int(np.bincount(terms.indices).max()),
        "wall_s": time.perf_counter() - begun, "cpu_s": time.process_time() - cpu,
        "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, "before_gb": held,
    }))  # fmt: skip


def main() -> None:
    """Compare on 300 genes, then run the full size on one core."""
    if sys.argv[1:] == ["full"]:
        return full()
    terms = incidence(300)
    sets = [set(terms.indices[terms.indptr[i] : terms.indptr[i + 1]]) for i in range(300)]
    begun = time.perf_counter()
    naive = jaccard_graph_naive(sets, 0.1, 20)
    naive_s = time.perf_counter() - begun
    begun = time.perf_counter()
    indptr, indices, _ = jaccard_graph(terms, 0.1, 20)
    fast_s = time.perf_counter() - begun
    assert set(naive) == {(t, int(s)) for t in range(300) for s in indices[indptr[t] : indptr[t + 1]]}
    run = subprocess.run(
        [sys.executable, __file__, "full"],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    found = json.loads(run.stdout)
    hours = naive_s * (18_000 / 300) ** 2 / 3600
    print(f"Machine: {platform.machine()}, one thread; numpy {np.__version__}\n")
    print("| | 300 genes s | 18,000 genes s |\n|---|---|---|")
    print(f"| brute force | {naive_s:.2f} | {3600 * hours:.0f} ({hours:.1f} h, extrapolated by pairs) |")
    print(f"| jaccard_graph | {fast_s:.3f} | {found['wall_s']:.1f} (processor {found['cpu_s']:.1f}) |")
    print(f"| ratio | {naive_s / fast_s:.0f} | {3600 * hours / found['wall_s']:.0f} |\n")
    print(
        f"{found['edges']:,} edges; {found['terms_per_gene']:.1f} terms per gene, the largest of {found['largest_term']:,} genes; "
        f"peak memory {found['peak_gb']:.2f} GB ({found['before_gb']:.2f} GB before)"
    )


if __name__ == "__main__":
    main()
