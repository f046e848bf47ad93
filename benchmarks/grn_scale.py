"""Time and memory of the network measures and of correlation models at 17,735 genes, each in a process of its own.

    python benchmarks/grn_scale.py

Simulated numbers, one thread. Writes benchmarks/results/grn_scale.json.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from sclong.runlog import commit
from sclong.tasks.grn_inference import metrics as grn

SCALE = Path(__file__).resolve().parent / "results" / "grn_scale.json"
GENES, REGULATORS, CELLS, EDGES = 17_735, 1_563, 758, 200_000


def peak() -> float:
    """Return this process's peak memory in GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def simulated(regulators: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return truth, scores and candidate pairs at full size."""
    draw = np.random.default_rng(0)
    names = [f"gene{i}" for i in range(GENES)]
    pairs = grn.candidate_pairs(names[:regulators], names)
    truth = np.zeros((regulators, GENES), dtype=bool)
    truth[draw.integers(regulators, size=EDGES), draw.integers(GENES, size=EDGES)] = True
    return truth & pairs, draw.random((regulators, GENES), dtype=np.float32), pairs


def step(name: str) -> dict:
    """Measure one step in this process."""
    from sclong.tasks.grn_inference import classical as regulation

    begun, cpu = time.perf_counter(), time.process_time()
    if name.startswith("measures"):
        regulators = REGULATORS if name.endswith("regulators") else GENES
        truth, scores, pairs = simulated(regulators)
        begun, cpu = time.perf_counter(), time.process_time()
        ranking = grn.Ranking.of(truth, scores, pairs)
        grn.measures(truth, scores, pairs, ranking)
        sorted_s = time.process_time() - cpu
        null = grn.relabelled_average_precision(
            truth, scores, ranking, np.arange(regulators), np.random.default_rng(0), 199
        )
        return {
            "pairs": int(pairs.sum()),
            "measures_s": sorted_s,
            "null_s": time.process_time() - cpu - sorted_s,
            "wall_s": time.perf_counter() - begun,
            "peak_gb": peak(),
            "null_mean_ratio": float(null.mean() / ranking.positive_rate),
        }
    values = np.random.default_rng(0).poisson(0.5, (CELLS, GENES)).astype(np.float32)
    rows = np.arange(REGULATORS)
    begun, cpu = time.perf_counter(), time.process_time()
    if name == "mutual information":
        regulation.mutual_information(regulation.value_classes(values, 5), rows, 6)
    else:
        regulation.absolute_correlation(values, rows, name)  # type: ignore[arg-type]
    return {
        "pairs": REGULATORS * GENES,
        "wall_s": time.perf_counter() - begun,
        "cpu_s": time.process_time() - cpu,
        "peak_gb": peak(),
    }


def scale() -> None:
    """Measure every step in a process of its own."""
    found = {}
    for name in ("measures, regulators", "measures, all genes", "pearson", "spearman", "mutual information"):
        done = subprocess.run([sys.executable, __file__, "step", name], capture_output=True, text=True, check=True)
        found[name] = json.loads(done.stdout.splitlines()[-1])
        print(name, found[name], flush=True)
    SCALE.write_text(json.dumps({"commit": commit(), "steps": found}, indent=1) + "\n")


if __name__ == "__main__":
    if sys.argv[1:2] == ["step"]:
        print(json.dumps(step(sys.argv[2])))
    else:
        scale()
