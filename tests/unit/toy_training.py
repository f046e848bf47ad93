"""A corpus and a model small enough to train in a test; not a test itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from scipy import sparse

from sclong.config_sections import Architecture, PretrainConfig
from sclong.data.vocabulary import Vocabulary
from sclong.io.shards import ShardStore, ShardWriter
from sclong.knowledge.similarity import GoGraph

N_GENES, N_DONORS, CELLS_PER_DONOR = 40, 6, 20

ARCH = Architecture(
    name="toy", top_genes=12, base_dim=8, value_hidden_dim=8, mini_depth=1, mini_heads=1, mini_dim_head=8,
    large_dim=16, large_depth=1, large_heads=2, large_dim_head=8, decoder_depth=1, decoder_heads=1, decoder_dim_head=8,
)  # fmt: skip

CONFIG = PretrainConfig(
    steps=12, batch_size=16, learning_rate=5e-3, warmup_steps=3, validate_every=4, validation_cells=15,
    checkpoint_every=4, redraw_every=5, held_out_fraction=0.2, seed=3, threads=1,
)  # fmt: skip


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
