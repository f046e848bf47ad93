"""Find the cells of a benchmark among the sources of the corpus."""

from sclong.runlog import logged

with logged(snakemake):
    from sclong.corpus.leakage import find_overlap

    find_overlap(snakemake.input.parts, snakemake.input.cells, snakemake.output[0], snakemake.threads)
