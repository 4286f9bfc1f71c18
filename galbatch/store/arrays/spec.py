"""Shapes, types and names of the arrays of a group."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Literal, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike, NDArray

from galbatch.columns import to_numpy
from galbatch.errors import DataError
from galbatch.store.receipts import json_digest
from galbatch.values import ARRAY_NAMES, TAKEN_ARRAY_NAMES, Coordinate

VERSION = 2
IdKind = Literal["int64", "uint64", "string"]
NO_ID: Mapping[str, int | str] = {"int64": -(2**63), "uint64": 2**64 - 1, "string": ""}
"""The id of a row that is no object's."""

SHARD_BYTES = 2**25
"""Values of a shard of all arrays of a group, about: a worker holds as many in memory."""
CHUNK_BYTES = 2**19
"""Values that are compressed together, about: what must be read for one row."""
MOST_SHARD_ROWS, MOST_CHUNK_ROWS = 4096, 256

_DTYPES = frozenset(
    ("float16", "float32", "float64", "int8", "int16", "int32", "int64",
     "uint8", "uint16", "uint32", "uint64")
)  # fmt: skip
_STRING = np.dtypes.StringDType(coerce=False)


class ArrayColumn(Protocol):
    """A column that lies in Zarr: `PredictedColumn` is one."""

    @property
    def name(self) -> str:
        """Column name."""

    @property
    def dtype(self) -> str:
        """Of one value."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one row."""

    @property
    def dimensions(self) -> tuple[str, ...]:
        """A name for each axis of a row."""

    @property
    def unit(self) -> str:
        """VOUnit string."""

    @property
    def ucd(self) -> str:
        """UCD1+ words."""

    @property
    def description(self) -> str:
        """One line."""


@dataclass(frozen=True)
class ArraySpec:
    """Shape, type and meaning of an array.

    Parameters
    ----------
    name : str
        Of the array in its group: a column.
    shape : tuple of int
        Of one row.
    dimensions : tuple of str
        A name for each axis of a row.
    dtype : str
        Of floats or integers.
    unit, ucd, description : str
        VOUnit string, UCD1+ words, one line.
    chunk_rows : int
        Rows that are compressed together.
    """

    name: str
    shape: tuple[int, ...]
    dimensions: tuple[str, ...]
    dtype: str = "float32"
    unit: str = ""
    ucd: str = ""
    description: str = ""
    chunk_rows: int = MOST_CHUNK_ROWS

    def __post_init__(self) -> None:
        if len(self.dimensions) != len(self.shape):
            raise ValueError(f"{len(self.dimensions)} names for the axes of {self.shape}")
        if self.dtype not in _DTYPES:
            raise ValueError(f"no array of {self.dtype}")

    @property
    def missing(self) -> float | int:
        """Fills a row without a value: NaN, or the lowest integer (unsigned: the highest)."""
        kind = np.dtype(self.dtype)
        if kind.kind == "f":
            return math.nan
        limits = np.iinfo(kind)
        return int(limits.max if kind.kind == "u" else limits.min)

    @property
    def row_bytes(self) -> int:
        """Memory of one row's values."""
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize

    def values_of(
        self, column: pa.ChunkedArray, rows: NDArray[np.int64] | None = None
    ) -> NDArray[Any]:
        """A column of arrays as it is stored.

        Parameters
        ----------
        column : pyarrow.ChunkedArray of n rows
        rows : array of int, shape (m,), optional
            Which of them; by default all.

        Returns
        -------
        ndarray, shape (m, ...)
            A row that is null is full of `missing`. A view of the column where nothing is null and
            all rows are wanted.
        """
        values = to_numpy(column)
        if rows is not None:
            values = values[rows]
        if column.null_count:
            null = np.asarray(column.is_null())
            values = values.copy() if rows is None else values
            values[null if rows is None else null[rows]] = self.missing
        return values

    def is_missing(self, values: NDArray[Any]) -> NDArray[np.bool_]:
        """Rows that hold no value at all.

        Parameters
        ----------
        values : ndarray, shape (n, ...)

        Returns
        -------
        ndarray, shape (n,), bool
        """
        flat = values.reshape(len(values), math.prod(self.shape))
        blank = np.isnan(flat) if values.dtype.kind == "f" else flat == self.missing
        return np.asarray(blank.all(axis=1))


