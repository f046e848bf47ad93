"""Fetch one row of config/sources.tsv: the mirror first, then its origin; verified, atomic."""

from sclong.runlog import logged

with logged(snakemake):
    from sclong.errors import FetchError
    from sclong.io.fetch import fetch
    from sclong.io.lock import lock_path
    from sclong.plan.advice import could_not_fetch
    from sclong.plan.snapshot import plan_of_run

    plan = plan_of_run(snakemake.config)
    source = plan.sources[f"{snakemake.wildcards.source}/{snakemake.wildcards.file}"]
    try:
        fetch(
            source,
            snakemake.output[0],
            lock=lock_path(f"{plan.config.cards_dir}/sources.tsv"),
            **snakemake.params.options,
        )
    except FetchError as error:
        raise could_not_fetch(plan, error) from error
