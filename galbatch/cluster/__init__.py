"""Workers: of this process, this machine, its GPUs, a queue, or a scheduler that runs already."""

from galbatch.cluster.start import connect

__all__ = ["connect"]
