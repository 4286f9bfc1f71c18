"""Workers: of this process, this machine, its GPUs, a queue, an allocation, or a scheduler."""

from galbatch.cluster.start import connect, taking_part

__all__ = ["connect", "taking_part"]
