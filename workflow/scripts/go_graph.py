"""Build the Gene Ontology similarity graph over the vocabulary."""

from sclong.runlog import logged

with logged(snakemake):
    from sclong.data.vocabulary import Vocabulary
    from sclong.knowledge.similarity import build_go_graph

    vocabulary = Vocabulary.read(snakemake.input.vocabulary)
    graph = build_go_graph(snakemake.input.obo, snakemake.input.annotation, vocabulary, **snakemake.params.options)
    graph.write(snakemake.output[0])
