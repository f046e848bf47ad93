"""End with the list of files that a benchmark lacks."""

from sclong.runlog import logged

with logged(snakemake):
    from sclong.errors import FetchError

    raise FetchError(snakemake.params.missing, "these files in place", "put them where the list says")
