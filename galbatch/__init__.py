"""galbatch: a distributed large-catalogue batch processor for galaxy surveys."""

__version__ = "0.1.0"
