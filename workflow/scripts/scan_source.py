"""Count, for every annotated gene, the cells of a source that detect it."""

from sclong.runlog import logged

with logged(snakemake):
    from sclong.config.sections import CorpusSource
    from sclong.corpus.source import scan_source

    scan_source(
        snakemake.input.data,
        CorpusSource(**snakemake.params.source),
        snakemake.input.annotation,
        next(iter(snakemake.input.symbols), None),
        snakemake.output.detection,
    )
