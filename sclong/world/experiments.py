"""Experiments on cells: overexpression of TFs, a differentiation to infer the network from, batches to integrate."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from sclong.world.cells import PANCREAS, barcodes, counts_adata, draw_counts, draw_sample, truth_of
from sclong.world.world import N_MODULES, World

N_CONTROL_CELLS = 200
CELLS_PER_SINGLE, CELLS_PER_DOUBLE = 32, 28
TFS_PERTURBED_PER_MODULE = 4
GROUP_SIZES = (5, 5, 5, 5, 4, 4, 4)
STRENGTH = 2.0  # shift of the activity of an overexpressed TF
STRESS = 0.6  # shift of one TF that is not perturbed, in every perturbed cell
N_PER_INTERACTION = 5
SYNERGY, SUPPRESSION = 1.9, 0.3  # factors on the shifts of both TFs

N_GRN_CELLS = 500


def perturbation(world: World) -> dict[str, Any]:
    """CRISPRa-like overexpression of TFs, alone and in pairs.

    A perturbed TF's transcript rises by the same amount in every condition that names it; what its protein does is the
    question, and interactions are planted there. Pairs are all pairs within seven groups of TFs, so that any eight TFs
    that a split leaves out contain a pair.
    """
    structure, generator = world.rng("perturbation design"), world.rng("perturbation.h5ad")
    perturbed, stress_tf = _choose_tfs(world, structure)
    design = _design(world, structure, perturbed)
    context = world.context("cell line", "K90", rank=0)

    nominal, effective = _shifts(world, design)
    effective[1:, stress_tf] += STRESS
    nominal[1:, stress_tf] += STRESS
    condition = np.repeat(np.arange(len(design)), design["n_cells"])
    condition = generator.permutation(condition)
    noise = generator.normal(0, 0.25, (len(condition), len(world.tfs)))
    base = context.intrinsic * 0.5
    log_means = world.log_means(
        world.settle(base + noise + effective[condition]), world.settle(base + noise + nominal[condition])
    )
    donors = np.array(["D1", "D2"])
    donor = generator.integers(0, 2, len(condition))
    of_donor = generator.normal(0, 0.08, (2, len(world.genes)))
    silent = np.broadcast_to(context.silent, log_means.shape)
    counts = draw_counts(generator, log_means + of_donor[donor], silent)
    obs = pd.DataFrame(
        {"condition": design["condition"].to_numpy()[condition], "cell_type": "K90", "donor": donors[donor]},
        index=pd.Index(barcodes(donors[donor], generator), name="cell"),
    )

    deltas = world.log_means(world.settle(base + effective), world.settle(base + nominal))
    deltas = np.where(context.silent, 0, deltas - deltas[0])[1:]
    truth = pd.DataFrame(deltas, index=design["condition"][1:], columns=world.symbols)
    return {
        "perturbation.h5ad": counts_adata(counts, obs, world.symbols),
        "answer_key/interactions.tsv": design.loc[design["tf2"] != "", ["condition", "tf1", "tf2", "kind"]],
        "answer_key/perturbation_deltas.tsv": truth.rename_axis("condition").reset_index(),
        "answer_key/stress.tsv": pd.DataFrame({"tf": [world.tf_symbols[stress_tf]], "shift": [STRESS]}),
    }


def _choose_tfs(world: World, generator: np.random.Generator) -> tuple[np.ndarray, int]:
    """Return positions (among the TFs) of those perturbed, and of the one that answers every perturbation."""
    per_module = [generator.permutation(np.flatnonzero(world.tf_module == m)) for m in range(N_MODULES)]
    perturbed = np.concatenate([m[:TFS_PERTURBED_PER_MODULE] for m in per_module])
    return generator.permutation(perturbed), int(generator.choice([m[-1] for m in per_module]))


def _design(world: World, generator: np.random.Generator, perturbed: np.ndarray) -> pd.DataFrame:
    """Return the conditions: condition, tf1, tf2, kind, n_cells; the control is first."""
    names = world.tf_symbols[perturbed]
    rows = [("ctrl", "", "", "control", N_CONTROL_CELLS)]
    rows += [(f"{name}+ctrl", name, "", "single", CELLS_PER_SINGLE) for name in names]
    groups = np.split(names, np.cumsum(GROUP_SIZES)[:-1])
    pairs = [pair for group in groups for pair in combinations(group, 2)]
    kinds = np.full(len(pairs), "additive", dtype=object)
    planted = generator.choice(len(pairs), 3 * N_PER_INTERACTION, replace=False)
    kinds[planted] = np.repeat(["synergy", "suppression", "epistasis"], N_PER_INTERACTION)
    rows += [(f"{a}+{b}", a, b, kind, CELLS_PER_DOUBLE) for (a, b), kind in zip(pairs, kinds, strict=True)]
    return pd.DataFrame(rows, columns=["condition", "tf1", "tf2", "kind", "n_cells"])


def _shifts(world: World, design: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Return the shifts of transcripts and of activities per condition, two (conditions, tfs) float64 arrays."""
    first = (design["tf1"].to_numpy()[:, None] == world.tf_symbols).astype(float)
    second = (design["tf2"].to_numpy()[:, None] == world.tf_symbols).astype(float)
    factors = {"synergy": (SYNERGY, SYNERGY), "suppression": (SUPPRESSION, SUPPRESSION), "epistasis": (1.0, 0.0)}
    on_first, on_second = np.array([factors.get(kind, (1.0, 1.0)) for kind in design["kind"]]).T
    nominal = STRENGTH * (first + second)
    effective = STRENGTH * (on_first[:, None] * first + on_second[:, None] * second)
    return nominal, effective


