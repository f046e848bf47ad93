"""The one regulatory network that every simulated file comes from.

The activity of a transcription factor (TF) is what it is set to in a context plus what its regulators give it,
``a = u + K a``; the log expression of a gene is its baseline plus the saturated sum of what its TFs do,
``log mean = b + S tanh(W a / S)``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from sclong.seeding import rng
from sclong.world.names import name_genes

MODULES = (
    "interferon signalling",
    "erythroid maturation",
    "lipid turnover",
    "xenobiotic clearance",
    "ion transport",
    "cell cycle progression",
    "hypoxia adaptation",
    "matrix remodelling",
)
N_MODULES = len(MODULES)
TFS_PER_MODULE = 5
TARGETS_PER_MODULE = 60
N_HOUSEKEEPING = 80
SATURATION = 4.0  # S, natural log units
OWN_GAIN = 0.8  # how much of a TF's activity shows in its own transcript


@dataclass(frozen=True)
class Context:
    """A state of a kind of cell.

    Attributes
    ----------
    intrinsic : (tfs,) float64
        What each TF's activity is set to, before regulation among TFs.
    silent : (genes,) bool
        Genes that are off: their mean is exactly zero.
    """

    intrinsic: np.ndarray
    silent: np.ndarray


@dataclass(frozen=True)
class World:
    """Genes and their network.

    Attributes
    ----------
    seed
        Everything follows from it.
    genes
        One row per gene (:func:`sclong.world.names.name_genes`) and the column ``baseline``.
    tfs : (tfs,) int64
        Positions of the TFs among the genes, module by module.
    target_weights : (genes, tfs) float64
        W: effect of each TF on each target's log expression; zero in the rows of TFs.
    tf_weights : (tfs, tfs) float64
        K: effect of each TF (column) on the activity of each TF (row); acyclic.
    """

    seed: int
    genes: pd.DataFrame
    tfs: np.ndarray
    target_weights: np.ndarray
    tf_weights: np.ndarray

    @property
    def symbols(self) -> np.ndarray:
        """Symbols of all genes, (genes,) object."""
        return self.genes["symbol"].to_numpy()

    @property
    def tf_symbols(self) -> np.ndarray:
        """Symbols of the TFs, (tfs,) object."""
        return self.symbols[self.tfs]

    @property
    def tf_module(self) -> np.ndarray:
        """Module of each TF, (tfs,) int64."""
        return self.genes["module"].to_numpy()[self.tfs]

    def rng(self, *parts: object) -> np.random.Generator:
        """Return the generator of one part of the world; no part disturbs another."""
        return rng("world", self.seed, *parts)

    def settle(self, intrinsic: np.ndarray) -> np.ndarray:
        """Let the TFs regulate each other.

        Parameters
        ----------
        intrinsic : (n, tfs) float64

        Returns
        -------
        (n, tfs) float64
            The activities a with ``a = u + K a``.
        """
        return intrinsic @ np.linalg.inv(np.eye(len(self.tfs)) - self.tf_weights).T

    def log_means(self, activity: np.ndarray, transcribed: np.ndarray | None = None) -> np.ndarray:
        """Return the log expression of every gene.

        Parameters
        ----------
        activity : (n, tfs) float64
            What the TFs do to their targets.
        transcribed : (n, tfs) float64, optional
            What shows in the TFs' own transcripts, where that differs from their activity.

        Returns
        -------
        (n, genes) float64
            Natural log of relative expression.
        """
        response = activity @ self.target_weights.T
        response[:, self.tfs] = OWN_GAIN * (activity if transcribed is None else transcribed)
        return self.genes["baseline"].to_numpy() + SATURATION * np.tanh(response / SATURATION)

    def edges(self) -> pd.DataFrame:
        """Return the network: tf, target (symbols), weight, acts_on ("target" or "tf")."""
        target, tf = np.nonzero(self.target_weights)
        regulated, regulator = np.nonzero(self.tf_weights)
        parts = [
            (self.tf_symbols[tf], self.symbols[target], self.target_weights[target, tf], "target"),
            (self.tf_symbols[regulator], self.tf_symbols[regulated], self.tf_weights[regulated, regulator], "tf"),
        ]
        return pd.concat(
            [pd.DataFrame({"tf": a, "target": b, "weight": w, "acts_on": kind}) for a, b, w, kind in parts],
            ignore_index=True,
        )

    def context(self, tissue: str, kind: str, rank: int) -> Context:
        """Return the state of a kind of cell.

        Parameters
        ----------
        tissue
            Kinds of one tissue share a shift of every TF, and the order of modules that makes them distinct.
        kind
            Name of the cell type.
        rank
            Number of the kind within its tissue: it turns on two modules and turns off two others.
        """
        of_tissue, of_kind = self.rng("tissue", tissue), self.rng("kind", tissue, kind)
        order = of_tissue.permutation(N_MODULES)
        shift = of_tissue.normal(0, 0.3, len(self.tfs))
        programme = of_kind.normal(0, 0.25, N_MODULES)
        up, down = (
            order[[rank % N_MODULES, (rank + 1) % N_MODULES]],
            order[[(rank + 3) % N_MODULES, (rank + 5) % N_MODULES]],
        )
        programme[up] += 1.2
        programme[down] -= 1.0
        intrinsic = shift + programme[self.tf_module] + of_kind.normal(0, 0.35, len(self.tfs))

        module, is_tf = self.genes["module"].to_numpy(), self.genes["is_tf"].to_numpy()
        chance = np.where(np.isin(module, down), 0.35, 0.04)
        chance[(module < 0) | is_tf] = 0  # housekeeping genes and TFs are never off
        return Context(intrinsic, of_kind.random(len(module)) < chance)


def build_world(seed: int) -> World:
    """Draw genes and network.

    A target has one to four TFs, nine in ten of its own module, and nine in ten agree on whether it is activated (five
    targets in six) or repressed: TFs of one module share targets and act on them alike.
    """
    generator = rng("world", seed, "network")
    module, is_tf = _layout(generator)
    tfs = np.flatnonzero(is_tf)
    tfs = tfs[np.argsort(module[tfs], kind="stable")]
    n_genes, n_tfs = len(module), len(tfs)

    target_weights = np.zeros((n_genes, n_tfs))
    for gene in np.flatnonzero((module >= 0) & ~is_tf):
        n_regulators = generator.choice([1, 2, 3, 4], p=[0.05, 0.2, 0.4, 0.35])
        chance = np.where(module[tfs] == module[gene], 0.9 / TFS_PER_MODULE, 0.1 / (n_tfs - TFS_PER_MODULE))
        regulators = generator.choice(n_tfs, n_regulators, replace=False, p=chance)
        sign = 1 if generator.random() < 5 / 6 else -1
        target_weights[gene, regulators] = sign * _signed_weights(generator, n_regulators, 0.4, 0.8)

    tf_weights = np.zeros((n_tfs, n_tfs))
    rank = generator.permutation(n_tfs)  # who may regulate whom: only downwards, so that there is no cycle
    for tf in range(n_tfs):
        above = np.flatnonzero(rank < rank[tf])
        n_regulators = min(len(above), int(generator.integers(0, 3)))
        if n_regulators:
            chance = np.where(module[tfs[above]] == module[tfs[tf]], 15.0, 1.0)
            regulators = generator.choice(above, n_regulators, replace=False, p=chance / chance.sum())
            tf_weights[tf, regulators] = _signed_weights(generator, n_regulators, 0.2, 0.4)

    genes = name_genes(module, is_tf, rng("world", seed, "names"))
    baseline = np.clip(generator.normal(0, 1.8, n_genes), -3, 3)
    baseline[is_tf] = generator.uniform(0.3, 1.8, n_tfs)
    genes["baseline"] = baseline
    return World(seed, genes, tfs, target_weights, tf_weights)


def _layout(generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return module and TF flag of each gene, in a random order along the genome."""
    members = TFS_PER_MODULE + TARGETS_PER_MODULE
    module = np.concatenate([np.repeat(np.arange(N_MODULES), members), np.full(N_HOUSEKEEPING, -1)])
    is_tf = np.concatenate([np.tile(np.arange(members) < TFS_PER_MODULE, N_MODULES), np.zeros(N_HOUSEKEEPING, bool)])
    order = generator.permutation(len(module))
    return module[order], is_tf[order]


def _signed_weights(generator: np.random.Generator, n: int, low: float, high: float) -> np.ndarray:
    return generator.uniform(low, high, n) * np.where(generator.random(n) < 0.9, 1, -1)
