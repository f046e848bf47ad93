"""A corpus and a model small enough to train in a test; not a test itself."""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import torch.distributed as dist
from scipy import sparse

from sclong.config.sections import Architecture, PretrainConfig
from sclong.corpus.shard_writer import ShardWriter
from sclong.corpus.shards import ShardStore
from sclong.genes.go_graph import GoGraph
from sclong.genes.vocabulary import Vocabulary

N_GENES, N_DONORS, CELLS_PER_DONOR = 40, 6, 20

ARCH = Architecture(
    name="toy",
    top_genes=12,
    base_dim=8,
    value_hidden_dim=8,
    mini_depth=1,
    mini_heads=1,
    mini_dim_head=8,
    large_dim=16,
    large_depth=1,
    large_heads=2,
    large_dim_head=8,
    decoder_depth=1,
    decoder_heads=1,
    decoder_dim_head=8,
)

CONFIG = PretrainConfig(
    steps=12,
    batch_size=16,
    learning_rate=5e-3,
    warmup_steps=3,
    validate_every=4,
    validation_cells=15,
    checkpoint_every=4,
    redraw_every=5,
    held_out_fraction=0.2,
    seed=3,
    threads=1,
)


def toy_vocabulary(n_genes: int = N_GENES) -> Vocabulary:
    """Genes ENSG90000000000 and on."""
    ids = [f"ENSG9{i:010d}" for i in range(n_genes)]
    table = pd.DataFrame({"index": range(n_genes), "ensembl_id": ids, "symbol": [f"TOY{i}" for i in range(n_genes)]})
    table = table.assign(biotype="protein_coding", aliases="", entrez_id="")
    return Vocabulary(table, {})


def toy_counts(n_cells: int, seed: int = 0, n_genes: int = N_GENES) -> np.ndarray:
    """Counts of cells of two types; each type has half of the genes high, every gene its own level."""
    random = np.random.default_rng(seed)
    level = np.linspace(0.2, 6.0, n_genes)
    high = (np.arange(n_genes)[None, :] % 2) == random.integers(0, 2, n_cells)[:, None]
    return random.poisson(level * np.where(high, 3.0, 0.5)).astype(np.float32)


def toy_graph(vocabulary: Vocabulary, weight: float = 0.5) -> GoGraph:
    """Each gene has a self loop and an edge from the gene two further on; PAD has none."""
    n_genes = len(vocabulary)
    genes = np.arange(n_genes)
    return GoGraph(
        np.minimum(np.arange(n_genes + 2), n_genes) * 2,
        np.sort(np.stack([genes, (genes + 2) % n_genes], 1), axis=1).ravel(),
        np.tile(np.array([1.0, weight], dtype=np.float32), n_genes),
        {"vocabulary_hash": vocabulary.hash, "n_genes": n_genes},
    )


def toy_corpus(folder: Path, n_genes: int = N_GENES) -> tuple[ShardStore, Vocabulary, Path]:
    """Shards of six donors in two sources, the vocabulary, and the path of a GO graph."""
    vocabulary = toy_vocabulary(n_genes)
    writer = ShardWriter(folder / "shards", vocabulary.hash, n_genes, 50)
    for source in range(2):
        donors = [f"donor{d}" for d in range(N_DONORS) if d % 2 == source]
        n = len(donors) * CELLS_PER_DONOR
        obs = pd.DataFrame({"source": f"s{source}", "donor": np.repeat(donors, CELLS_PER_DONOR)})
        obs = obs.assign(tissue="", assay="", cell_type="")
        writer.append(sparse.csr_matrix(toy_counts(n, source, n_genes)), obs)
    writer.close()
    toy_graph(vocabulary).write(folder / "go_graph.npz")
    return ShardStore(folder / "shards"), vocabulary, folder / "go_graph.npz"


# ---------------------------------------------------------------- logs


def log_of(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "work/training.jsonl").read_text().splitlines()]


def largest_difference(one: list[dict], other: list[dict]) -> float:
    """The largest relative difference between the numbers of two logs; they must have the same lines and keys."""
    assert [line.keys() for line in one] == [line.keys() for line in other]
    pairs = [(a[key], b[key]) for a, b in zip(one, other, strict=True) for key in a]
    assert [a is None for a, _ in pairs] == [b is None for _, b in pairs]
    return max(abs(a - b) / max(abs(a), 1e-12) for a, b in pairs if a != b) if one != other else 0.0


# ---------------------------------------------------------------- processes


def in_processes(
    count: int, function: Callable[..., None], *arguments: Any, environment: Mapping[str, str] | None = None
) -> list[int]:
    """Call a function in forked processes that form a gloo process group (one process: none); return their exit codes.

    Forked, so that nothing is imported again. When one process dies the others are killed, as torchrun does.
    """
    context = multiprocessing.get_context("fork")
    with tempfile.TemporaryDirectory() as folder:
        shared = (count, f"{folder}/store", function, arguments, dict(environment or {}))
        processes = [context.Process(target=_member, args=(rank, *shared)) for rank in range(count)]
        for process in processes:
            process.start()
        while any(process.is_alive() for process in processes):
            if any(process.exitcode for process in processes):
                time.sleep(0.5)  # the others may be about to say why
                for process in processes:
                    process.kill()
            time.sleep(0.01)
        return [process.exitcode for process in processes]


def _member(
    rank: int, count: int, store: str, function: Callable[..., None], arguments: tuple, environment: dict[str, str]
) -> None:
    from sclong.train.stop import RETRY, TrainingStoppedError

    os.environ.update(environment)
    torch.set_num_threads(1)
    if count > 1:
        dist.init_process_group("gloo", store=dist.FileStore(store, count), rank=rank, world_size=count)
    try:
        function(*arguments)
    except TrainingStoppedError:
        sys.exit(RETRY)
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)
    if count > 1:
        dist.destroy_process_group()
