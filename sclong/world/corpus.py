"""The corpus: three sources that name genes in three ways, as public data sets do."""

from __future__ import annotations

import gzip
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp

from sclong.world.cells import CORPUS, counts_adata, draw_sample, truth_of
from sclong.world.world import World

N_NOT_MEASURED = 40  # genes that a source lacks
N_SPLIT = 6  # genes of which the liver source has two columns, one under the approved and one under the old symbol
SPIKE_INS = ("ERCC-00002", "ERCC-00074", "ERCC-00130")


def blood(world: World) -> dict[str, Any]:
    """Ensembl ids with versions; X is counts."""
    generator = world.rng("corpus_blood.h5ad")
    sample = draw_sample(world, CORPUS["blood"], generator)
    measured = _measured(world, generator)
    versions = generator.integers(1, 17, len(world.genes)).astype(str)
    names = (world.genes["gene_id"] + "." + versions).to_numpy()[measured]
    zeros = {
        "kind": sample.kind_of_entry()[:, measured],
        "cells": np.array(sample.obs.index, dtype=str),
        "genes": np.array(world.genes["gene_id"], dtype=str)[measured],
    }
    return {
        "corpus_blood.h5ad": counts_adata(sample.counts[:, measured], sample.obs, names),
        "answer_key/zeros_corpus_blood.npz": zeros,
        "answer_key/names_corpus_blood.tsv": _names(world, names, measured, "versioned id"),
        **truth_of("corpus_blood", sample),
    }


def liver(world: World) -> dict[str, Any]:
    """Symbols, some of them old, some genes twice, spike-ins; X is log-normalised, counts are in ``raw``."""
    generator = world.rng("corpus_liver.h5ad")
    sample = draw_sample(world, CORPUS["liver"], generator)
    measured = _measured(world, generator)
    old = np.where(world.genes["previous"] != "", world.genes["previous"], world.genes["alias"])[measured]
    has_old = np.flatnonzero(old != "")
    names = world.symbols[measured].copy()
    renamed = generator.permutation(has_old)[: 2 * len(has_old) // 3]
    # A nickname that two genes share stands for at most one of them in one file.
    renamed = renamed[np.sort(np.unique(old[renamed].astype(str), return_index=True)[1])]
    twice, once = renamed[:N_SPLIT], renamed[N_SPLIT:]
    names[once] = old[once]

    counts = sample.counts[:, measured].toarray()
    moved = generator.binomial(counts[:, twice], 0.3)
    counts[:, twice] -= moved
    spikes = generator.poisson(3.0, (len(counts), len(SPIKE_INS)))
    table = np.hstack([counts, moved, spikes])
    columns = [*names, *old[twice], *SPIKE_INS]

    raw = counts_adata(sp.csr_matrix(table), sample.obs, columns)
    adata = ad.AnnData(_log1p_cp10k(table), obs=sample.obs.copy(), var=raw.var.copy())
    adata.raw = raw
    positions = np.concatenate([measured, measured[twice], np.full(len(SPIKE_INS), -1)])
    written = _names(world, np.array(columns, dtype=object), positions, "symbol")
    written.loc[once, "kind"] = "old symbol"
    written.loc[twice, "kind"] = "symbol, counts in two columns"
    written.loc[len(measured) : len(measured) + N_SPLIT - 1, "kind"] = "old symbol, counts in two columns"
    written.loc[written["gene_id"] == "", "kind"] = "spike-in"
    shared = world.genes.loc[(world.genes["alias"] != "") & world.genes["alias"].duplicated(), "alias"]
    written.loc[written["name"].isin(shared), "kind"] = "nickname of two genes"
    return {
        "corpus_liver.h5ad": adata,
        "answer_key/names_corpus_liver.tsv": written,
        **truth_of("corpus_liver", sample),
    }


def kidney(world: World) -> dict[str, Any]:
    """Genes in rows, Entrez numbers ``GeneID:n``, gzipped text; cells are told only by their barcodes."""
    generator = world.rng("corpus_kidney.csv.gz")
    sample = draw_sample(world, CORPUS["kidney"], generator)
    measured = _measured(world, generator)
    names = ("GeneID:" + world.genes["entrez_id"]).to_numpy()[measured]
    table = pd.DataFrame(sample.counts[:, measured].toarray().T, index=names, columns=sample.obs.index)
    text = table.to_csv(index_label="gene", lineterminator="\n")
    return {
        "corpus_kidney.csv.gz": gzip.compress(text.encode(), mtime=0),
        "answer_key/names_corpus_kidney.tsv": _names(world, names, measured, "Entrez number"),
        "answer_key/cells_corpus_kidney.tsv": sample.obs.reset_index(),
        **truth_of("corpus_kidney", sample),
    }


def _measured(world: World, generator: np.random.Generator) -> np.ndarray:
    """Return the positions of the genes a source has, in the order of the genome."""
    lacking = generator.choice(np.flatnonzero(~world.genes["is_tf"]), N_NOT_MEASURED, replace=False)
    return np.setdiff1d(np.arange(len(world.genes)), lacking)


def _names(world: World, names: np.ndarray, positions: np.ndarray, kind: str) -> pd.DataFrame:
    """Return which gene each name of a file stands for: name, gene_id ("" for no gene), kind."""
    gene_ids = np.where(positions < 0, "", world.genes["gene_id"].to_numpy()[positions])
    return pd.DataFrame({"name": names, "gene_id": gene_ids, "kind": kind})


def _log1p_cp10k(counts: np.ndarray) -> sp.csr_matrix:
    return sp.csr_matrix(np.log1p(1e4 * counts / counts.sum(axis=1, keepdims=True)).astype(np.float32))
