"""Simulate the world of the demo."""

from sclong.runlog import logged

with logged(snakemake):
    from sclong.world.simulation import simulate

    simulate(snakemake.params.folder, seed=0)
