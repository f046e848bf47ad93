"""Seconds per epoch of the published DeepCDR network: each pair on its own, distinct drugs, groups of drugs.

    SCLONG_MIRROR=FOLDER python benchmarks/deepcdr.py

Molecules are DeepCDR's own 223 drugs (``deepcdr/223drugs_pubchem_smiles.txt`` of the mirror); pairs, omics and targets
are random numbers. Processor seconds of one thread; the ratios to the first way are printed, all in one run. Writes
benchmarks/results/deepcdr.json.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

SPEED = Path(__file__).resolve().parent / "results" / "deepcdr.json"
PAIRS = 97_000


def speed(mirror: Path) -> None:
    """Measure processor seconds per epoch of the published network, each way of computing the drug tower."""
    import torch

    from sclong.drugs.ids import pubchem_smiles
    from sclong.drugs.molecules import molecule_graphs
    from sclong.tasks.drug_response.deepcdr_network import DeepCDRNetwork, DrugGraphs
    from sclong.tasks.drug_response.deepcdr_training import batches

    torch.set_num_threads(1)
    smiles = list(pubchem_smiles(mirror / "deepcdr/223drugs_pubchem_smiles.txt").values())
    begun = time.process_time()
    molecules = molecule_graphs(smiles, "deepcdr")
    found: dict[str, object] = {"graphs_s": time.process_time() - begun, "pairs": PAIRS, "threads": 1}
    torch.manual_seed(0)
    drug, line, y = torch.randint(len(smiles), (PAIRS,)), torch.randint(539, (PAIRS,)), torch.randn(PAIRS)
    omics = {"expression": torch.randn(539, 6163), "methylation": torch.randn(539, 808)}
    ways = {
        "per pair, batch 64": (64, None, True),
        "per distinct drug, batch 64": (64, None, False),
        "per distinct drug, batch 512": (512, None, False),
        "56 drugs a batch, batch 512": (512, 56, False),
    }
    for way, (size, group, per_pair) in ways.items():
        cut = batches(torch.arange(PAIRS), drug, size, group)
        graphs = DrugGraphs.of(molecules)
        network = DeepCDRNetwork(graphs, omics)
        optimiser = torch.optim.Adam(network.parameters())
        steps, spent = 6, 0.0
        for step, rows in enumerate(cut[: steps + 1]):  # the first warms up
            given_drug, given_line = drug[rows], line[rows]
            begun = time.process_time()
            if per_pair:  # every pair brings its own copy of drug and line
                network.graphs = DrugGraphs.of(molecules.select(given_drug.numpy()))
                network.omics = {k: v[given_line] for k, v in omics.items()}
                given_drug = given_line = torch.arange(len(rows))
            optimiser.zero_grad(set_to_none=True)
            torch.nn.functional.mse_loss(network(given_drug, given_line), y[rows]).backward()
            optimiser.step()
            spent += (time.process_time() - begun) * (step > 0)
        found[way] = spent / steps * len(cut)
        ratio = float(str(found[way])) / float(str(found["per pair, batch 64"]))
        print(f"{way}: {found[way]:.1f} s, ratio {ratio:.3f}", flush=True)
    SPEED.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    speed(Path(os.environ["SCLONG_MIRROR"]))
