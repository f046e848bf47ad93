"""Build the Gene Ontology similarity graph over the vocabulary."""

from sclong.runlog import logged

with logged(snakemake):
    from sclong.genes.go_graph import build_go_graph
    from sclong.genes.vocabulary import Vocabulary

    vocabulary = Vocabulary.read(snakemake.input.vocabulary)
    files = snakemake.input
    parents = next(iter(files.parents), None)
    graph = build_go_graph(files.obo, files.annotation, vocabulary, parents=parents, **snakemake.params.options)
    graph.write(snakemake.output[0])
