"""Catalogue files as a stream of bounded Arrow batches."""

from galbatch.readers.base import Batch, Reader, expand, open_reader

__all__ = ["Batch", "Reader", "expand", "open_reader"]
