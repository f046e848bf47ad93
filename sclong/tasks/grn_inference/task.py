"""Gene regulatory networks: rank transcription factor -> target pairs, judged by a known network.

The data set follows BEELINE (Pratapa et al. 2020): genes detected in enough cells; every transcription factor of the
network among them, and the most variable other genes ("TFs+1000"); the network restricted to these genes. Judged are
all pairs of its regulators with its genes (regulators and targets), without self pairs; genes without any edge only if
the card says so (judge_all_genes). Nothing is trained on edges: every regulator is a test sample.
"""

from __future__ import annotations

from sclong.benchmark.task import Task

TASK = Task(
    name="grn_inference",
    package="sclong.tasks.grn_inference",
    title="Gene regulatory networks",
    native="edge_scores",
    needs=("gene_embedding", "static_gene_embedding", "covariation_embedding"),
    metrics={
        "aupr_ratio": "max",
        "epr": "max",
        "auroc": "max",
        "aupr_ratio_published": "max",
        "aupr_ratio_beeline": "max",
        "epr_beeline": "max",
        "p_value": "min",
    },
    head_draws=False,
    figure=None,
)
