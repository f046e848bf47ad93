"""Write which benchmarks' cells were found in the sources of the corpus, and which are still in it."""

from sclong.runlog import logged

with logged(snakemake):
    from sclong.corpus.leakage import leakage_table

    names = list(snakemake.params.datasets)
    leakage_table(
        snakemake.params.datasets,
        dict(zip(names, snakemake.input.cells, strict=True)),
        dict(zip(names, snakemake.input.overlaps, strict=True)),
        snakemake.params.excluded,
        snakemake.params.not_compared,
        snakemake.input.corpus,
        snakemake.output[0],
    )
