"""The simulated world: see :mod:`sclong.world.simulation`."""
