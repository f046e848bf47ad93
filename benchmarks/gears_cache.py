"""What it saves to compute a frozen encoder's vectors once per control cell, instead of in every training step.

    python benchmarks/gears_cache.py                 # architectures tiny and base, less than two minutes of one core
    python benchmarks/gears_cache.py --architecture tiny

One training step of the GEARS-style head (forward, loss, backward) on a batch of control cells, in two ways that take
turns: vectors read from a memory-mapped float16 file as the embed rule writes it, and vectors from the encoder in the same step,
as the released code has it. Printed are medians of processor time, and their ratio. The encoder has random weights, a
random graph with as many edges for each gene as the Gene Ontology's, and cells with 8 % of the genes detected.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from scipy import sparse

from sclong.config.load import load_architecture
from sclong.genes.go_graph import GoGraph
from sclong.nn.dual_encoder import DualEncoder
from sclong.tasks.genetic_perturbation.gears_network import GearsNetwork, Graph, gears_loss

CONFIG = Path(__file__).parent.parent / "config"
POOL, EDGES = 200, 14  # control cells on disk; edges for each gene
SIZES = {"tiny": (600, 541, 24, 16), "base": (27_874, 5_045, 200, 4)}  # genes, measured genes, hidden, cells of a batch


def random_graph(nodes: int, extra: int = 0) -> sparse.csr_matrix:
    """Return a random weighted adjacency matrix, with `extra` empty rows and columns."""
    draw = np.random.default_rng(0)
    rows, columns = draw.integers(nodes, size=(2, EDGES * nodes))
    weights = draw.uniform(0.1, 1, len(rows)).astype(np.float32)
    graph = sparse.coo_matrix((weights, (rows, columns)), shape=(nodes + extra,) * 2).tocsr()
    graph.sort_indices()
    return graph


def encoder_of(name: str, n_genes: int) -> DualEncoder:
    """Return an encoder with random weights, frozen."""
    torch.manual_seed(0)
    graph = random_graph(n_genes, extra=1)
    indptr, indices = graph.indptr.astype(np.int64), graph.indices.astype(np.int64)
    model = DualEncoder(load_architecture(name, CONFIG), n_genes, GoGraph(indptr, indices, graph.data))
    return model.eval().requires_grad_(False)


def median_seconds(*steps: Callable[[], None], turns: int) -> list[float]:
    """Return the median processor time of each step; they take turns, after one round that does not count."""
    taken: list[list[float]] = [[] for _ in steps]
    for turn in range(turns + 1):
        for step, seconds in zip(steps, taken, strict=True):
            start = time.process_time()
            step()
            if turn:
                seconds.append(time.process_time() - start)
    return [statistics.median(seconds) for seconds in taken]


def measure(name: str, turns: int, folder: Path) -> None:
    """Measure and print one architecture."""
    n_genes, measured, hidden, batch = SIZES[name]
    encoder = encoder_of(name, n_genes)
    width = load_architecture(name, CONFIG).base_dim
    draw = np.random.default_rng(1)
    values_BN = (draw.random((batch, n_genes + 1)) < 0.08) * draw.lognormal(0, 0.5, (batch, n_genes + 1))
    values_BN = torch.from_numpy(values_BN.astype(np.float32))
    values_BN[:, -1] = 0
    np.save(folder / "vectors.npy", draw.standard_normal((POOL, measured, width), dtype=np.float32).astype(np.float16))
    vectors = np.load(folder / "vectors.npy", mmap_mode="r")

    adjacency = random_graph(measured).tocoo()
    graph = Graph(
        torch.from_numpy(np.stack([adjacency.col, adjacency.row]).astype(np.int64)), torch.from_numpy(adjacency.data)
    )
    network = GearsNetwork(measured, graph, measured, hidden, width=width, train_adapter=True)
    target_BG = torch.rand(batch, measured)
    perturbed_BN = torch.eye(batch, measured)
    counted = torch.ones(batch, measured, dtype=torch.bool)

    def train(vectors_BGD: torch.Tensor) -> None:
        network.zero_grad(set_to_none=True)
        predicted_BG = network(values_BN[:, :measured], perturbed_BN, vectors_BGD)
        gears_loss(predicted_BG, target_BG, torch.arange(batch), counted, target_BG.mean(0)).backward()

    def cached() -> None:
        train(torch.from_numpy(np.asarray(vectors[draw.integers(POOL, size=batch)], dtype=np.float32)))

    def recomputed() -> None:
        with torch.inference_mode():
            vectors_BGD = encoder(values_BN).gene_embeddings_BND[:, :measured]
        train(vectors_BGD.clone())

    fast, slow = median_seconds(cached, recomputed, turns=turns)
    print(
        f"{name}: {n_genes:,} genes read, {measured:,} measured, hidden {hidden}, {batch} cells a batch, {turns} turns\n"
        f"  step with cached vectors      {fast:8.3f} s\n"
        f"  step with the encoder in it   {slow:8.3f} s   ratio {slow / fast:.1f}\n"
        f"  vectors of {POOL} control cells  {vectors.nbytes / 1e6:8.1f} MB on disk, "
        f"{POOL * (slow - fast) / batch:.1f} s once",
        flush=True,
    )


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--architecture", nargs="+", choices=sorted(SIZES), default=sorted(SIZES, reverse=True))
    parser.add_argument("--turns", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for name in arguments.architecture:
        with tempfile.TemporaryDirectory() as folder:
            measure(name, arguments.turns, Path(folder))


if __name__ == "__main__":
    main()
