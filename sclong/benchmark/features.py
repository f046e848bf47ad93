"""Embeddings on disk: arrays as .npy, names as text, facts as JSON."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from sclong.benchmark.problem import Features
from sclong.embed.result import Embedding
from sclong.errors import InputDataError
from sclong.io.files import atomic_dir, read_json, write_json, write_text
from sclong.io.tables import read_tsv, write_tsv

if TYPE_CHECKING:
    import anndata


def write_features(folder: str | Path, model: str, embedding: Embedding, adata: anndata.AnnData) -> None:
    """Write an embedding of `adata` as a folder, whole or not at all.

    ::

        metadata.json        model, facts of the embedding
        cells.txt            obs_names, one per line
        genes.tsv            var_names, and whether the model knows the gene
        cell_embedding.npy   (cells, d) float32, where the model has one
        gene_embedding.npy   (genes, d) float32, where the model has one
        contextual_embedding.npy   (cells, genes, d) float16, where the data set asks for it and the model has one

    Raises
    ------
    InputDataError
        The embedding has not one finite row for each cell or gene of `adata`.
    """
    arrays = {
        "cell_embedding": (embedding.cell_embedding, adata.n_obs),
        "gene_embedding": (embedding.gene_embedding, adata.n_vars),
    }
    with atomic_dir(folder) as tmp:
        for name, (array, rows) in arrays.items():
            if array is None:
                continue
            if array.ndim != 2 or len(array) != rows or not np.isfinite(array).all():
                raise InputDataError(
                    f"{name} of model {model!r} has shape {array.shape}, "
                    f"{int((~np.isfinite(array)).sum())} values not finite",
                    f"{rows} rows of finite numbers, one for each row of the data set",
                    "correct the model's adapter, or look for cells and genes without counts in the data",
                )
            np.save(tmp / f"{name}.npy", np.asarray(array, dtype=np.float32), allow_pickle=False)
        if embedding.contextual_embedding is not None:
            np.save(tmp / "contextual_embedding.npy", embedding.contextual_embedding, allow_pickle=False)
        write_text(tmp / "cells.txt", "".join(f"{cell}\n" for cell in adata.obs_names))
        mapped = np.asarray(embedding.gene_mapped, dtype=int)
        write_tsv(pd.DataFrame({"gene": adata.var_names, "mapped": mapped}), tmp / "genes.tsv")
        write_json(tmp / "metadata.json", {"model": model, "facts": dict(embedding.facts)})


def read_features(folder: str | Path) -> Features:
    """Read what :func:`write_features` wrote.

    Raises
    ------
    InputDataError
        `folder` is no such folder.
    """
    folder = Path(folder)
    if not (folder / "metadata.json").is_file():
        raise InputDataError(
            f"{folder} has no metadata.json", "a folder with the embedding of a data set", "run the rule that embeds it"
        )
    genes = read_tsv(folder / "genes.tsv", ["gene", "mapped"], dtype=str, na_values=[])
    return Features(
        model=read_json(folder / "metadata.json")["model"],
        cells=np.array((folder / "cells.txt").read_text(encoding="utf-8").split("\n")[:-1], dtype=str),
        cell_embedding=_load(folder / "cell_embedding.npy"),
        genes=genes["gene"].to_numpy(dtype=str),
        gene_embedding=_load(folder / "gene_embedding.npy"),
        gene_mapped=(genes["mapped"] == "1").to_numpy(),
        contextual_embedding=_load(folder / "contextual_embedding.npy", mapped=True),
    )


def _load(path: Path, mapped: bool = False) -> np.ndarray | None:
    return np.load(path, "r" if mapped else None, allow_pickle=False) if path.is_file() else None
