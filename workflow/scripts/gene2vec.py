"""Put Gene2Vec vectors in the vocabulary's order; without vectors, say that none are used."""

from sclong.runlog import logged

with logged(snakemake):
    from sclong.genes.gene2vec import build_gene_vectors
    from sclong.genes.vocabulary import Vocabulary
    from sclong.runlog import LOGGER

    vocabulary = Vocabulary.read(snakemake.input.vocabulary)
    vectors, genes = (next(iter(files), None) for files in (snakemake.input.vectors, snakemake.input.genes))
    out = build_gene_vectors(vectors, genes, vocabulary, **snakemake.params.options)
    out.write(snakemake.output[0], vocabulary)
    LOGGER.info("gene2vec: %s", out.describe())
