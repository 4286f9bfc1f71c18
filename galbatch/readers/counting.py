"""How many rows files have, without reading them."""

from __future__ import annotations

from pathlib import Path

from galbatch.readers.formats import FORMATS
from galbatch.readers.open import open_reader
from galbatch.spec.formats import CsvFormat, Format

_LOOK = 1 << 20
"""Bytes of a text in which lines are counted."""


def rows_of(path: str, format: Format | None) -> tuple[int, bool] | None:
    """The rows of a file.

    Parameters
    ----------
    path : str
    format : Format or None
        What the job says; None to go by the ending of the file's name.

    Returns
    -------
    (int, bool) or None
        How many, and whether that is exact: of text it is an estimate, by its first MiB. None for
        text that is packed.
    """
    endings = next(one.endings for one in FORMATS if one.options is CsvFormat)
    if not isinstance(format, CsvFormat):
        name = Path(path).name.lower()
        packed_text = any(f"{ending}." in name for ending in endings)
        if format is None and packed_text and not name.endswith(endings):
            return None
        if format is not None or not name.endswith(endings):
            return open_reader(format, path).batches(path, {}, 1).records, True
    size = Path(path).stat().st_size
    with Path(path).open("rb") as file:
        start = file.read(_LOOK)
    lines = start.count(b"\n")
    if not lines:
        return None
    if len(start) == size:
        return max(lines - 1, 0), False
    return round(size / (start.rfind(b"\n") + 1) * lines), False
