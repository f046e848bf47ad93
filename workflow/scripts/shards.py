"""Put the parts together: duplicates and cells of benchmarks left out, nothing copied, one manifest."""

from sclong.runlog import logged

with logged(snakemake):
    from sclong.corpus.assemble import build_corpus
    from sclong.corpus.leakage import require_compared
    from sclong.genes.vocabulary import Vocabulary

    require_compared(dict(zip(snakemake.params.must_be_compared, snakemake.input.cells, strict=False)))
    build_corpus(
        snakemake.input.parts,
        snakemake.output.shards,
        Vocabulary.read(snakemake.input.vocabulary),
        snakemake.output.manifest,
        overlaps=snakemake.input.overlaps,
        left_out=snakemake.params.left_out,
    )
