"""Where the work is done: this process, this machine, its GPUs, a queue, a running scheduler."""

from galbatch.cluster.start import connect

__all__ = ["connect"]
