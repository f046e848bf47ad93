"""Pairs of genes: whether a static vector of each gene tells that the two belong together.

The published set (Du et al. 2019, Gene2vec) has labelled pairs in three files that share no gene. Test pairs are of two
kinds: *gene_disjoint*, whose genes are in no training pair (the published test file), and *shared_genes*, pairs held
out of the training file, both of whose genes are in other training pairs. In the second kind, counting how often a gene
is in positive training pairs goes very far: it measures which genes are studied, and the control ``pair_degree`` shows
it.
"""

from __future__ import annotations

from sclong.benchmark.task import Task

TASK = Task(
    name="gene_pairs",
    package="sclong.tasks.gene_pairs",
    title="Gene pairs",
    native="pair_scores",
    needs=("static_gene_embedding",),
    metrics={"auroc": "max", "average_precision": "max", "auroc_cosine": "max"},
    head_draws=False,
)
