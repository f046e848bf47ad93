"""Draw the report: one page of tables and pictures, no network needed to read it."""

from sclong.runlog import logged

with logged(snakemake):
    from sclong.plan.snapshot import plan_of_run
    from sclong.report.page import write_page

    write_page(
        snakemake.output[0],
        plan=plan_of_run(snakemake.config),
        summary=snakemake.input.summary,
        metrics=snakemake.input.metrics,
        corpus={name: snakemake.input[name] for name in ("manifest", "cells", "genes", "leakage")},
        checkpoint=snakemake.input.checkpoint,
    )
