"""Bring one source to the vocabulary: counts kept, duplicates summed, coverage reported."""

from sclong.runlog import logged

with logged(snakemake):
    from sclong.config_sections import CorpusSource
    from sclong.data.corpus import harmonize_source
    from sclong.data.vocabulary import Vocabulary

    harmonize_source(
        snakemake.input.data,
        CorpusSource(**snakemake.params.source),
        Vocabulary.read(snakemake.input.vocabulary),
        snakemake.params.minimum_genes,
        snakemake.output[0],
    )
