"""The simulated world: every input of the workflow, made by one regulatory network, with the answers beside it.

Each function returns what it makes (file name -> table, AnnData, text or arrays) from a generator of its own, so that
a change in one file leaves the others as they are. :func:`simulate` writes them.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd

from sclong.errors import InputDataError, listing, nearest
from sclong.io.files import atomic_path, write_text
from sclong.io.tables import write_tsv
from sclong.world import corpus, drugs, experiments, gene_vectors, ontology
from sclong.world.files import WORLD_FILES
from sclong.world.key import README, shared_answers
from sclong.world.names import annotation_table, hgnc_table
from sclong.world.world import World, build_world

__all__ = ["WORLD_FILES", "World", "build_world", "simulate"]

# Which files each function makes; what it adds under answer_key/ comes along.
PIECES: dict[tuple[str, ...], Callable[[World], dict[str, Any]]] = {
    ("genes.csv", "hgnc.tsv"): lambda world: {
        "genes.csv": annotation_table(world.genes),
        "hgnc.tsv": hgnc_table(world.genes),
        "answer_key/README.md": README,
        **shared_answers(world),
    },
    ("go.obo", "goa.gaf"): ontology.ontology,
    ("corpus_blood.h5ad",): corpus.blood,
    ("corpus_liver.h5ad",): corpus.liver,
    ("corpus_kidney.csv.gz",): corpus.kidney,
    ("perturbation.h5ad",): experiments.perturbation,
    ("network.csv", "tfs.csv", "grn_expression.h5ad"): experiments.grn,
    ("integration.h5ad",): experiments.integration,
    ("cell_lines.h5ad",): drugs.cell_lines,
    ("drugs.tsv",): drugs.drug_files,
    ("signatures.h5ad",): drugs.signatures,
    ("drug_response.tsv",): drugs.drug_response,
    ("drug_combination.tsv",): drugs.drug_combination,
    ("gene2vec.txt",): gene_vectors.gene2vec,
    gene_vectors.PAIR_FILES: gene_vectors.pairs,
}


def simulate(folder: str | Path, seed: int = 0, only: set[str] | None = None) -> None:
    """Write the simulated world.

    Parameters
    ----------
    folder
        Where the files of ``WORLD_FILES`` go; the answers go to ``answer_key`` in it.
    seed
        Everything is drawn from it: the same seed makes the same files.
    only
        Names of files to write, with what is made together with them; default: all.

    Raises
    ------
    InputDataError
        When `only` names a file that the world does not have.
    """
    wanted = set(WORLD_FILES) if only is None else only
    unknown = sorted(wanted - set(WORLD_FILES))
    if unknown:
        like = nearest(unknown[0], WORLD_FILES)
        raise InputDataError(
            f"the simulated world has no file {listing(unknown)}",
            f"some of {', '.join(WORLD_FILES)}",
            f"did you mean {like[0]!r}?" if like else "leave `only` out to write every file",
        )
    world = build_world(seed)
    for files, make in PIECES.items():
        if wanted.intersection(files):
            for name, content in make(world).items():
                _write(Path(folder) / name, content)


def _write(path: Path, content: Any) -> None:
    """Write a table, an AnnData, text, bytes or named arrays, atomically."""
    if isinstance(content, str):
        write_text(path, content)
    elif isinstance(content, pd.DataFrame) and path.suffix == ".tsv":
        write_tsv(content, path)
    else:
        with atomic_path(path) as tmp:
            if isinstance(content, ad.AnnData):
                content.write_h5ad(tmp, compression="gzip")
            elif isinstance(content, pd.DataFrame):
                content.to_csv(tmp, index=False, lineterminator="\n")
            elif isinstance(content, bytes):
                tmp.write_bytes(content)
            else:
                with tmp.open("wb") as handle:
                    np.savez_compressed(handle, **content)
