"""List the data sets of the CELLxGENE Census and the genes they detect; no expression is read."""

from sclong.runlog import logged

with logged(snakemake):
    from sclong.config.sections import CensusConfig
    from sclong.corpus.census_part import write_census_list

    config = CensusConfig(**snakemake.params.config)
    write_census_list(config, snakemake.output.datasets, snakemake.output.detection)
