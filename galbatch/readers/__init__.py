"""Catalogue files as a stream of bounded Arrow batches."""

from galbatch.readers.base import Batch, Batches, FileColumn, Header, Reader, expand, open_reader

__all__ = ["Batch", "Batches", "FileColumn", "Header", "Reader", "expand", "open_reader"]
