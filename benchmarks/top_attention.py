"""What exact attention for the highest genes buys: held-out reconstruction at base size, against FAVOR+.

    python benchmarks/top_attention.py --results results_small --steps 150

Trains the architecture `base` twice per seed, on the same cells in the same order, once with each attention of the
large encoder, and prints the losses on held-out donors. `--results` is a results folder that holds the corpus, the
vocabulary and the graph (`snakemake --config preset=small ... results_small/corpus/shards results_small/go/go_graph.npz`).
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

from sclong.config.load import load_architecture, load_config
from sclong.config.sections import Architecture, PretrainConfig
from sclong.corpus.shards import ShardStore
from sclong.genes.vocabulary import Vocabulary
from sclong.train.loop import pretrain

ROOT = Path(__file__).parent.parent


def main() -> None:
    """Train and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    args = parser.parse_args()
    small = load_config({"preset": "small"}, ROOT).pretrain
    store, vocabulary = (
        ShardStore(args.results / "corpus/shards"),
        Vocabulary.read(args.results / "vocabulary/vocabulary.tsv"),
    )
    print(f"{len(store)} cells, {len(vocabulary)} genes, {args.steps} steps of {small.batch_size} cells\n")
    print(
        "| attention of the large encoder | seed | held-out loss | of hidden values | s per cell |\n|---|---|---|---|---|",
        flush=True,
    )
    losses: dict[str, list[float]] = {"favor": [], "exact": []}
    for seed in args.seeds:
        for attention in losses:
            config = PretrainConfig(
                **{**small.model_dump(), "steps": args.steps, "seed": seed, "validate_every": args.steps}
            )
            arch = Architecture(
                **{**load_architecture("base", ROOT / "config").model_dump(), "top_attention": attention}
            )
            with tempfile.TemporaryDirectory() as folder:
                begun = time.perf_counter()
                pretrain(
                    store,
                    vocabulary,
                    args.results / "go/go_graph.npz",
                    arch,
                    config,
                    Path(folder) / "work",
                    Path(folder) / "out",
                )
                seconds = time.perf_counter() - begun
                last = json.loads((Path(folder) / "out/training.jsonl").read_text().splitlines()[-1])
            losses[attention].append(last["held_out_loss"])
            print(
                f"| {attention} | {seed} | {last['held_out_loss']:.4f} | {last['held_out_loss_replaced']:.4f} "
                f"| {seconds / args.steps / small.batch_size:.3f} |",
                flush=True,
            )
    print()
    for attention, values in losses.items():
        print(f"{attention}: mean {statistics.mean(values):.4f} over {len(values)} seeds")


if __name__ == "__main__":
    main()
