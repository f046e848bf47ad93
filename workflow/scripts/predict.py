"""Predict a benchmark with one model and one seed."""

from sclong.runlog import logged

with logged(snakemake):
    from pathlib import Path

    from sclong.benchmark.predict import predict
    from sclong.config.cards import Recipe

    features = next(iter(snakemake.input.features), None)
    predict(
        snakemake.params.task,
        Recipe(**snakemake.params.recipe),
        Path(snakemake.input.dataset),
        Path(snakemake.input.split),
        Path(features) if features else None,
        int(snakemake.wildcards.seed),
        Path(snakemake.output[0]),
        native=snakemake.params.native,
        code=snakemake.params.code,
    )
