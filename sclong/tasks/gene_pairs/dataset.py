"""The prepared data set of gene pairs: what its folder holds, written and checked in one place.

::

    pairs.tsv         pair (id), gene1, gene2, label (0 or 1), file (train, validation or test)
    genes.txt         names of all genes, one per line, sorted
    go_terms.npz      genes x terms, csr float32, rows as genes.txt; only where annotations are given
    expression.h5ad   the genes and no cell: only static vectors are needed
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import sparse

from sclong.benchmark.annotations import AnnotatedGenes
from sclong.benchmark.problem import PARTS
from sclong.errors import InputDataError, listing
from sclong.io.files import write_text
from sclong.io.tables import read_tsv, write_tsv

COLUMNS = ("pair", "gene1", "gene2", "label", "file")

OUTPUTS = ["interacts"]
"""Name of the one target: whether the two genes interact."""


@dataclass(frozen=True, kw_only=True)
class PairContext(AnnotatedGenes):
    """What every model of gene pairs may use: the genes (``annotated_genes``) and, where given, their GO terms.

    Samples are pairs, with the columns ``gene1`` and ``gene2``; the one output is whether the two interact.
    """


def write_pairs(folder: Path, pairs: pd.DataFrame, genes: Sequence[str]) -> None:
    """Write pairs and genes.

    Parameters
    ----------
    folder
        Existing folder.
    pairs
        Columns as in ``pairs.tsv``.
    genes
        All names that appear in pairs.
    """
    import anndata

    write_tsv(pairs[list(COLUMNS)], folder / "pairs.tsv")
    write_text(folder / "genes.txt", "".join(f"{g}\n" for g in genes))
    adata = anndata.AnnData(sparse.csr_matrix((0, len(genes)), dtype=np.float32), var=pd.DataFrame(index=list(genes)))
    adata.uns["value_kind"] = "counts"
    adata.write_h5ad(folder / "expression.h5ad")


def read_pairs(folder: Path) -> pd.DataFrame:
    """Read the pairs, indexed by their ids.

    Raises
    ------
    InputDataError
        A pair is duplicated, or a label or a file has another value.
    """
    path = folder / "pairs.tsv"
    pairs = read_tsv(path, COLUMNS, dtype={c: str for c in COLUMNS if c != "label"}, na_values=[])
    twice = pairs["pair"][pairs["pair"].duplicated()]
    if len(twice) or not set(pairs["label"]) <= {0, 1} or not set(pairs["file"]) <= set(PARTS):
        raise InputDataError(
            f"{path}: duplicated pairs {listing(twice)}, labels {listing(sorted(set(pairs['label'])), 3)}, "
            f"files {listing(sorted(set(pairs['file'])), 4)}",
            f"distinct pairs, labels 0 or 1, and files among {', '.join(PARTS)}",
            "delete the folder of the data set and let it be prepared again",
        )
    return pairs.set_index("pair")


def read_context(folder: Path) -> PairContext:
    """Read genes and annotations (see :class:`PairContext`)."""
    genes = (folder / "genes.txt").read_text(encoding="utf-8").split("\n")[:-1]
    path = folder / "go_terms.npz"
    terms = sparse.csr_matrix(sparse.load_npz(path)) if path.is_file() else None
    return PairContext(annotated_genes=genes, go_terms=terms)
