"""Hash the cells of a benchmark's data set, to find them in the corpus."""

from sclong.runlog import logged

with logged(snakemake):
    from sclong.corpus.leakage import benchmark_cells
    from sclong.genes.vocabulary import Vocabulary

    benchmark_cells(snakemake.input.dataset, Vocabulary.read(snakemake.input.vocabulary), snakemake.output[0])
