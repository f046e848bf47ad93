"""Cells: from the state of each cell to counts, with donors and batches whose effects are known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp

from sclong.world.world import World

OVERDISPERSION = 0.15  # variance of a count = mean + OVERDISPERSION * mean^2
LIBRARY_SIZE = (3_000, 5_000, 8_000)  # least, median, most UMIs expected per cell

COUNTED, SILENCE, DROPOUT = 0, 1, 2  # kinds of entries of a count matrix


@dataclass(frozen=True)
class Population:
    """Kinds of cells of one tissue, and who they were taken from.

    Attributes
    ----------
    tissue
        Name of the tissue.
    kinds
        Cell types.
    donors
        Donor -> batch in which all its cells were processed.
    n_cells
        Number of cells.
    assay
        Name of the assay.
    """

    tissue: str
    kinds: Sequence[str]
    donors: dict[str, str]
    n_cells: int
    assay: str


@dataclass(frozen=True)
class Sample:
    """Simulated cells and the truth about them.

    Attributes
    ----------
    counts : csr (cells, genes) int32
    obs
        donor, batch, tissue, cell_type, assay.
    silent : (cells, genes) bool
        Genes that are off in the cell's type: mean exactly zero.
    donor_effects, batch_effects : DataFrame (genes x donors or batches)
        Factors that multiply each gene's mean.
    """

    counts: sp.csr_matrix
    obs: pd.DataFrame
    silent: np.ndarray
    donor_effects: pd.DataFrame
    batch_effects: pd.DataFrame

    def kind_of_entry(self) -> np.ndarray:
        """Return COUNTED, SILENCE or DROPOUT for every entry, (cells, genes) uint8."""
        zero = self.counts.toarray() == 0
        return np.where(self.silent, SILENCE, np.where(zero, DROPOUT, COUNTED)).astype(np.uint8)


CORPUS = {
    "blood": Population(
        "blood",
        ("T cell", "B cell", "monocyte", "natural killer cell", "erythroblast"),
        {"B01": "b1", "B02": "b1", "B03": "b1", "B04": "b2", "B05": "b2", "B06": "b3", "B07": "b3"},
        1300,
        "10x 3' v3",
    ),
    "liver": Population(
        "liver",
        ("hepatocyte", "cholangiocyte", "Kupffer cell", "stellate cell", "sinusoidal endothelial cell"),
        {"L01": "l1", "L02": "l1", "L03": "l1", "L04": "l2", "L05": "l2"},
        1000,
        "10x 5' v1",
    ),
    "kidney": Population(
        "kidney",
        ("proximal tubule cell", "podocyte", "principal cell", "intercalated cell"),
        {"K01": "k1", "K02": "k1", "K03": "k2"},
        700,
        "Drop-seq",
    ),
}
PANCREAS = Population(
    "pancreas",
    ("alpha cell", "beta cell", "delta cell", "ductal cell", "acinar cell"),
    {"P01": "p1", "P02": "p2", "P03": "p3", "P04": "p4"},
    800,
    "10x 3' v2",
)


def draw_counts(generator: np.random.Generator, log_means: np.ndarray, silent: np.ndarray) -> sp.csr_matrix:
    """Draw negative binomial counts around given log means.

    Parameters
    ----------
    log_means : (cells, genes) float64
        Natural log of relative expression; library sizes are drawn here.
    silent : (cells, genes) bool
        Where the mean is exactly zero.

    Returns
    -------
    csr (cells, genes) int32
    """
    means = np.where(silent, 0.0, np.exp(log_means))
    least, median, most = LIBRARY_SIZE
    library = np.clip(np.exp(generator.normal(np.log(median), 0.25, len(means))), least, most)
    means *= (library / means.sum(axis=1))[:, None]
    means *= generator.gamma(1 / OVERDISPERSION, OVERDISPERSION, means.shape)
    return sp.csr_matrix(generator.poisson(means).astype(np.int32))


def draw_sample(
    world: World,
    population: Population,
    generator: np.random.Generator,
    *,
    cell_sd: float = 0.35,
    donor_sd: float = 0.12,
    batch_sd: float = 0.25,
    evenness: float = 3.0,
) -> Sample:
    """Draw the cells of a population.

    Parameters
    ----------
    cell_sd
        Standard deviation of every TF's activity from cell to cell.
    donor_sd, batch_sd
        Standard deviations of the log factors of a donor and of a batch, per gene.
    evenness
        Dirichlet parameter of the cell types' shares per donor; small: donors differ much.
    """
    n_cells, n_genes = population.n_cells, len(world.genes)
    donors, batches = list(population.donors), sorted(set(population.donors.values()))
    donor = np.sort(generator.integers(0, len(donors), n_cells))
    shares = generator.dirichlet(np.full(len(population.kinds), evenness), len(donors))
    kind = np.array([generator.choice(len(population.kinds), p=shares[d]) for d in donor])
    batch = np.array([batches.index(population.donors[d]) for d in donors])[donor]

    contexts = [world.context(population.tissue, name, rank) for rank, name in enumerate(population.kinds)]
    intrinsic = np.stack([c.intrinsic for c in contexts])[kind]
    intrinsic = intrinsic + generator.normal(0, cell_sd, intrinsic.shape)
    silent = np.stack([c.silent for c in contexts])[kind]
    of_donor = generator.normal(0, donor_sd, (len(donors), n_genes))
    of_batch = generator.normal(0, batch_sd, (len(batches), n_genes))
    log_means = world.log_means(world.settle(intrinsic)) + of_donor[donor] + of_batch[batch]

    obs = pd.DataFrame(
        {
            "donor": np.array(donors)[donor],
            "batch": np.array(batches)[batch],
            "tissue": population.tissue,
            "cell_type": np.array(population.kinds)[kind],
            "assay": population.assay,
        },
        index=pd.Index(barcodes(np.array(donors)[donor], generator), name="cell"),
    )
    return Sample(
        draw_counts(generator, log_means, silent),
        obs,
        silent,
        pd.DataFrame(np.exp(of_donor).T, index=world.symbols, columns=donors),
        pd.DataFrame(np.exp(of_batch).T, index=world.symbols, columns=batches),
    )


def barcodes(prefixes: np.ndarray, generator: np.random.Generator) -> list[str]:
    """Return one barcode per cell, ``PREFIX_ACGT...-1``, all different."""
    n_cells = len(prefixes)
    numbers = generator.choice(4**12, n_cells, replace=False)
    letters = np.array(list("ACGT"))[(numbers[:, None] >> (2 * np.arange(12))) & 3]
    return [f"{p}_{''.join(row)}-1" for p, row in zip(prefixes, letters, strict=True)]


def counts_adata(counts: sp.csr_matrix, obs: pd.DataFrame, names: Sequence[str] | np.ndarray) -> ad.AnnData:
    """Return counts with cells and gene names as AnnData (X csr float32)."""
    return ad.AnnData(counts.astype(np.float32), obs=obs.copy(), var=pd.DataFrame(index=pd.Index(names, dtype=str)))


def truth_of(name: str, sample: Sample) -> dict[str, pd.DataFrame]:
    """Return the donors' and batches' factors of a file as parts of the answer key."""
    effects = sample.donor_effects.join(sample.batch_effects)
    return {f"answer_key/effects_{name}.tsv": effects.rename_axis("symbol").reset_index()}
