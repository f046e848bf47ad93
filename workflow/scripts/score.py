"""Score every prediction of a benchmark."""

from sclong.runlog import logged

with logged(snakemake):
    from pathlib import Path

    from sclong.benchmark.run import score
    from sclong.plan.plan import make_plan

    plan = make_plan(snakemake.config)
    name = snakemake.params.benchmark
    score(
        plan.benchmarks[name],
        plan.data[name],
        Path(snakemake.input.dataset),
        Path(snakemake.input.split),
        [Path(p) for p in snakemake.input.predictions],
        snakemake.params.code,
        Path(snakemake.output.metrics),
        protocols={model.name: model.protocol for model in plan.models.values()},
        units=Path(snakemake.output.units),
    )
