"""The prepared data set of drug responses.

::

    pairs.tsv             sample, drug_id, smiles, cell_line, tissue, ln_ic50
    expression.h5ad       cell lines x genes: what embedding models see
    methylation.npz, mutation.npz    cell lines x features, where the card names them (:class:`.LineTable`)
    graphs.npz            drug graphs by SMILES, where the card names them (:class:`.NamedGraphs`)
    published_parts.tsv   policy, sample, part, where the card names files of published splits
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import anndata
import numpy as np
import pandas as pd

from sclong.drugs.context import DrugContext
from sclong.drugs.features import fingerprints
from sclong.drugs.lines import LineTable
from sclong.errors import InputDataError, listing
from sclong.io.tables import read_tsv
from sclong.tasks.drug_response.files import NamedGraphs

COLUMNS = ("sample", "drug_id", "smiles", "cell_line", "tissue", "ln_ic50")
OMICS = ("methylation", "mutation")
"""Tables of cell lines that a data set may have beside expression."""

OUTPUTS = ["ln_ic50"]
"""Name of the one target: the logarithm of IC50."""


@dataclass(frozen=True, kw_only=True)
class ResponseContext(DrugContext):
    """What every model of drug responses may use.

    Samples are pairs of drug and cell line, with the columns ``drug_id``, ``smiles``, ``cell_line`` and ``tissue``; the
    target is ln IC50 (in uM).

    Attributes
    ----------
    methylation, mutation : (lines, features) DataFrame of float32, or None
        Where the data set has them.
    graphs
        Drug graphs by SMILES, where the data set has them; else None.
    """

    line_column: ClassVar[str] = "cell_line"
    classifies: ClassVar[bool] = False

    methylation: pd.DataFrame | None = None
    mutation: pd.DataFrame | None = None
    graphs: NamedGraphs | None = None

    def drug_features(self, samples: pd.DataFrame) -> np.ndarray:
        """Return the Morgan fingerprint of each sample's drug, (samples, 512)."""
        return fingerprints(samples)


def read_pairs(dataset: Path) -> pd.DataFrame:
    """Read the pairs of a prepared data set; ids stay strings.

    Raises
    ------
    InputDataError
        A sample appears twice.
    """
    text = {c: str for c in COLUMNS if c != "ln_ic50"}
    pairs = read_tsv(dataset / "pairs.tsv", COLUMNS, dtype=text).fillna({"tissue": ""})
    twice = pairs["sample"][pairs["sample"].duplicated()]
    if len(twice):
        raise InputDataError(
            f"{dataset / 'pairs.tsv'}: duplicated samples {listing(twice)}",
            "each sample once",
            "delete the folder of the data set and let it be prepared again",
        )
    return pairs


def read_context(dataset: Path) -> ResponseContext:
    """Read what models may use (:class:`ResponseContext`)."""
    omics = {
        name: LineTable.read(dataset / f"{name}.npz").frame() for name in OMICS if (dataset / f"{name}.npz").exists()
    }
    graphs = NamedGraphs.read(dataset / "graphs.npz") if (dataset / "graphs.npz").exists() else None
    return ResponseContext(expression=anndata.read_h5ad(dataset / "expression.h5ad").to_df(), graphs=graphs, **omics)


def read_published(dataset: Path, policy: str) -> pd.DataFrame | None:
    """Return the published parts of a policy; None where the data set has none."""
    path = dataset / "published_parts.tsv"
    if not path.exists():
        return None
    table = read_tsv(path, ["policy", "sample", "part"], dtype=str)
    table = table[table["policy"] == policy]
    return table if len(table) else None
