"""The prepared data set of batch integration.

::

    expression.h5ad   all cells; obs["batch"], no cell types
    labels.tsv        sample, batch, cell_type: the truth
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import anndata
import pandas as pd
from scipy import sparse

from sclong.benchmark.problem import Context
from sclong.errors import InputDataError
from sclong.io.tables import read_tsv, write_tsv

OUTPUTS = ["label"]
"""Name of the one target: the code of the cell type; a prediction is an embedding."""


@dataclass(frozen=True, kw_only=True)
class IntegrationContext(Context):
    """What every model of batch integration may use.

    Samples are cells, with the column ``batch``; the one target is the code of the cell type, in the order of sorted
    names. A prediction is an embedding: (cells, any number of dimensions).

    Attributes
    ----------
    expression : (cells, genes) csr float32
        log1p_cp10k, or the values of the file where it has no counts; rows as the samples.
    counts : (cells, genes) csr or None
        The same before normalisation; None where the data set has no counts.
    gene_names
        Of the columns.

    Raises
    ------
    InputDataError
        Another number of columns than gene names.
    """

    expression: sparse.csr_matrix
    counts: sparse.csr_matrix | None
    gene_names: list[str]

    def __post_init__(self) -> None:
        if self.expression.shape[1] != len(self.gene_names):
            raise InputDataError(
                f"expression of {self.expression.shape[1]} genes with {len(self.gene_names)} names",
                "one name for each column",
                "prepare the data set again",
            )


def write_cells(adata: anndata.AnnData, value_kind: str, out: Path) -> None:
    """Write the folder.

    Parameters
    ----------
    adata
        Cells by genes; obs has batch and cell_type.
    value_kind
        What the values are: counts, log1p_cp10k or nonnegative.
    out
        Existing folder.
    """
    labels = adata.obs.rename_axis("sample").reset_index()[["sample", "batch", "cell_type"]]
    write_tsv(labels, out / "labels.tsv")
    shown = anndata.AnnData(sparse.csr_matrix(adata.X), obs=adata.obs[["batch"]].copy(), var=adata.var[[]].copy())
    shown.obs_names.name = shown.var_names.name = None  # names of other types cannot be written
    shown.uns["value_kind"] = value_kind
    shown.write_h5ad(out / "expression.h5ad")


def read_labels(dataset: Path) -> pd.DataFrame:
    """Read batch and cell_type of every cell, indexed by its name."""
    table = read_tsv(dataset / "labels.tsv", ["sample", "batch", "cell_type"], dtype=str, na_values=[])
    return table.set_index("sample")
