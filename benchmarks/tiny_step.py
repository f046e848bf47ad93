"""An optimiser step of the demo's model: attention of cells one after the other, and of cells together.

    snakemake results/corpus/shards results/go results/vocabulary   # or the whole demo
    python benchmarks/tiny_step.py [results] [steps]

Both trainings start from the same weights and read the same cells, in turns of ten steps; prints cells per second of
processor time, their ratio, and both losses, in one run on one thread. The twin (cells one after the other) is what
inference uses.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch

from sclong.config.load import load_architecture, load_config
from sclong.corpus.shards import ShardStore
from sclong.genes.go_graph import GoGraph
from sclong.nn import favor_blocks
from sclong.nn.dual_encoder import DualEncoder
from sclong.train.dataset import PretrainingCells
from sclong.train.optim import make_optimizer, rate_of_step, set_learning_rate
from sclong.train.parallel import Replica, World
from sclong.train.step import Batch, training_step

GROUPS = favor_blocks._groups


def trainings(results: Path, n_genes: int) -> dict[str, tuple[Replica, torch.optim.Optimizer]]:
    """Return two trainings with the same weights."""
    graph, arch = GoGraph.read(results / "go" / "go_graph.npz"), load_architecture("tiny")
    out = {}
    for name in ("one after the other", "together"):
        torch.manual_seed(0)
        model = DualEncoder(arch, n_genes, graph)
        out[name] = (Replica(model, World(0, 1, torch.device("cpu")), "none"), make_optimizer(model))
    return out


def main(results: Path, steps: int) -> None:
    """Train both in turns and print what each took."""
    torch.set_num_threads(1)
    config = load_config({}).pretrain
    store = ShardStore(results / "corpus" / "shards")
    cells = PretrainingCells(
        store,
        batch_size=config.batch_size,
        held_out_fraction=config.held_out_fraction,
        validation_cells=config.validation_cells,
        seed=config.seed,
    )
    pair = trainings(results, store.n_genes)
    spent, losses = dict.fromkeys(pair, 0.0), dict.fromkeys(pair, 0.0)
    for step in range(1, steps + 1):
        rows = cells.order.cells(step)
        for name, (replica, optimizer) in pair.items():
            favor_blocks._groups = GROUPS if name == "together" else lambda qkv, m, _: GROUPS(qkv, m, False)
            set_learning_rate(optimizer, rate_of_step(step, config, len(cells.order.rows)))
            begun = time.process_time()
            places = torch.arange(len(rows)).numpy()
            result = training_step(replica, optimizer, Batch(rows, places, cells.values(rows)), config, step)
            spent[name] += (time.process_time() - begun) * (step > 3)  # the first warm up
            losses[name] = result.loss
    for name, seconds in spent.items():
        rate = (steps - 3) * config.batch_size / seconds
        print(f"{name:22s} {rate:6.1f} cells/s, loss of step {steps}: {losses[name]:.6f}")
    print(f"ratio {spent['one after the other'] / spent['together']:.2f}")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "results"), int(sys.argv[2]) if len(sys.argv) > 2 else 60)
