"""Write all harmonised sources as memory-mapped shards, and the manifest."""

from sclong.runlog import logged

with logged(snakemake):
    from sclong.data.corpus import build_shards
    from sclong.data.vocabulary import Vocabulary

    build_shards(
        snakemake.input.sources,
        snakemake.output.shards,
        Vocabulary.read(snakemake.input.vocabulary),
        snakemake.params.cells_per_shard,
        snakemake.output.manifest,
        left_out=snakemake.params.left_out,
    )
