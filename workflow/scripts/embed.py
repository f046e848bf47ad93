"""Embed a data set's cells and genes with one model, once for every benchmark that uses them."""

from sclong.runlog import logged

with logged(snakemake):
    from pathlib import Path

    import torch

    from sclong.benchmark.run import embed_dataset
    from sclong.config.cards import ModelCard

    torch.set_num_threads(snakemake.threads)
    checkpoint = next(iter(snakemake.input.checkpoint), None)
    embed_dataset(
        ModelCard(**snakemake.params.card),
        Path(snakemake.input.dataset),
        Path(checkpoint) if checkpoint else None,
        Path(snakemake.output[0]),
        **snakemake.params.config,
    )
