"""What every embedder returns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Embedding:
    """What an embedder returns for one AnnData (rows and columns in its order).

    Attributes
    ----------
    cell_embedding : (cells, d) float32 or None
    gene_embedding : (genes, d) float32 or None
    gene_mapped : (genes,) bool
        False where the model does not know the gene (its row is then the mean of the mapped rows).
    facts
        What a reader must know to repeat it: checkpoint hash, options, coverage.
    contextual_embedding : (cells, genes, d) float16 or None
        Vectors of genes in each cell, where the data set asks for them: ``uns["contextual"]`` is true.
    """

    cell_embedding: np.ndarray | None
    gene_embedding: np.ndarray | None
    gene_mapped: np.ndarray
    facts: Mapping[str, Any]
    contextual_embedding: np.ndarray | None = None
