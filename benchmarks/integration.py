"""Batch integration on real cells: scLong under each pooling and normalisation, and any row of the benchmark.

    SCLONG_MIRROR=FOLDER python benchmarks/integration.py embed CHECKPOINT VALUES ... [--work DIR] [--label WORDS]
    SCLONG_MIRROR=FOLDER python benchmarks/integration.py rows MODEL ... [--work DIR] [--seeds N]
    python benchmarks/integration.py table [--work DIR]       # a Markdown table of what was run

`embed` sends the cells of the card scmixology (files of a mirror, laid out as <id>/<file>) through a checkpoint folder
once per kind of values (log1p_cp10k, cp10k, paper_log, counts) and keeps what each pooling makes of them. `rows` runs
model cards that need no checkpoint, those of config/models/optional too. One thread.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import anndata
import numpy as np
import pandas as pd
from scipy import sparse

from sclong.benchmark import run
from sclong.benchmark.predictions import read_predictions, write_predictions
from sclong.benchmark.problem import Predictions
from sclong.cells.normalize import normalize_counts
from sclong.config.cards import BenchmarkCard, ModelCard, load_card, load_cards
from sclong.tasks.batch_integration.metrics import METRICS

CARDS = Path(__file__).resolve().parents[1] / "config"
COLUMNS = [
    "batch_asw_scib",
    "batch_asw_scib_metrics",
    "ilisi",
    "graph_connectivity",
    "pcr",
    "batch_mixing",
    "celltype_asw",
    "isolated_labels",
    "nmi",
    "ari",
    "clisi",
    "biology",
    "overall",
]
POOLINGS = {"nonzero_mean": "mean of detected", "mean": "mean of all", "reconstruction_profile": "Eq. 11"}


def prepared(card: BenchmarkCard, work: Path) -> tuple[Path, Path]:
    """Make the data set and its split, once."""
    dataset, split = work / "data", work / "split.tsv"
    if not dataset.exists():
        mirror, spec = Path(os.environ["SCLONG_MIRROR"]), card.alternatives("small")[0]
        inputs = {k: [mirror / a.removeprefix("source:") for a in v] for k, v in spec.inputs.items()}
        run.prepare_dataset(card, spec, inputs, dataset)
        run.make_split(card, spec, dataset, split)
    return dataset, split


def embed(card: BenchmarkCard, work: Path, checkpoint: Path, values: str, label: str) -> None:
    """Embed all cells once, and keep every pooling's vectors."""
    import torch

    from sclong.checkpoint.folder import load_checkpoint
    from sclong.embed.cells import cells_of
    from sclong.embed.embedding import forward, pool

    torch.set_num_threads(1)
    dataset, _ = prepared(card, work)
    adata = anndata.read_h5ad(dataset / "expression.h5ad")
    if values != "log1p_cp10k":
        counts = sparse.csr_matrix(adata.X, dtype=np.float32)
        adata.X = counts if values == "counts" else normalize_counts(counts, values)
        adata.uns["value_kind"] = "nonnegative"
    loaded = load_checkpoint(checkpoint)
    cells = cells_of(adata, loaded.vocabulary, None)
    found: dict[str, list[np.ndarray]] = {name: [] for name in POOLINGS}
    begun = time.process_time()
    with torch.inference_mode():
        for _, values_BN, output in forward(cells, loaded, 1, False):
            for name, parts in found.items():
                parts.append(pool(output, values_BN, name, cells.alignment.positions))
    print(f"{label}, {values}, {loaded.hash}: {adata.n_obs} cells, {time.process_time() - begun:.0f} s", flush=True)
    names = np.array(adata.obs_names)
    for name, parts in found.items():
        vectors = np.concatenate(parts)
        outputs = np.arange(vectors.shape[1]).astype(str)
        path = work / "predictions" / f"{label}, {POOLINGS[name]}, {values}" / "seed0.npz"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_predictions(path, Predictions(np.array(["0"] * len(names)), names, vectors, outputs))


def rows(card: BenchmarkCard, work: Path, models: list[str], seeds: int) -> None:
    """Answer the benchmark with model cards."""
    dataset, split = prepared(card, work)
    cards = load_cards(CARDS / "models", ModelCard) | load_cards(CARDS / "models" / "optional", ModelCard)
    for name in models:
        model = cards[name].for_preset("small")
        for seed in range(1 if model.deterministic else seeds):
            path = work / "predictions" / name / f"seed{seed}.npz"
            path.parent.mkdir(parents=True, exist_ok=True)
            begun = time.process_time()
            run.predict(card, model, dataset, split, None, seed, path)
            print(f"{name}, seed {seed}: {time.process_time() - begun:.1f} s", flush=True)


def table(card: BenchmarkCard, work: Path) -> None:
    """Score what was run, once each, and print the table."""
    task = run.load_task(card.task)
    assert set(COLUMNS) == set(METRICS)
    dataset, split = prepared(card, work)
    cut, lines = run.read_split(split), {}
    for folder in sorted((work / "predictions").iterdir()):
        seeds = []
        for path in sorted(folder.glob("seed*.npz")):
            kept = path.with_suffix(".tsv")
            if not kept.exists():
                task.score(dataset, cut, read_predictions(path)).to_csv(kept, sep="\t", index=False)
            seeds.append(pd.read_csv(kept, sep="\t").set_index("metric")["value"])
        lines[folder.name] = pd.concat(seeds, axis=1).mean(axis=1)
    print("| row | " + " | ".join(COLUMNS) + " |\n|---|" + "---:|" * len(COLUMNS))
    for name, scores in lines.items():
        print(f"| {name} | " + " | ".join(f"{scores[c]:.3f}" for c in COLUMNS) + " |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["embed", "rows", "table"])
    parser.add_argument("names", nargs="*", help="a checkpoint folder and kinds of values, or models")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "sclong_integration")
    parser.add_argument("--label", default="scLong")
    parser.add_argument("--seeds", type=int, default=3)
    given = parser.parse_args()
    card = load_card(CARDS / "benchmarks" / "scmixology.yaml", BenchmarkCard)
    if given.what == "embed":
        for values in given.names[1:]:
            embed(card, given.work, Path(given.names[0]), values, given.label)
    elif given.what == "rows":
        rows(card, given.work, given.names, given.seeds)
    else:
        table(card, given.work)


if __name__ == "__main__":
    main()