def grn(world: World) -> dict[str, Any]:
    """Cells along a differentiation, and the network that made them.

    From cell to cell, half of a TF's variation is its own and half is shared by its module, so that a gene also
    correlates with TFs of its module that do not regulate it.
    """
    generator = world.rng("grn_expression.h5ad")
    time = np.sort(generator.random(N_GRN_CELLS))
    start, end = world.context("embryo", "stem cell", 0), world.context("embryo", "endoderm cell", 3)
    intrinsic = start.intrinsic + time[:, None] * (end.intrinsic - start.intrinsic)
    intrinsic = intrinsic + generator.normal(0, 0.5, (N_GRN_CELLS, len(world.tfs)))
    intrinsic = intrinsic + generator.normal(0, 0.5, (N_GRN_CELLS, N_MODULES))[:, world.tf_module]
    log_means = world.log_means(world.settle(intrinsic))
    silent = np.broadcast_to(start.silent & end.silent, log_means.shape)
    obs = pd.DataFrame(
        {"time": time, "cell_type": np.where(time < 0.5, "stem cell", "endoderm cell")},
        index=pd.Index(barcodes(np.full(N_GRN_CELLS, "E01"), generator), name="cell"),
    )
    edges = world.edges().sort_values(["tf", "target"])
    return {
        "grn_expression.h5ad": counts_adata(draw_counts(generator, log_means, silent), obs, world.symbols),
        "network.csv": edges.rename(columns={"tf": "Gene1", "target": "Gene2"})[["Gene1", "Gene2"]],
        "tfs.csv": pd.DataFrame({"TF": np.sort(world.tf_symbols)}),
        "answer_key/network.tsv": edges,
    }


def integration(world: World) -> dict[str, Any]:
    """Pancreas cells of four batches with strong effects and unequal shares of the cell types."""
    sample = draw_sample(
        world, PANCREAS, world.rng("integration.h5ad"), donor_sd=0.05, batch_sd=0.45, evenness=1.2, cell_sd=0.35
    )
    return {
        "integration.h5ad": counts_adata(sample.counts, sample.obs[["batch", "cell_type"]], world.symbols),
        **truth_of("integration", sample),
    }
