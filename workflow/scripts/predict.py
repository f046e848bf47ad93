"""Answer a benchmark with one model and one seed."""

from sclong.runlog import logged

with logged(snakemake):
    from pathlib import Path

    from sclong.benchmark.run import predict
    from sclong.config.cards import ModelCard
    from sclong.plan.plan import make_plan

    features = next(iter(snakemake.input.features), None)
    predict(
        make_plan(snakemake.config).benchmarks[snakemake.params.benchmark],
        ModelCard(**snakemake.params.card),
        Path(snakemake.input.dataset),
        Path(snakemake.input.split),
        Path(features) if features else None,
        int(snakemake.wildcards.seed),
        Path(snakemake.output[0]),
    )
