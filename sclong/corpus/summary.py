"""What the corpus holds: cells by source, tissue, assay and cell type, genes per cell, cells per gene."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from sclong.genes.vocabulary import Vocabulary, require_same_vocabulary
from sclong.io.files import read_json
from sclong.io.tables import write_tsv

GROUPS = ("source", "tissue", "assay", "cell_type")
BIN = 250  # genes per cell


def summarise_corpus(shards: str | Path, vocabulary: Vocabulary, cells: str | Path, genes: str | Path) -> None:
    """Count the cells of the corpus; one shard is read at a time.

    Parameters
    ----------
    shards
        Folder of the corpus.
    vocabulary
        Of its genes.
    cells
        Table to write: a row for each ``group`` (source, tissue, assay, cell_type, and genes_per_cell with the lower
        end of a bin of `BIN` genes as its name) and ``name``; columns cells, donors, datasets, median_genes.
    genes
        Table to write: ensembl_id, symbol, biotype, cells (that detect the gene), in the vocabulary's order.

    Raises
    ------
    VocabularyMismatchError
        The corpus is of another vocabulary.
    """
    folder, detected_in = Path(shards), np.zeros(len(vocabulary), dtype=np.int64)
    facts = read_json(folder / "shards.json")
    require_same_vocabulary(facts["vocabulary_hash"], str(folder), vocabulary.hash, "the vocabulary")
    counts: dict[str, list[pd.DataFrame]] = {group: [] for group in (*GROUPS, "genes_per_cell")}
    members: dict[str, list[pd.DataFrame]] = {group: [] for group in counts}
    for shard in facts["shards"]:
        here = folder / shard["name"]
        obs = pd.read_parquet(here / "obs.parquet", columns=[*GROUPS, "donor", "dataset"])
        detected = np.diff(np.load(here / "indptr.npy"))
        indices = np.load(here / "indices.npy", mmap_mode="r")
        if (here / "kept.npy").is_file():
            kept = np.zeros(len(obs), dtype=bool)
            kept[np.load(here / "kept.npy")] = True
            indices = indices[np.repeat(kept, detected)]
            obs, detected = obs[kept], detected[kept]
        detected_in += np.bincount(indices, minlength=len(vocabulary))
        obs = obs.assign(genes=detected, genes_per_cell=detected // BIN * BIN)
        for group in counts:
            counts[group].append(obs.groupby([group, "genes"]).size().reset_index(name="cells"))
            members[group].append(obs[[group, "donor", "dataset"]].drop_duplicates())
    parts = [_summary(group, pd.concat(counts[group]), pd.concat(members[group])) for group in counts]
    columns = ["group", "name", "cells", "donors", "datasets", "median_genes"]
    write_tsv(pd.concat(parts, ignore_index=True)[columns], cells)
    known = vocabulary.table[["ensembl_id", "symbol", "biotype"]].reset_index(drop=True)
    write_tsv(known.assign(cells=detected_in), genes)


def _summary(group: str, counts: pd.DataFrame, members: pd.DataFrame) -> pd.DataFrame:
    """Sum up one group: `counts` has the columns group, genes, cells, `members` group, donor, dataset."""
    out = pd.DataFrame({"cells": counts.groupby(group)["cells"].sum()})
    out["donors"] = members.groupby(group)["donor"].nunique()
    out["datasets"] = members.groupby(group)["dataset"].nunique()
    in_order = counts.sort_values("genes")
    out["median_genes"] = {name: _median(part) for name, part in in_order.groupby(group)}
    if group != "genes_per_cell":
        out = out.sort_values("cells", ascending=False, kind="stable")
    return out.reset_index(names="name").assign(group=group)


def _median(part: pd.DataFrame) -> float:
    """Return the median of ``genes``, each counted ``cells`` times; rows in order of genes."""
    ends = part["cells"].cumsum().to_numpy()
    middle = np.searchsorted(ends, [(ends[-1] - 1) // 2, ends[-1] // 2], side="right")
    return float(part["genes"].to_numpy()[middle].mean())
