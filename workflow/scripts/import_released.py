"""Make a checkpoint of the authors' files; their hashes are locked at their first use."""

from sclong.runlog import logged

with logged(snakemake):
    from sclong.checkpoint.authors import import_checkpoint
    from sclong.io.lock import require_locked

    for name in ("weights", "hyperparameters", "genes"):
        require_locked(snakemake.params.lock, snakemake.input[name])
    import_checkpoint(
        snakemake.input.weights,
        snakemake.input.hyperparameters,
        snakemake.input.genes,
        snakemake.output.checkpoint,
        symbols=snakemake.input.get("symbols"),
    )
