"""Read published regulatory networks and what comes with them: lists of regulators, gene sets, unnamed matrices."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd
from scipy import sparse

from sclong.errors import InputDataError, listing
from sclong.io.tables import read_tsv

if TYPE_CHECKING:
    import anndata

NetworkFormat = Literal["edges", "matrix"]
Species = Literal["human", "mouse"]
MOUSE_NAME = r"\s*(?:ENSMUSG\d+|[A-Z][a-z0-9][a-zA-Z0-9.-]*[a-z][a-zA-Z0-9.-]*|[A-Z][a-z]+\d*)\s*"


def read_network(
    path: Path,
    format: NetworkFormat = "edges",
    columns: tuple[str, str] = ("Gene1", "Gene2"),
    names: Path | None = None,
) -> pd.DataFrame:
    """Read a network as it is published: repeats, self loops and all.

    Parameters
    ----------
    path
        File.
    format
        "edges": a table separated by commas, one edge a row. "matrix": numbers separated by white space, as many rows
        as columns; a number that is not 0 is an edge from the gene of the column to the gene of the row, as in models
        ``dx/dt = A x`` (SCODE).
    columns
        Names of the columns that hold regulator and target ("edges").
    names
        File with one gene a line ("matrix").

    Returns
    -------
    DataFrame
        Columns Gene1 (regulator) and Gene2 (target), str.

    Raises
    ------
    InputDataError
        Missing columns, or a matrix that does not fit its names.
    """
    if format == "edges":
        table = read_tsv(path, list(columns), sep=",", dtype=str, na_values=[])
        return pd.DataFrame({"Gene1": table[columns[0]], "Gene2": table[columns[1]]})
    genes = _names_of(path, names)
    matrix = _numbers(path)
    if matrix.shape != (len(genes), len(genes)):
        raise InputDataError(
            f"{path}: a matrix of shape {matrix.shape}, {len(genes)} names",
            "one row and one column per name",
            "name the file of its genes (input gene_names)",
        )
    targets, regulators = np.nonzero(matrix)
    return pd.DataFrame({"Gene1": np.array(genes)[regulators], "Gene2": np.array(genes)[targets]})


def read_unnamed_expression(path: Path, names: Path | None) -> anndata.AnnData:
    """Read a matrix without names, genes in rows, white space between numbers.

    Parameters
    ----------
    path
        File.
    names
        File with one gene a line.

    Returns
    -------
    AnnData
        X (cells, genes) CSR float32; cells are called cell0, cell1, ...

    Raises
    ------
    InputDataError
        Rows and names differ in number.
    """
    import anndata

    genes, values = _names_of(path, names), _numbers(path)
    if len(values) != len(genes):
        raise InputDataError(
            f"{path}: {len(values)} rows, {len(genes)} names", "one row per gene", "name the file of its genes"
        )
    cells = [f"cell{i}" for i in range(values.shape[1])]
    return anndata.AnnData(
        sparse.csr_matrix(values.T.astype(np.float32)), obs=pd.DataFrame(index=cells), var=pd.DataFrame(index=genes)
    )


def read_regulators(path: Path) -> list[str]:
    """Return the column TF of a table separated by commas."""
    return [str(g) for g in read_tsv(path, ["TF"], sep=",", dtype=str, na_values=[])["TF"]]


def varying_genes(path: Path, regulators: Sequence[str], n_others: int | None, level: float = 0.01) -> list[str]:
    """Choose genes as BEELINE does: all regulators that vary along pseudotime, and the most variable other genes.

    Parameters
    ----------
    path
        BEELINE's GeneOrdering.csv: gene in the first column, then VGAMpValue and Variance.
    regulators
        Transcription factors.
    n_others
        How many genes besides them (500 and 1,000 in BEELINE); None: all that vary.
    level
        Largest p value, divided by the number of genes (Bonferroni).

    Returns
    -------
    list of str
        Regulators first.

    References
    ----------
    Pratapa et al. 2020, BEELINE, Nature Methods 17:147 (gene sets TFs+500 and TFs+1000).
    """
    table = read_tsv(path, ["VGAMpValue", "Variance"], sep=",", index_col=0)
    varies = table[table["VGAMpValue"] < level / len(table)].sort_values("Variance", ascending=False, kind="stable")
    names = pd.Index(varies.index.astype(str)).unique()
    chosen = names.isin(regulators)
    return [*names[chosen], *names[~chosen][:n_others]]


def check_species(genes: Sequence[str], species: Species, where: str) -> None:
    """Refuse names of mouse genes in a data set that is said to be human.

    Names in capitals tell nothing: only the card can say that they are of a mouse.

    Raises
    ------
    InputDataError
        More than half of the names are written as names of mouse genes are.
    """
    like_mouse = pd.Series(genes, dtype=str).str.fullmatch(MOUSE_NAME)
    if species == "human" and like_mouse.mean() > 0.5:
        raise InputDataError(
            f"{where}: {int(like_mouse.sum())} of {len(genes)} genes are named as in mice: {listing(genes, 3)}",
            "human genes, which embedding models know",
            "write species: mouse among the options and needs: [edge_scores] in the benchmark's card; embedding models "
            "of human genes are then listed as not applicable",
        )


def _names_of(path: Path, names: Path | None) -> list[str]:
    if names is None:
        raise InputDataError(
            f"{path}: a matrix without names", "a file with one gene a line", "add the input gene_names to the card"
        )
    return [line.strip() for line in names.read_text(encoding="utf-8").splitlines() if line.strip()]


def _numbers(path: Path) -> np.ndarray:
    try:
        return np.loadtxt(path, ndmin=2)
    except (OSError, ValueError) as error:
        raise InputDataError(
            f"{path} cannot be read as a matrix: {' '.join(str(error).split())[:200]}",
            "numbers separated by white space, equally many in each row",
            "fetch the file again, or correct its format in the card",
        ) from error
