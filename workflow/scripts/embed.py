"""Embed a data set's cells and genes with one model, once for every benchmark that uses them."""

from sclong.runlog import logged

with logged(snakemake):
    from pathlib import Path

    import torch

    from sclong.benchmark.embed import embed_dataset
    from sclong.config.cards import Recipe

    torch.set_num_threads(snakemake.threads)
    checkpoint = next(iter(snakemake.input.checkpoint), None)
    embed_dataset(
        Recipe(**snakemake.params.recipe),
        Path(snakemake.input.dataset),
        Path(checkpoint) if checkpoint else None,
        Path(snakemake.output[0]),
        batch_size=snakemake.params.batch_size,
        device=snakemake.params.device,
    )
