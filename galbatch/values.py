"""Frozen values that cross rooms."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Target = Literal["redshift", "star", "log_mass", "spectral_type", "abs_mag_b"]
TARGETS: tuple[Target, ...] = ("redshift", "star", "log_mass", "spectral_type", "abs_mag_b")

CLASSES = ("galaxy", "star", "qso")
"""The classes of the target `star`; a label is the position of its class in this tuple."""
GALAXY, STAR, QSO = range(3)

Dtype = Literal[
    "int64", "int32", "int16", "int8", "uint64", "uint32", "uint16", "uint8",
    "float32", "float64", "string",
]  # fmt: skip
"""Type of one value of a column."""

LONGEST_LIST = 256
"""Values of the longest row that Parquet holds; longer rows, and those of two and more axes, are
arrays, which lie in Zarr."""

ID = "id"
"""The array with the ids, and the name of no other."""
ROW_DIMENSION = "row"
"""The dimension along a table's rows."""
ARRAY_NAMES = re.compile(r"[A-Za-z][A-Za-z0-9_.+-]{0,99}")
"""Names that an array or a dimension may have in Zarr."""
TAKEN_ARRAY_NAMES = frozenset({ID, ROW_DIMENSION, "zarr.json"})
"""Those that a group of arrays has for itself."""

WORKER_MEMORY = 550 * 2**20
"""Bytes of a process that has loaded what it needs, before it has read any rows."""


@dataclass(frozen=True, order=True)
class Partition:
    """The unit of work, commit and retry.

    Parameters
    ----------
    kind : {"healpix", "rows"}
        A HEALPix pixel (nested), or a range of rows where a survey has no coordinates.
    order : int
        HEALPix order; 0 for row ranges.
    index : int
        HEALPix pixel, or the number of the row range.
    rows : int
        How many rows it holds.
    """

    kind: Literal["healpix", "rows"]
    order: int
    index: int
    rows: int = field(compare=False, default=0)

    @property
    def name(self) -> str:
        """Short, unique, usable in a file name."""
        if self.kind == "rows":
            return f"rows-{self.index:06d}"
        return f"o{self.order}-p{self.index}"


@dataclass(frozen=True)
class FluxBlock:
    """Cleaned photometry of n objects in b bands, as arrays of one namespace (NumPy or cupy).

    Parameters
    ----------
    flux : array, shape (n, b), float32
        Flux density in microjansky (AB magnitude = 23.9 - 2.5 log10 flux). 0 where not observed,
        and for an undetected band.
    error : array, shape (n, b), float32
        1-sigma error in microjansky; the 1-sigma limit for an undetected band; 0 where not
        observed.
    observed : array, shape (n, b), bool
        The band has a usable measurement or a limit.
    detected : array, shape (n, b), bool
        The band has a measured flux; always a subset of `observed`.
    saturated : array, shape (n,), bool
        The object is saturated.
    """

    flux: Any
    error: Any
    observed: Any
    detected: Any
    saturated: Any

    def __len__(self) -> int:
        return int(self.flux.shape[0])


def is_array(shape: Sequence[int]) -> bool:
    """Whether a column lies in Zarr, not in Parquet.

    Parameters
    ----------
    shape : sequence of int
        Of one row; empty for a scalar.
    """
    return len(shape) > 1 or math.prod(shape) > LONGEST_LIST


@dataclass(frozen=True)
class Coordinate:
    """The values along a dimension: wavelengths, redshifts.

    Parameters
    ----------
    name : str
        Of the dimension.
    values : tuple of float
        One for each step.
    unit, ucd, description : str
        VOUnit string, UCD1+ words, one line.
    """

    name: str
    values: tuple[float, ...]
    unit: str = ""
    ucd: str = ""
    description: str = ""


@dataclass(frozen=True)
class EvenGrid:
    """Wavelengths that are evenly spaced, or whose logarithms are.

    Parameters
    ----------
    first, step : float
        In Angstrom, or of log10 of that.
    points : int
    logarithmic : bool
    """

    first: float
    step: float
    points: int
    logarithmic: bool

    @property
    def wavelengths(self) -> tuple[float, ...]:
        """In Angstrom."""
        even = (self.first + self.step * place for place in range(self.points))
        return tuple(10.0**value if self.logarithmic else value for value in even)


@dataclass(frozen=True)
class PredictedColumn:
    """Type and meaning of a predicted column.

    Parameters
    ----------
    name : str
        Column name in the extension catalogue, or of the array.
    dtype : str
        Of one value.
    unit : str
        VOUnit string, ``""`` for dimensionless.
    ucd : str
        UCD1+ words.
    description : str
        One line.
    shape : tuple of int
        Of one row; empty for one value in a row.
    dimensions : tuple of str
        A name for each axis of a row; may be empty for a short list.
    coordinates : tuple of Coordinate
        Of some of the dimensions of an array.
    """

    name: str
    dtype: Dtype
    unit: str
    ucd: str
    description: str
    shape: tuple[int, ...] = ()
    dimensions: tuple[str, ...] = ()
    coordinates: tuple[Coordinate, ...] = ()


@dataclass(frozen=True)
class RejectedRow:
    """A row that was not ingested, and why.

    Parameters
    ----------
    file : str
        Where it came from.
    row : int
        Its number in that file: 1 is the first row of data (header not counted), 0 the whole file.
    reason : str
        One line: what was expected, what arrived.
    exception : str
        What was raised: the name of the error, or the traceback of one that nobody foresaw.
    """

    file: str
    row: int
    reason: str
    exception: str = ""


_LISTS = ("outputs", "digests", "sizes")


@dataclass(frozen=True)
class Receipt:
    """The record that one stage has finished one partition.

    Parameters
    ----------
    stage : str
        ``scan``, ``ingest``, ``train``, ``predict``, ``append`` or ``report``.
    unit : str
        The partition, file or model it was done for.
    key : str
        Hash of stage, unit and `depends`: a receipt with another key is stale.
    digest : str
        Hash of the content that was made: what others depend on.
    rows : int
        Rows written.
    outputs : tuple of str
        Paths relative to the store.
    seconds : float
        Wall time of the task.
    digests : tuple of str
        SHA-256 of each of the outputs (of a folder: of all its files).
    sizes : tuple of int
        Bytes of the outputs when the receipt was written: a damaged file shows at a glance.
    facts : mapping
        What later stages need to know (JSON values only).
    depends : mapping
        Everything the output depends on, by name (JSON values only): the version of the code, the
        job's settings, digests of what was read. It tells why a receipt is stale.
    """

    stage: str
    unit: str
    key: str
    digest: str
    rows: int
    outputs: tuple[str, ...]
    seconds: float
    facts: Mapping[str, Any] = field(default_factory=dict)
    digests: tuple[str, ...] = ()
    sizes: tuple[int, ...] = ()
    depends: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """As a JSON-ready dictionary."""
        lists = {name: list(getattr(self, name)) for name in _LISTS}
        return asdict(self) | lists | {"facts": dict(self.facts), "depends": dict(self.depends)}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Receipt:
        """The inverse of `to_json`."""
        tuples = {name: tuple(record[name]) for name in _LISTS}
        return cls(**{**record, **tuples})
