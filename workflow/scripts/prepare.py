"""Turn the raw files of a data set into its folder."""

from sclong.runlog import logged

with logged(snakemake):
    from pathlib import Path

    from sclong.benchmark.run import prepare_dataset
    from sclong.plan.plan import make_plan

    plan = make_plan(snakemake.config)
    name = snakemake.params.benchmark
    spec = plan.spec(name)
    inputs = {
        role: Path(path) if isinstance(path := plan.paths(value), str) else [Path(p) for p in path]
        for role, value in spec.inputs.items()
    }
    prepare_dataset(plan.cards[name], spec, inputs, Path(snakemake.output[0]))
