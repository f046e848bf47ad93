"""Write a checkpoint of random weights: the control of every scLong row."""

from sclong.runlog import logged

with logged(snakemake):
    from sclong.checkpoint.folder import initialise
    from sclong.config.sections import Architecture
    from sclong.genes.vocabulary import Vocabulary

    initialise(
        snakemake.output.checkpoint,
        Architecture(**snakemake.params.architecture),
        Vocabulary.read(snakemake.input.vocabulary),
        snakemake.input.graph,
        snakemake.params.seed,
        snakemake.input.gene2vec,
    )
