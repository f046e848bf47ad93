"""Answers that belong to the whole world: genes with their modules, and the TF activities of every kind of cell."""

from __future__ import annotations

import pandas as pd

from sclong.world.cells import CORPUS, PANCREAS
from sclong.world.world import MODULES, World

README = """# Answers of the simulated world

Nothing in this folder is ever shown to a model. `docs/simulated_world.md` tells how the world works.

| file | what it answers |
|---|---|
| genes.tsv | every gene: names, module, whether it is a TF, baseline (natural log) |
| network.tsv | every edge: tf, target, weight (natural log per unit of activity), acts on a target or on a TF |
| cell_type_activities.tsv | activity of every TF in every cell type, before cell-to-cell variation |
| cell_line_activities.tsv | activity of every TF in every cell line |
| names_corpus_*.tsv | which gene each name in a corpus file stands for, and what is odd about the name |
| cells_corpus_kidney.tsv | donor, batch and type of the kidney cells (their file is bare counts) |
| effects_*.tsv | factor by which each donor and each batch multiplies each gene's mean |
| zeros_corpus_blood.npz | `kind` (cells x genes): 0 counted, 1 silence (gene is off), 2 dropout (on, not drawn) |
| interactions.tsv | every pair of perturbed TFs: additive, synergy, suppression, or epistasis (tf1 hides tf2) |
| perturbation_deltas.tsv | noise-free change of log expression by each perturbation |
| stress.tsv | the TF that answers every perturbation |
| drug_mechanisms.tsv | scaffold, substituents, gain, EC50 of every drug, and its shift of every TF |
| substituent_effects.tsv | shift of every TF by every substituent |
| substituent_complementarity.tsv | which substituents work together (positive: synergistic) |
| signatures_without_noise.npz | `z`: the signatures before noise |
| drug_response_parts.tsv | potency + resistance + interaction, whose sum is ln IC50 before noise |
| combination_scores.tsv | complementarity, sensitivity and score behind each label |
| go_terms.tsv | module of every GO term |
| gene_pairs.tsv | number of TFs that act on both genes of a pair |
"""


def shared_answers(world: World) -> dict[str, pd.DataFrame]:
    """Return the answers that belong to no single file."""
    names = dict(enumerate(MODULES)) | {-1: "housekeeping"}
    genes = world.genes.assign(module=world.genes["module"].map(names))
    rows = [
        {"tissue": p.tissue, "cell_type": kind}
        | dict(zip(world.tf_symbols, world.settle(world.context(p.tissue, kind, rank).intrinsic), strict=True))
        for p in [*CORPUS.values(), PANCREAS]
        for rank, kind in enumerate(p.kinds)
    ]
    return {"answer_key/genes.tsv": genes, "answer_key/cell_type_activities.tsv": pd.DataFrame(rows)}
