"""What readers of files with spectra have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Literal

import pyarrow as pa

from galbatch.errors import GalbatchError
from galbatch.readers.base import Batch, Batches, Header
from galbatch.readers.fits_parts import WHEN_DAMAGED
from galbatch.readers.groups import ColumnGroup, GroupColumn
from galbatch.readers.opening import broken
from galbatch.values import EvenGrid


@dataclass(frozen=True)
class SpectraFile:
    """What lies in a file.

    Parameters
    ----------
    columns : dict of str to GroupColumn
        All of the same number of rows.
    grid : EvenGrid
        The wavelengths of all spectra.
    medium : str
        What they are in.
    """

    columns: dict[str, GroupColumn]
    grid: EvenGrid
    medium: Literal["vacuum", "air"]


class PartsReader(ABC):
    """Reads rows of a file whose parts belong together, and their spectra."""

    @abstractmethod
    def parts(self, path: str, stack: ExitStack) -> SpectraFile:
        """The columns of a file, which is open until the stack is left."""

    def header(self, path: str) -> Header:
        """The columns, and the wavelengths."""
        with ExitStack() as stack:
            found = self._parts(path, stack)
            header = ColumnGroup("", found.columns, WHEN_DAMAGED).header(path)
            return replace(header, medium=found.medium, grid=found.grid)

    def batches(self, path: str, types: Mapping[str, pa.DataType], rows: int) -> Batches:
        """Read the columns in `types`, at most `rows` rows at a time."""
        return Batches(self._read(path, types, rows), lambda: self._records(path))

    def _read(self, path: str, types: Mapping[str, pa.DataType], rows: int) -> Iterator[Batch]:
        with ExitStack() as stack:
            group = ColumnGroup("", self._parts(path, stack).columns, WHEN_DAMAGED)
            yield from group.batches(path, types, rows, 0)

    def _records(self, path: str) -> int:
        with ExitStack() as stack:
            return ColumnGroup("", self._parts(path, stack).columns, WHEN_DAMAGED).rows

    def _parts(self, path: str, stack: ExitStack) -> SpectraFile:
        try:
            return self.parts(path, stack)
        except GalbatchError:
            raise
        except WHEN_DAMAGED as error:
            raise broken(path, error, 0) from error
