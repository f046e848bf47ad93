"""Score every prediction of a benchmark."""

from sclong.runlog import logged

with logged(snakemake):
    from pathlib import Path

    from sclong.benchmark.score import Scored, score

    score(
        Scored(**snakemake.params.scored),
        Path(snakemake.input.dataset),
        Path(snakemake.input.split),
        [Path(p) for p in snakemake.input.predictions],
        snakemake.params.code,
        Path(snakemake.output.metrics),
        protocols=snakemake.params.protocols,
        units=Path(snakemake.output.units),
    )
