"""An optimiser step of `base` on a CPU: float32 as before, and the settings that preset small trains with.

    snakemake --config preset=small -- results_small/corpus/shards results_small/go/go_graph.npz
    python benchmarks/base_step.py [results_small] [steps] [threads]

The trainings start from the same weights and read the same cells, in turns of one step; prints cells per second of wall
and of processor time, the ratio to the first, and the losses, in one run.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

if len(sys.argv) > 3:
    os.environ["OMP_NUM_THREADS"] = sys.argv[3]

import numpy as np
import torch

from sclong.config.load import load_architecture, load_config
from sclong.corpus.shards import ShardStore
from sclong.genes.go_graph import GoGraph
from sclong.nn.dual_encoder import DualEncoder
from sclong.train.dataset import PretrainingCells
from sclong.train.optim import make_optimizer, rate_of_step, set_learning_rate
from sclong.train.parallel import Replica, World
from sclong.train.step import Batch, training_step

VARIANTS = {
    "float32": {"precision": "float32"},
    "bfloat16": {"precision": "bfloat16"},
    "bfloat16, compiled": {"precision": "bfloat16", "compile": True},
}


def main(results: Path, steps: int) -> None:
    """Train all variants in turns and print what each took."""
    config = load_config({"preset": "small"}).pretrain
    store = ShardStore(results / "corpus" / "shards")
    cells = PretrainingCells(
        store,
        batch_size=config.batch_size,
        held_out_fraction=config.held_out_fraction,
        validation_cells=8,
        seed=config.seed,
    )
    graph, base = GoGraph.read(results / "go" / "go_graph.npz"), load_architecture("base")
    trainings = {}
    for name, change in VARIANTS.items():
        torch.manual_seed(0)
        model = DualEncoder(base.model_copy(update=change), store.n_genes, graph)
        trainings[name] = (Replica(model, World(0, 1, torch.device("cpu")), "none"), make_optimizer(model))
    wall, processor = dict.fromkeys(trainings, 0.0), dict.fromkeys(trainings, 0.0)
    losses: dict[str, list[float]] = {name: [] for name in trainings}
    for step in range(1, steps + 1):
        rows = cells.order.cells(step)
        for name, (replica, optimizer) in trainings.items():
            set_learning_rate(optimizer, rate_of_step(step, config, len(cells.order.rows)))
            begun = time.perf_counter(), time.process_time()
            batch = Batch(rows, np.arange(len(rows)), cells.values(rows))
            losses[name].append(training_step(replica, optimizer, batch, config, step).loss)
            if step > 1:  # the first warms up, and compiles
                wall[name] += time.perf_counter() - begun[0]
                processor[name] += time.process_time() - begun[1]
    read = (steps - 1) * config.batch_size
    first = next(iter(trainings))
    print(f"{torch.get_num_threads()} thread(s), {read} cells each")
    for name in trainings:
        print(
            f"{name:20s} {read / wall[name]:6.2f} cells/s ({wall[first] / wall[name]:.2f}x), processor "
            f"{read / processor[name]:6.2f} cells/s ({processor[first] / processor[name]:.2f}x), "
            f"mean loss of the last ten steps {np.mean(losses[name][-10:]):.4f}"
        )


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "results_small"), int(sys.argv[2]) if len(sys.argv) > 2 else 30)
