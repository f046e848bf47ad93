"""Static knowledge of genes: vectors as if learned from co-expression, and pairs of genes that share a regulator."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from sclong.world.world import World

DIMENSIONS = 32  # base_dim of the demo's architecture
SHARE_WITH_VECTOR = 0.87
NOISE = 0.5  # standard deviation of the noise of a vector, beside a signal of 1
SHARES = {"train": 0.68, "valid": 0.10, "test": 0.22}  # of the genes
PAIRS = {"train": 5000, "valid": 300, "test": 1200}  # half of them positive
PAIR_FILES = tuple(f"gene_pairs_{part}_{kind}.txt" for part in PAIRS for kind in ("text", "label"))


def gene2vec(world: World) -> dict[str, str]:
    """Return vectors in the format of word2vec: genes on which the same TFs act have like vectors.

    One gene in eight has no vector; genes that were renamed stand under their old symbol where they have one; five
    names belong to no gene.
    """
    generator = world.rng("gene2vec.txt")
    acts = np.abs(world.target_weights)
    acts[world.tfs, np.arange(len(world.tfs))] = 1.0
    signal = acts @ generator.normal(0, 1, (acts.shape[1], DIMENSIONS))
    size = np.sqrt((signal**2).mean(axis=1, keepdims=True))
    signal = np.divide(signal, size, out=np.zeros_like(signal), where=size > 0)
    vectors = 0.3 * (signal + generator.normal(0, NOISE, signal.shape)) + generator.normal(0, 0.1, DIMENSIONS)
    names = np.where(world.genes["previous"] != "", world.genes["previous"], world.genes["symbol"])
    chosen = generator.permutation(np.flatnonzero(generator.random(len(names)) < SHARE_WITH_VECTOR))
    rows = [(names[g], vectors[g]) for g in chosen]
    rows += [(f"NOSUCH{i}", generator.normal(0, 0.3, DIMENSIONS)) for i in range(5)]
    lines = [" ".join([name, *(f"{v:.6f}" for v in vector)]) for name, vector in rows]
    return {"gene2vec.txt": "\n".join([f"{len(rows)} {DIMENSIONS}", *lines]) + "\n"}


def pairs(world: World) -> dict[str, Any]:
    """Return pairs of genes with labels in the layout of the published set: no gene stands in two of the parts.

    Two genes are a positive pair when a TF acts on both; some genes are studied more than others and stand in more
    positive pairs. Negative pairs are drawn from all genes alike.
    """
    generator = world.rng("gene_pairs")
    shared = (world.target_weights != 0).astype(int) @ (world.target_weights != 0).T.astype(int)
    studied = generator.gamma(0.7, 1.0, len(shared))
    bounds = np.cumsum([round(share * len(shared)) for share in SHARES.values()])[:-1]
    files: dict[str, Any] = {}
    answers = []
    for part, genes in zip(SHARES, np.split(generator.permutation(len(shared)), bounds), strict=True):
        first, second = (genes[i] for i in np.triu_indices(len(genes), 1))
        positive = shared[first, second] > 0
        chance = np.where(positive, studied[first] * studied[second], 0.0)
        half = PAIRS[part] // 2
        chosen = np.concatenate(
            [
                generator.choice(len(first), half, replace=False, p=chance / chance.sum()),
                generator.choice(np.flatnonzero(~positive), half, replace=False),
            ]
        )
        chosen = generator.permutation(chosen)
        table = pd.DataFrame({"gene1": world.symbols[first[chosen]], "gene2": world.symbols[second[chosen]]})
        text = "".join(f"{a} {b}\n" for a, b in zip(table["gene1"], table["gene2"], strict=True))
        files[f"gene_pairs_{part}_text.txt"] = text
        files[f"gene_pairs_{part}_label.txt"] = "".join(f"{int(p)}\n" for p in positive[chosen])
        answers.append(table.assign(part=part, shared_regulators=shared[first, second][chosen]))
    return {**files, "answer_key/gene_pairs.tsv": pd.concat(answers, ignore_index=True)}
