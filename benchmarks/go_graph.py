"""Time and memory of the GO similarity graph, against its brute-force twin and on real files.

    python benchmarks/go_graph.py                        # simulated annotations
    SCLONG_MIRROR=FOLDER python benchmarks/go_graph.py   # and the real files, laid out as <id>/<file>

Simulated genes have as many terms as human genes whose annotations are propagated to ancestors: terms of every size, some
of half the genes. The twin runs on 300 genes and is extrapolated by the number of pairs; edges and weights are compared.
The full size, and every build from real files, runs on one thread in a fresh process whose peak memory is printed. Writes
benchmarks/results/go_graph.md.
"""

from __future__ import annotations

import json
import os
import platform
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from scipy import sparse

from sclong.genes.go_graph import build_go_graph, jaccard_graph, jaccard_graph_naive
from sclong.io.files import write_text

HERE = Path(__file__).resolve().parent
GENES = 18_000
FILES = {
    "2019": ("go_2019/GeneOntology_2019.01.29.obo.gz", "go_2019/GO.goa_human_2019.01.29.gz", {}),
    "2022": (
        "go_2022/go_terms_2022-07-01.tsv.gz",
        "go_2022/gene2go_human_ncbi_2022-09-12.tsv.gz",
        {"format": "tables", "parents": "go_2022/go_parents_2022-07-01.tsv.gz"},
    ),
}


def incidence(genes: int, terms: int = 17_000, mean: float = 60.0) -> sparse.csr_matrix:
    """Return genes x terms, `mean` terms per gene or a few less; sizes of terms fall off as a power law."""
    draw = np.random.default_rng(0)
    share = np.minimum(0.5, 1.0 / np.arange(1, terms + 1) ** 0.9)
    share *= mean / share.sum()
    columns = [np.flatnonzero(draw.random(genes) < min(p, 0.55)) for p in share]
    rows, cols = np.concatenate(columns), np.repeat(np.arange(terms), [len(c) for c in columns])
    return sparse.csr_matrix((np.ones(len(rows), np.float32), (rows, cols)), shape=(genes, terms))


def peak() -> float:
    """Return this process's peak memory in GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def simulated() -> dict[str, float]:
    """Build the graph of the full size."""
    terms = incidence(GENES)
    facts = {"terms_per_gene": terms.nnz / GENES, "largest_term": int(np.bincount(terms.indices).max())}
    begun, cpu, before = time.perf_counter(), time.process_time(), peak()
    _, indices, _ = jaccard_graph(terms, 0.1, 20)
    spent = {"wall_s": time.perf_counter() - begun, "cpu_s": time.process_time() - cpu}
    return {"edges": len(indices), **spent, "peak_gb": peak(), "before_gb": before, **facts}


def real(release: str, propagate: bool) -> dict[str, float]:
    """Build a graph from files: reading them, and the graph."""
    from sclong.genes.go_terms import read_annotations
    from sclong.genes.vocabulary import build_vocabulary

    mirror = Path(os.environ["SCLONG_MIRROR"])
    genes = mirror / "gencode_genes/human_ensembl_latest.csv.gz", mirror / "hgnc/hgnc_entries.tsv"
    vocabulary = build_vocabulary(*genes, None, 27_874)
    obo, annotation, options = FILES[release]
    options = {"propagate": propagate, **{k: mirror / v if k == "parents" else v for k, v in options.items()}}
    begun = time.process_time()
    read_annotations(mirror / obo, mirror / annotation, **options)
    read_s = time.process_time() - begun
    wall, cpu = time.perf_counter(), time.process_time()
    graph = build_go_graph(mirror / obo, mirror / annotation, vocabulary, **options)
    spent = {"wall_s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu}
    return {"edges": graph.n_edges, "read_s": read_s, **spent, "peak_gb": peak()}


def fresh(*what: str) -> dict[str, float]:
    """Measure in a fresh process on one thread."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    run = subprocess.run(
        [sys.executable, __file__, *what], stdout=subprocess.PIPE, text=True, check=True, env=environment
    )
    return dict(json.loads(run.stdout.splitlines()[-1]))


