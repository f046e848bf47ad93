"""Cut a data set into train, validation and test, as a file."""

from sclong.runlog import logged

with logged(snakemake):
    from pathlib import Path

    from sclong.benchmark.run import make_split
    from sclong.plan.plan import make_plan

    plan = make_plan(snakemake.config)
    name = snakemake.params.benchmark
    make_split(plan.benchmarks[name], plan.data[name], Path(snakemake.input.dataset), Path(snakemake.output[0]))