@dataclass(frozen=True)
class GroupSpec:
    """The arrays of a table; the rows of all lie in the same places.

    Parameters
    ----------
    arrays : tuple of ArraySpec
    ids : {"int64", "uint64", "string"}
        Type of the survey's ids.
    coordinates : tuple of Coordinate
        Of some of the dimensions.
    shard_rows : int
        Rows of one file, a multiple of every array's `chunk_rows`.
    """

    arrays: tuple[ArraySpec, ...]
    ids: IdKind = "int64"
    coordinates: tuple[Coordinate, ...] = ()
    shard_rows: int = MOST_SHARD_ROWS

    def __post_init__(self) -> None:
        sizes: dict[str, int] = {}
        for array in self.arrays:
            for axis, size in zip(array.dimensions, array.shape, strict=True):
                if sizes.setdefault(axis, size) != size:
                    raise ValueError(f"dimension '{axis}' has {size} and {sizes[axis]} values")
            rows = array.chunk_rows
            if rows < 1 or self.shard_rows < 1 or self.shard_rows % rows:
                raise ValueError(f"shards of {self.shard_rows} rows in chunks of {rows}")
        names = (*TAKEN_ARRAY_NAMES, *(array.name for array in self.arrays), *sizes)
        if len(set(names)) < len(names) or not all(map(ARRAY_NAMES.fullmatch, names)):
            raise ValueError(f"names of arrays and dimensions must differ: {names}")
        if any(len(set(array.dimensions)) < len(array.dimensions) for array in self.arrays):
            raise ValueError("an array has two axes of one name")
        if self.ids not in NO_ID:
            raise ValueError(f"no arrays with ids of {self.ids}")
        for coordinate in self.coordinates:
            if sizes.get(coordinate.name) != len(coordinate.values):
                raise ValueError(f"{len(coordinate.values)} values for '{coordinate.name}'")

    @cached_property
    def digest(self) -> str:
        """SHA-256 of all that the bytes depend on: not of unit, UCD and description."""
        grids = [[one.name, list(one.values)] for one in self.coordinates]
        arrays = [
            [one.name, list(one.shape), list(one.dimensions), one.dtype, one.chunk_rows]
            for one in self.arrays
        ]
        return json_digest([VERSION, arrays, self.ids, self.shard_rows, grids])

    @property
    def shard_bytes(self) -> int:
        """Memory of one shard's values."""
        return self.shard_rows * sum(array.row_bytes for array in self.arrays)

    @cached_property
    def of(self) -> dict[str, ArraySpec]:
        """The arrays by name."""
        return {array.name: array for array in self.arrays}

    def to_json(self) -> dict[str, Any]:
        """As a JSON-ready dictionary."""
        return {"version": VERSION, **asdict(self)}

    @staticmethod
    def is_read(record: Mapping[str, Any]) -> bool:
        """Whether a record is of arrays as this version of galbatch keeps them."""
        return record.get("version") == VERSION

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> GroupSpec:
        """The inverse of `to_json`."""
        arrays = tuple(
            ArraySpec(
                **{**one, "shape": tuple(one["shape"]), "dimensions": tuple(one["dimensions"])}
            )
            for one in record["arrays"]
        )
        grids = tuple(
            Coordinate(**{**one, "values": tuple(one["values"])}) for one in record["coordinates"]
        )
        return cls(arrays, record["ids"], grids, record["shard_rows"])


def group_spec(
    columns: Collection[ArrayColumn], ids: IdKind, coordinates: Iterable[Coordinate] = ()
) -> GroupSpec | None:
    """How columns are kept as arrays.

    Parameters
    ----------
    columns : collection of ArrayColumn
    ids : {"int64", "uint64", "string"}
        Type of the survey's ids.
    coordinates : iterable of Coordinate
        Each once.

    Returns
    -------
    GroupSpec or None
        With shards of about `SHARD_BYTES` and chunks of about `CHUNK_BYTES`; None where there are
        no columns.
    """
    if not columns:
        return None
    sizes = {one.name: math.prod(one.shape) * np.dtype(one.dtype).itemsize for one in columns}
    shard_rows = _rows_of(SHARD_BYTES, sum(sizes.values()), MOST_SHARD_ROWS)
    arrays = tuple(
        ArraySpec(
            one.name, one.shape, one.dimensions, one.dtype, one.unit, one.ucd, one.description,
            chunk_rows=_rows_of(CHUNK_BYTES, sizes[one.name], min(MOST_CHUNK_ROWS, shard_rows)),
        )
        for one in columns
    )  # fmt: skip
    return GroupSpec(arrays, ids, tuple(coordinates), shard_rows)


def _rows_of(size: int, row: int, most: int) -> int:
    """The power of two of rows that take at most so many bytes, and at least one."""
    return min(1 << (max(size // row, 1).bit_length() - 1), most)


def id_kind(type_name: str) -> IdKind:
    """How ids of an Arrow (or NumPy) type are stored.

    Parameters
    ----------
    type_name : str
        ``"int32"``, ``"uint64"``, ``"string"``, ...
    """
    if type_name == "uint64":
        return "uint64"
    return "int64" if type_name.startswith(("int", "uint")) else "string"


def id_dtype(kind: str) -> np.dtype[Any]:
    """NumPy's type of stored ids."""
    return _STRING if kind == "string" else np.dtype(kind)


def as_ids(ids: ArrayLike, kind: str) -> NDArray[Any]:
    """Ids as they are stored.

    Parameters
    ----------
    ids : array, shape (n,)
        Integers, or strings (also as an array of objects, as Arrow makes them).
    kind : {"int64", "uint64", "string"}

    Returns
    -------
    ndarray, shape (n,)
        int64, uint64, or NumPy's variable-length strings.

    Raises
    ------
    DataError
        If one of them is missing or none that can be stored.
    """
    array = np.asarray(ids)
    wanted = "strings" if kind == "string" else "integers"
    try:
        if array.size and array.dtype.kind not in ("OUT" if kind == "string" else "iu"):
            raise TypeError(f"expected {wanted}, found {array.dtype}")
        if kind != "string" and array.size:
            limits = np.iinfo(kind)
            for one in (int(array.min()), int(array.max())):
                if not limits.min <= one <= limits.max:
                    raise ValueError(f"{one} is beyond {kind}")
        array = array.astype(id_dtype(kind))
    except (TypeError, ValueError) as error:
        raise DataError("ids", f"cannot be stored: {error}") from error
    if (array == NO_ID[kind]).any():
        raise DataError("ids", f"expected an id in every row, found {NO_ID[kind]!r}")
    return array
