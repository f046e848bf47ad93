"""Count the cells of the corpus by source, tissue, assay and cell type, and the cells that detect each gene."""

from sclong.runlog import logged

with logged(snakemake):
    from sclong.corpus.summary import summarise_corpus
    from sclong.genes.vocabulary import Vocabulary

    vocabulary = Vocabulary.read(snakemake.input.vocabulary)
    summarise_corpus(snakemake.input.shards, vocabulary, snakemake.output.cells, snakemake.output.genes)
