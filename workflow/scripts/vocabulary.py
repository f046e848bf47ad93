"""Build the gene vocabulary from the annotation and from what the corpus detects."""

from sclong.runlog import logged

with logged(snakemake):
    from sclong.corpus.assemble import detection_table
    from sclong.genes.vocabulary import build_vocabulary

    ranked = snakemake.params.mode == "rule"
    vocabulary = build_vocabulary(
        snakemake.input.annotation,
        next(iter(snakemake.input.symbols), None),
        detection_table(snakemake.input.detection) if ranked else None,
        snakemake.params.size,
        next(iter(snakemake.input.genes), None),
        release=snakemake.params.release,
        ranked_by=snakemake.params.ranked_by,
    )
    vocabulary.write(snakemake.output[0])
