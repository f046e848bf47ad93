"""Turn the raw files of a data set into its folder."""

from sclong.runlog import logged

with logged(snakemake):
    from pathlib import Path

    from sclong.benchmark.prepare import prepare_dataset

    inputs = {
        role: Path(path) if isinstance(path, str) else [Path(p) for p in path] for role, path in snakemake.input.items()
    }
    prepare_dataset(
        snakemake.params.task,
        snakemake.params.dataset,
        inputs,
        snakemake.params.options,
        Path(snakemake.output[0]),
    )
