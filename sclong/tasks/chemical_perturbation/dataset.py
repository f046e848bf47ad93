"""The prepared data set of chemical perturbations: what its folder holds, and what models may use.

::

    samples.tsv       one row per signature: see :attr:`Signatures.samples`
    signatures.npz    genes (G,), values (samples, G) float32, and gene_vectors (G, d) where the data has some
    expression.h5ad   untreated expression of the cell lines that have it, genes named as in the signatures
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from sclong.benchmark.problem import Context
from sclong.errors import InputDataError
from sclong.io.tables import read_tsv, write_tsv


@dataclass(frozen=True, kw_only=True)
class SignatureContext(Context):
    """What every model of chemical perturbations may use beside the signatures.

    Samples are signatures, with the columns ``part``, ``scenario``, ``pert_id``, ``cell_id``, ``dose_um`` (float) and
    ``smiles``; targets are z-scores, and outputs are the names of their genes.

    Attributes
    ----------
    gene_vectors : (outputs, d) float32 or None
        Vectors of the genes that come with the data set, rows as the problem's outputs; None where it has none.

    Raises
    ------
    InputDataError
        Vectors that are no table.
    """

    gene_vectors: np.ndarray | None = None

    def __post_init__(self) -> None:
        if self.gene_vectors is not None and self.gene_vectors.ndim != 2:
            raise InputDataError(
                f"gene vectors of shape {self.gene_vectors.shape}",
                "one row for each gene of the signatures",
                "prepare the data set again",
            )


@dataclass(frozen=True)
class Signatures:
    """Signatures of a data set.

    Attributes
    ----------
    samples
        Columns sample, pert_id, cell_id, dose_um (float), smiles, structure (canonical SMILES of the largest fragment:
        one molecule has one), published_part ("" where none is published).
    genes : (G,) str
    values : (samples, G) float32
        z-scores.
    gene_vectors : (G, d) float32 or None
        Vectors that come with the data.
    """

    samples: pd.DataFrame
    genes: np.ndarray
    values: np.ndarray
    gene_vectors: np.ndarray | None = None

    def write(self, folder: Path) -> None:
        """Write samples.tsv and signatures.npz."""
        write_tsv(self.samples, folder / "samples.tsv")
        arrays = {"genes": self.genes, "values": self.values}
        if self.gene_vectors is not None:
            arrays["gene_vectors"] = self.gene_vectors
        np.savez_compressed(folder / "signatures.npz", **arrays)  # type: ignore[arg-type]

    @classmethod
    def read(cls, folder: Path) -> Signatures:
        """Read what :meth:`write` wrote."""
        words = ("sample", "pert_id", "cell_id", "smiles", "structure", "published_part")
        samples = read_tsv(folder / "samples.tsv", dtype=dict.fromkeys(words, str))
        samples["published_part"] = samples["published_part"].fillna("")
        with np.load(folder / "signatures.npz", allow_pickle=False) as arrays:
            return cls(samples, *(arrays.get(name) for name in ("genes", "values", "gene_vectors")))


def published_parts(samples: pd.DataFrame) -> tuple[pd.Series, dict[str, Any]]:
    """Return the published part of every signature; NaN for those that would carry a compound into another part.

    Of a structure in several parts (so of a compound, and of replicates) only the signatures of the last part stay:
    test, then validation, then training.

    Parameters
    ----------
    samples
        As :attr:`Signatures.samples`.

    Returns
    -------
    part
        "train", "validation", "test", NaN; "" where the data set has no parts.
    facts
        How many are left out, and up to five of their compounds.
    """
    part, structure = samples["published_part"].copy(), samples["structure"]
    facts: dict[str, Any] = {}
    for name, later in (("validation", ["test"]), ("train", ["validation", "test"])):
        leaked = (part == name) & structure.isin(structure[part.isin(later)])
        part[leaked] = np.nan
        facts[f"published_{name}_signatures_left_out"] = int(leaked.sum())
    compounds = sorted(samples["pert_id"][part.isna()].unique())
    facts |= {"published_compounds_left_out": len(compounds), "some_published_compounds_left_out": compounds[:5]}
    return part, facts
