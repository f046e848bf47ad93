"""Bring one source to the vocabulary: counts kept, duplicates summed, cells filtered, coverage reported."""

from sclong.runlog import logged

with logged(snakemake):
    from sclong.config.sections import CellFilters, CorpusSource
    from sclong.corpus.part import file_identity, write_part
    from sclong.corpus.source import file_dataset
    from sclong.genes.vocabulary import Vocabulary

    source = CorpusSource(**snakemake.params.source)
    write_part(
        [file_dataset(snakemake.input.data, source)],
        snakemake.output[0],
        snakemake.params.work_dir,
        Vocabulary.read(snakemake.input.vocabulary),
        CellFilters(**snakemake.params.filters),
        {**file_identity(snakemake.input.data, source), "code": snakemake.params.code},
    )
