"""Build the gene vocabulary from the annotation and from what the corpus detects."""

from sclong.runlog import logged

with logged(snakemake):
    from sclong.data.corpus import detection_table
    from sclong.data.vocabulary import build_vocabulary

    vocabulary = build_vocabulary(
        snakemake.input.annotation,
        next(iter(snakemake.input.symbols), None),
        detection_table(snakemake.input.detection),
        snakemake.params.size,
        next(iter(snakemake.input.genes), None),
    )
    vocabulary.write(snakemake.output[0])
