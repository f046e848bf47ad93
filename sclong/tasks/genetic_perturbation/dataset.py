"""The prepared data set of genetic perturbations: its conditions, their mean profiles, and what models may use.

::

    conditions.tsv    sample, label, genes, cells, condition_name
    profiles.npz      mean profiles (see :class:`Profiles`)
    gene_sets.npz     rankings and gene sets of each condition (:class:`.GeneSets`)
    cells.h5ad        cells of each condition and control cells (:class:`.ConditionCells`)
    go_terms.npz      genes x terms, csr float32; only where annotations are given
    expression.h5ad   control cells: those that are embedded
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import sparse

from sclong.benchmark.annotations import AnnotatedGenes
from sclong.errors import InputDataError
from sclong.io.tables import read_tsv, write_tsv
from sclong.tasks.genetic_perturbation.cells import ConditionCells


@dataclass(frozen=True)
class Profiles:
    """What a data set's folder holds.

    Attributes
    ----------
    conditions
        Columns sample, label (as the data write it), genes ("A|B"), cells, condition_name (GEARS' form).
    genes, symbols : (G,) str
    mean : (conditions, G) float32
        Mean log1p(CP10k) of each condition's cells.
    half_a, half_b : (conditions, G) float32
        The same of two random halves of the cells.
    control_mean : (G,) float32
    perturbed, perturbed_ids : (P,) str
        Symbols of all perturbed genes, and the name of each in ``expression.h5ad``.
    """

    conditions: pd.DataFrame
    genes: np.ndarray
    symbols: np.ndarray
    mean: np.ndarray
    half_a: np.ndarray
    half_b: np.ndarray
    control_mean: np.ndarray
    perturbed: np.ndarray
    perturbed_ids: np.ndarray

    def write(self, folder: Path) -> None:
        """Write conditions.tsv and profiles.npz."""
        write_tsv(self.conditions, folder / "conditions.tsv")
        arrays = {k: v for k, v in vars(self).items() if k != "conditions"}
        np.savez_compressed(folder / "profiles.npz", **arrays)

    @classmethod
    def read(cls, folder: Path) -> Profiles:
        """Read what :meth:`write` wrote."""
        conditions = read_tsv(
            folder / "conditions.tsv", dtype={"sample": str, "label": str, "genes": str}, na_values=[]
        )
        with np.load(folder / "profiles.npz", allow_pickle=False) as arrays:
            return cls(conditions, **arrays)


@dataclass(frozen=True, kw_only=True)
class PerturbationContext(AnnotatedGenes):
    """What every model of genetic perturbations may use.

    Samples are conditions, with the columns ``scenario`` and ``genes`` ("A|B"); targets are mean log1p(CP10k) profiles.
    ``annotated_genes`` are the measured genes, in the order of the outputs, then perturbed genes that are not measured.

    Attributes
    ----------
    control_mean : (G,) float32
        Mean profile of the control cells.
    gene_names
        Symbols of the outputs.
    perturbed_ids
        Symbol of each perturbed gene -> its name among ``Features.genes``.
    de
        Sample -> positions of its first 20 ranked genes, ascending; samples of the test part only with ``sees_truth``.
    non_zero
        Sample -> positions of its non-zero genes; the same samples.
    cells
        Single cells of the same samples, and of control.
    expression
        Path of the control cells that are embedded.
    half_a, half_b : (samples, G) float32 or None
        Mean profiles of two random halves of each sample's cells; only with ``sees_truth``.

    Raises
    ------
    InputDataError
        Arrays of different numbers of genes.
    """

    control_mean: np.ndarray
    gene_names: list[str]
    perturbed_ids: Mapping[str, str]
    de: Mapping[str, np.ndarray]
    non_zero: Mapping[str, np.ndarray]
    cells: ConditionCells
    expression: Path
    half_a: np.ndarray | None = None
    half_b: np.ndarray | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.control_mean.shape != (len(self.gene_names),):
            raise InputDataError(
                f"a control profile of shape {self.control_mean.shape} for {len(self.gene_names)} genes",
                "one value for each gene",
                "prepare the data set again",
            )

    @property
    def unchanged(self) -> np.ndarray:
        """The mean profile of the control cells, (G,) float32."""
        return self.control_mean


def graph_genes(profiles: Profiles) -> list[str]:
    """Return the symbols of the measured genes, in order, then of the perturbed genes that are not measured."""
    symbols = [str(s) for s in profiles.symbols]
    measured = set(symbols)
    return [*symbols, *(str(g) for g in profiles.perturbed if g not in measured)]


def read_go_terms(dataset: Path) -> sparse.csr_matrix | None:
    """Read the annotations, rows as :func:`graph_genes`; None where the data set has none."""
    path = dataset / "go_terms.npz"
    return sparse.csr_matrix(sparse.load_npz(path)) if path.is_file() else None
