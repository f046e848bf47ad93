"""Split a data set into training, validation and test samples, as a file."""

from sclong.runlog import logged

with logged(snakemake):
    from pathlib import Path

    from sclong.benchmark.split import make_split

    policy, options, seed = snakemake.params.policy
    dataset, out = Path(snakemake.input.dataset), Path(snakemake.output[0])
    make_split(snakemake.params.task, dataset, policy, options, seed, out, folds=snakemake.params.folds)
