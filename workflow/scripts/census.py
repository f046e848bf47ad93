"""Read one tissue of the CELLxGENE Census into an h5ad file."""

from sclong.runlog import logged

with logged(snakemake):
    from sclong.data.census import download_tissue

    download_tissue(snakemake.wildcards.tissue, snakemake.output[0])
