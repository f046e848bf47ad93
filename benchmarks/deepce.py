"""Cost of a training step of the DeepCE head at its published size, by distinct compounds in the batch.

    OMP_NUM_THREADS=1 python benchmarks/deepce.py data/deepce/drugs_smiles.csv

Molecules are DeepCE's own compounds, drawn at random; gene vectors and targets are random numbers. CPU seconds of one
thread, forward and backward of a batch of 32 signatures and 978 genes. "each on its own": the same batch of the same
signatures, with the compound of each computed for itself.
"""

from __future__ import annotations

import sys
import time

import numpy as np
import pandas as pd
import torch

from sclong.drugs.molecules import molecule_graphs
from sclong.seeding import rng
from sclong.tasks.chemical_perturbation.deepce_network import DeepceData, DeepceNetwork, DeepceOptions, inputs

GENES, LINES, DOSES, BATCH = 978, 7, 6, 32


def seconds(network: DeepceNetwork, data: DeepceData, repeats: int = 2) -> float:
    """Return the least CPU seconds of a step."""
    rows, targets = np.arange(BATCH), torch.from_numpy(data.targets)
    took = []
    for _ in range(repeats):
        start = time.process_time()
        network.zero_grad(set_to_none=True)
        torch.nn.functional.mse_loss(network(*inputs(data, rows, "cpu")), targets).backward()
        took.append(time.process_time() - start)
    return min(took)


def main(path: str) -> None:
    """Print a table."""
    torch.set_num_threads(1)
    draw = rng("deepce speed")
    every = pd.read_csv(path, header=None)[1].to_numpy()
    network = DeepceNetwork(
        torch.from_numpy(draw.normal(size=(GENES, 128)).astype(np.float32)), LINES, DOSES, DeepceOptions()
    )
    print("| distinct compounds of 32 signatures | s per step | each on its own, s |\n|---|---|---|")
    for distinct in (32, 8, 2):
        compound = np.arange(BATCH) % distinct
        smiles = draw.choice(every, distinct, replace=False)[compound].tolist()
        graphs = molecule_graphs(smiles, "deepce")
        one_hot = [np.eye(n, dtype=np.float32)[draw.integers(n, size=BATCH)] for n in (LINES, DOSES)]
        targets = draw.normal(size=(BATCH, GENES)).astype(np.float32)
        parts = [np.arange(BATCH)] * 3
        times = [
            seconds(network, DeepceData(graphs, which, *one_hot, targets, *parts))
            for which in (compound, np.arange(BATCH))
        ]
        print(f"| {distinct} | {times[0]:.2f} | {times[1]:.2f} |", flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
