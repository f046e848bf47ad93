"""Whether hiding zeros too makes a better model: held-out reconstruction at base size, with and without.

    python benchmarks/zero_masking.py --results results_small --work /tmp/zeros --steps 600

Trains the architecture `base` on the same cells in the same order, with the published masks and with a share of the
zeros hidden besides, and scores both models on held-out donors under both kinds of masks. `--results` is a results
folder that holds the corpus, the vocabulary and the graph (`snakemake --config preset=small ...
results_small/corpus/shards results_small/go/go_graph.npz`). A training that was interrupted goes on; `--arms` trains
some of the arms only, so that they can run side by side.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from sclong.checkpoint.folder import load_checkpoint
from sclong.config.load import load_architecture, load_config
from sclong.config.sections import PretrainConfig
from sclong.corpus.shards import ShardStore
from sclong.genes.vocabulary import Vocabulary
from sclong.train.dataset import PretrainingCells
from sclong.train.evaluation import baselines, evaluate
from sclong.train.loop import pretrain
from sclong.train.parallel import Replica, World

ROOT = Path(__file__).parent.parent


def main() -> None:
    """Train what is not trained yet, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--zeros", type=float, default=0.01, help="share of the zeros that is hidden in the other arm")
    parser.add_argument("--cells", type=int, default=400, help="held-out cells of the comparison")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--arms", nargs="*", default=["published", "zeros"], choices=["published", "zeros"])
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    small = load_config({"preset": "small"}, ROOT).pretrain
    store = ShardStore(args.results / "corpus/shards")
    vocabulary = Vocabulary.read(args.results / "vocabulary/vocabulary.tsv")
    graph, arch = args.results / "go/go_graph.npz", load_architecture("base", ROOT / "config")
    common = {**small.model_dump(), "steps": args.steps, "validate_every": 50, "threads": args.threads}
    arms = {
        name: PretrainConfig(**{**common, "mask_zero_fraction": share})
        for name, share in (("published", 0.0), ("zeros", args.zeros))
    }
    for name in args.arms:
        if not (args.work / name / "checkpoint").is_dir():
            pretrain(store, vocabulary, graph, arch, arms[name], args.work / name, args.work / name / "checkpoint")
    trained = [name for name in arms if (args.work / name / "checkpoint").is_dir()]
    if len(trained) < len(arms):
        return
    print(f"{len(store)} cells, {len(vocabulary)} genes, {args.steps} steps of {small.batch_size} cells\n")
    print("| masks of the training | masks of the test | of hidden values | of hidden zeros | correlation over genes |")
    print("|---|---|---|---|---|")
    world = World(0, 1, torch.device("cpu"))
    for name in trained:
        model = load_checkpoint(args.work / name / "checkpoint").model
        for test, masks in arms.items():
            config = masks.model_copy(update={"validation_cells": args.cells})
            cells = PretrainingCells(
                store,
                batch_size=config.batch_size,
                held_out_fraction=config.held_out_fraction,
                validation_cells=config.validation_cells,
                seed=config.seed,
                held_out_by=config.held_out_by,
                normalization=config.normalization,
            )
            scores = evaluate(Replica(model, world, "none"), cells, config)
            zeros = scores.get("held_out_loss_zeros")
            print(
                f"| {name} | {test} | {scores['held_out_loss_replaced']:.4f} | {f'{zeros:.4f}' if zeros else ''} "
                f"| {scores['held_out_gene_correlation']:.4f} |",
                flush=True,
            )
    known = baselines(cells, config, world, args.work / f"baselines_{args.cells}.json")
    print("\nbaselines, of hidden values: " + ", ".join(f"{k} {v:.4f}" for k, v in known.items() if v is not None))


if __name__ == "__main__":
    main()
