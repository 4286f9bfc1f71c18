"""Catalogue files as a stream of bounded Arrow batches."""

from galbatch.readers.base import Batch, Batches, FileColumn, Header, Reader
from galbatch.readers.open import open_reader
from galbatch.readers.paths import expand

__all__ = ["Batch", "Batches", "FileColumn", "Header", "Reader", "expand", "open_reader"]
