"""The limit for any method: the exact posterior of the simulated sky, given the photometry."""
