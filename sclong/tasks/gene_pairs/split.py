"""Gene pairs, step split: as published, with a share of the training file held out too."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pydantic import Field

from sclong.benchmark.options import check_policy, parse_options
from sclong.config.cards import Strict
from sclong.seeding import rng
from sclong.tasks.gene_pairs.dataset import read_pairs

SCENARIOS = {0: "gene_disjoint", 1: "one_gene_shared", 2: "shared_genes"}


class PublishedSplit(Strict):
    """Options of the split policy "published"."""

    held_out_fraction: float = Field(
        default=0.05, gt=0, lt=1, description="share of the training file that becomes test pairs with shared genes"
    )


def split(dataset: Path, policy: str, options: Mapping[str, Any], seed: int) -> pd.DataFrame:
    """Cut as published, and hold out a share of the training file too (policy "published").

    A held-out pair whose genes are not both in remaining training pairs goes back to training. The scenario of a
    test pair says how many of its genes are in training pairs: none (gene_disjoint), one (one_gene_shared), both
    (shared_genes).
    """
    check_policy(policy, ["published"], "gene_pairs")
    chosen = parse_options(PublishedSplit, options, "gene_pairs, split published")
    pairs = read_pairs(dataset).reset_index()
    part = pairs["file"].to_numpy(dtype=object)
    file = np.flatnonzero(part == "train")
    n_held = round(chosen.held_out_fraction * len(file))
    held = rng("gene_pairs", "held out", seed).choice(file, n_held, replace=False)
    part[held] = "test"
    back = held[shared_genes(pairs.iloc[held], pairs[part == "train"]) < 2]
    part[back] = "train"
    known = shared_genes(pairs, pairs[part == "train"])
    scenario = np.where(part == "test", pd.Series(known).map(SCENARIOS), "")
    return pd.DataFrame({"fold": "0", "sample": pairs["pair"], "part": part, "scenario": scenario})


def shared_genes(pairs: pd.DataFrame, training: pd.DataFrame) -> np.ndarray:
    """Return how many of the two genes of each pair are in a training pair, (pairs,) 0, 1 or 2."""
    known = pd.unique(pd.concat([training["gene1"], training["gene2"]]))
    return pairs["gene1"].isin(known).to_numpy(int) + pairs["gene2"].isin(known).to_numpy(int)
