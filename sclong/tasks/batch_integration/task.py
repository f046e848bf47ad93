"""Batch integration: cells of several batches, embedded; judged for mixing and for what is kept of cell types."""

from __future__ import annotations

from sclong.benchmark.task import Task

BIOLOGY = ("isolated_labels", "nmi", "ari", "celltype_asw", "clisi")
BATCH = ("batch_asw_scib_metrics", "ilisi", "graph_connectivity", "pcr")
METRICS = ("batch_asw_scib", *BIOLOGY, *BATCH, "biology", "batch_mixing", "overall")

TASK = Task(
    name="batch_integration",
    package="sclong.tasks.batch_integration",
    title="Batch integration",
    native="integrated_embedding",
    needs=("cell_embedding", "contextual_embedding"),
    metrics=dict.fromkeys(METRICS, "max"),
    head_draws=False,
    figure="predictions",
)
