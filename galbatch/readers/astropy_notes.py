"""What astropy writes beside a table in HDF5 and Parquet: units, and which values are masked."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from galbatch.errors import DataError
from galbatch.spec.yaml import read_as_written

HDF5_SUFFIX = "__table_column_meta__"
"""How the name of the dataset ends that holds them in HDF5."""

PARQUET_KEY = b"table_meta_yaml"
"""The word of a Parquet footer that holds them."""


@dataclass(frozen=True)
class Notes:
    """What is said of columns.

    Parameters
    ----------
    units : dict of str to str
    masks : dict of str to str
        For a column, the column of booleans that says where it has no value: what it holds there
        is no value, only what was in memory.
    """

    units: dict[str, str] = field(default_factory=dict)
    masks: dict[str, str] = field(default_factory=dict)


def read_notes(path: str, text: str) -> Notes:
    """Understand the YAML that astropy writes.

    Raises
    ------
    DataError
        If it is no such YAML: masked values could be taken for real ones.
    """
    try:
        found = read_as_written(text)
        columns = found["datatype"] if isinstance(found, dict) else []
        units = {
            str(column["name"]): str(column["unit"]) for column in columns if column.get("unit")
        }
        masks = dict(_masks(found, set()))
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        problem = "what astropy noted of its columns cannot be understood"
        raise DataError(path, problem, "write it again") from error
    return Notes(units, masks)


def _masks(found: Any, seen: set[int]) -> Iterator[tuple[str, str]]:
    """Data and mask, of every column that has both, however deep they are."""
    if id(found) in seen or not isinstance(found, dict | list | tuple):
        return
    seen.add(id(found))
    if isinstance(found, dict):
        data, mask = found.get("data"), found.get("mask")
        if isinstance(data, dict) and isinstance(mask, dict) and "name" in data and "name" in mask:
            yield str(data["name"]), str(mask["name"])
    for inner in found.values() if isinstance(found, dict) else found:
        yield from _masks(inner, seen)
