"""Read some data sets of the CELLxGENE Census and bring them to the vocabulary, in bounded memory."""

from sclong.runlog import logged

with logged(snakemake):
    from sclong.config.sections import CellFilters, CensusConfig
    from sclong.corpus.census_part import write_census_part
    from sclong.genes.vocabulary import Vocabulary

    write_census_part(
        snakemake.input.datasets,
        int(snakemake.wildcards.number),
        snakemake.output[0],
        snakemake.params.work_dir,
        Vocabulary.read(snakemake.input.vocabulary),
        CellFilters(**snakemake.params.filters),
        CensusConfig(**snakemake.params.config),
        code=snakemake.params.code,
    )
