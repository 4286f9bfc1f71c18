"""Which reader reads a file."""

from __future__ import annotations

from pathlib import Path

from galbatch.errors import SpecError
from galbatch.readers.base import Reader
from galbatch.readers.formats import FORMATS, FileFormat
from galbatch.readers.hats import is_pixel_file
from galbatch.readers.packed import PACKINGS
from galbatch.spec.formats import Format, ParquetFormat


def open_reader(format: Format | None, path: str) -> Reader:
    """The reader for a file.

    Parameters
    ----------
    format : Format or None
        What the job says; None to go by the ending of the file's name.
    path : str

    Raises
    ------
    SpecError
        If the ending says nothing.
    """
    if format is None and is_pixel_file(path):
        # A HATS catalogue gives its files what ending it likes.
        format = ParquetFormat()
    if format is not None:
        named = next(one for one in FORMATS if isinstance(format, one.options))
        return named.reader(format, path)
    found = _by_ending(path)
    return found.reader(found.options(), path)


def _by_ending(path: str) -> FileFormat:
    name = Path(path).name.lower()
    packings = [packing.ending for packing in PACKINGS]
    inside = name
    for ending in packings:
        inside = inside.removesuffix(ending)
    for format in FORMATS:
        if name.endswith(format.endings) or (format.packable and inside.endswith(format.endings)):
            return format
    endings = [ending for format in FORMATS for ending in format.endings]
    packable = [ending for format in FORMATS if format.packable for ending in format.endings]
    raise SpecError(
        path,
        f"its ending is none of {', '.join(endings)}, "
        f"nor {', '.join(packings)} behind {', '.join(packable)}",
        "say what it is, e.g. source.format: {kind: csv}",
    )
