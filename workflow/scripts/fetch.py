"""Fetch one row of config/sources.tsv: the mirror first, then its origin; verified, atomic."""

from sclong.runlog import logged

with logged(snakemake):
    from sclong.io.fetch import fetch
    from sclong.io.sources import load_sources

    source = load_sources("config/sources.tsv")[f"{snakemake.wildcards.source}/{snakemake.wildcards.file}"]
    fetch(source, snakemake.output[0], **snakemake.params.options)