def against_twin(genes: int = 300) -> tuple[float, float, int]:
    """Return the processor seconds of the twin and of the fast way, and the number of edges: all equal, weights too."""
    terms = incidence(genes)
    sets = [set(terms.indices[terms.indptr[i] : terms.indptr[i + 1]].tolist()) for i in range(genes)]
    begun = time.process_time()
    naive = jaccard_graph_naive(sets, 0.1, 20)
    naive_s = time.process_time() - begun
    repeats = []
    for _ in range(5):
        begun = time.process_time()
        indptr, indices, weights = jaccard_graph(terms, 0.1, 20)
        repeats.append(time.process_time() - begun)
    targets = np.repeat(np.arange(genes), np.diff(indptr)).tolist()
    assert dict(zip(zip(targets, indices.tolist(), strict=True), weights, strict=True)) == {
        edge: np.float32(weight) for edge, weight in naive.items()
    }
    return naive_s, float(np.median(repeats)), len(naive)


def machine() -> str:
    """Return processor, software and commit in words."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    name = next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.machine())
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=HERE, capture_output=True, text=True, check=False
    )
    return (
        f"{os.cpu_count()} x {name}, one thread; Python {platform.python_version()}, numpy {np.__version__}; "
        f"after commit {commit.stdout.strip() or 'unknown'}."
    )


def main() -> None:
    """Measure everything, write the page."""
    naive_s, fast_s, edges = against_twin()
    full = fresh("simulated")
    long_s = naive_s * (GENES / 300) ** 2
    lines = [
        "# The GO similarity graph: time and memory\n",
        f"`python benchmarks/go_graph.py`. {machine()}\n",
        "Seconds are processor time, because other programs ran; wall time in brackets.\n",
        "## Simulated annotations\n",
        f"{full['terms_per_gene']:.1f} terms per gene, the largest of {full['largest_term']:,} genes. On 300 genes all "
        f"{edges:,} edges and their weights are those of the brute-force twin.\n",
        f"| | 300 genes | {GENES:,} genes |\n|---|---|---|",
        f"| brute force (Python sets) | {naive_s:.2f} s | {long_s:.0f} s, extrapolated by pairs |",
        f"| `jaccard_graph` | {fast_s:.4f} s | {full['cpu_s']:.1f} s ({full['wall_s']:.1f} s) |",
        f"| ratio | {naive_s / fast_s:.0f} | {long_s / full['cpu_s']:.0f} |\n",
        f"{full['edges']:,} edges; peak memory {full['peak_gb']:.2f} GB, of which {full['before_gb']:.2f} GB before.",
    ]
    if "SCLONG_MIRROR" in os.environ:
        lines += [
            "\n## Real files, over 27,874 genes\n",
            "From files to graph. Reading is measured once more by itself; 2019 is OBO and GAF by goatools, 2022 tables.\n",
            "| release | annotations | files to graph | of that, reading | peak memory | edges |\n|---|---|---|---|---|---|",
        ]
        for release in FILES:
            for how in ("direct", "propagated"):
                found = fresh("real", release, how)
                lines.append(
                    f"| {release} | {how} | {found['cpu_s']:.1f} s ({found['wall_s']:.1f} s) | {found['read_s']:.1f} s | {found['peak_gb']:.2f} GB "
                    f"| {found['edges']:,} |"
                )
    print("\n".join(lines))
    write_text(HERE / "results/go_graph.md", "\n".join(lines) + "\n")


if __name__ == "__main__":
    if sys.argv[1:2] == ["simulated"]:
        print(json.dumps(simulated()))
    elif sys.argv[1:2] == ["real"]:
        print(json.dumps(real(sys.argv[2], sys.argv[3] == "propagated")))
    else:
        main()
