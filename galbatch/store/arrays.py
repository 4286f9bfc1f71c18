"""Arrays beside the catalogue: a row for each of its rows, for p(z) on a grid, spectra, cutouts.

A Zarr 3 group, which other programs open without galbatch. One object by its id:

>>> group = zarr.open_group("store/arrays/photometric", mode="r")
>>> pdf = group["pz"][int(np.flatnonzero(group["id"][:] == 42)[0])]

One partition, the rows of its Parquet file in their order:

>>> first, rows, room = group.attrs["partitions"]["o5-p1234"]
>>> pdfs = group["pz"][first : first + rows]

With xarray, which finds the grid as the coordinate ``z``:

>>> sky = xarray.open_zarr("store/arrays/photometric", consolidated=False)
>>> mean = sky["pz"].mean("row")

A shard is one object, and writing a part of one rewrites it: two workers that share a shard lose
rows, and so do two that append. Therefore the driver allots whole shards to every partition before
the first task (`allocate`), and a worker writes its partition's shards whole (`ArrayWriter`). What
is left of the last shard, and shards that no partition has any more, hold NaN and an id that no
row has (`NO_ID`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import zarr
from numpy.typing import ArrayLike, NDArray
from zarr.abc.codec import BytesBytesCodec
from zarr.abc.store import Store
from zarr.codecs import BloscCodec, Crc32cCodec, ZstdCodec
from zarr.storage import FsspecStore, LocalStore

from galbatch.errors import DataError, GalbatchError, TransientError, counted
from galbatch.store import fence
from galbatch.store.commit import digest_file, explained, settle
from galbatch.store.layout import Layout
from galbatch.store.places import is_remote
from galbatch.store.receipts import words_digest

VERSION = 1
ID = "id"
"""The array with the ids, and the name of no other."""
ROW = "row"
"""The dimension along the catalogue's rows."""
IdKind = Literal["int64", "uint64", "string"]
NO_ID: Mapping[str, int | str] = {"int64": -(2**63), "uint64": 2**64 - 1, "string": ""}
"""The id of a row that is no object's."""

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}")
_PARTIAL = ".partial"
_PARTITIONS, _OWN = "partitions", "galbatch"
_STRING = np.dtypes.StringDType(coerce=False)


@dataclass(frozen=True)
class Coordinate:
    """What the steps along a dimension stand for.

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
class ArraySpec:
    """What an array is.

    Parameters
    ----------
    name : str
        Of the array in its group.
    shape : tuple of int
        Of one row.
    dimensions : tuple of str
        A name for each axis of a row.
    dtype : {"float32", "float16", "float64"}
    ids : {"int64", "uint64", "string"}
        Type of the survey's ids.
    unit, ucd, description : str
        VOUnit string, UCD1+ words, one line.
    coordinates : tuple of Coordinate
        Of some of the dimensions.
    chunk_rows : int
        Rows that are compressed together: what must be read for one row.
    shard_rows : int
        Rows of one file, a multiple of `chunk_rows`. A worker holds as many in memory.
    """

    name: str
    shape: tuple[int, ...]
    dimensions: tuple[str, ...]
    dtype: Literal["float32", "float16", "float64"] = "float32"
    ids: IdKind = "int64"
    unit: str = ""
    ucd: str = ""
    description: str = ""
    coordinates: tuple[Coordinate, ...] = ()
    chunk_rows: int = 256
    shard_rows: int = 4096

    def __post_init__(self) -> None:
        names = (self.name, ID, ROW, *self.dimensions)
        if len(set(names)) < len(names) or not all(map(_NAME.fullmatch, names)):
            raise ValueError(f"names of an array and its dimensions must differ: {names}")
        if len(self.dimensions) != len(self.shape):
            raise ValueError(f"{len(self.dimensions)} names for the axes of {self.shape}")
        if self.chunk_rows < 1 or self.shard_rows < 1 or self.shard_rows % self.chunk_rows:
            raise ValueError(f"shards of {self.shard_rows} rows in chunks of {self.chunk_rows}")
        if self.dtype not in ("float16", "float32", "float64") or self.ids not in NO_ID:
            raise ValueError(f"no array of {self.dtype} with ids of {self.ids}")
        size = dict(zip(self.dimensions, self.shape, strict=True))
        for coordinate in self.coordinates:
            if size.get(coordinate.name) != len(coordinate.values):
                raise ValueError(f"{len(coordinate.values)} values for '{coordinate.name}'")

    @cached_property
    def digest(self) -> str:
        """SHA-256 of all that the bytes depend on: not of unit, UCD and description."""
        grids = [[one.name, list(one.values)] for one in self.coordinates]
        rows = [self.chunk_rows, self.shard_rows]
        shape = [list(self.shape), list(self.dimensions)]
        return words_digest([VERSION, self.name, *shape, self.dtype, self.ids, rows, grids])

    @property
    def shard_bytes(self) -> int:
        """Memory of one shard's values."""
        return self.shard_rows * int(np.prod(self.shape)) * np.dtype(self.dtype).itemsize


def density_spec(grid: Mapping[str, Any], ids: IdKind) -> ArraySpec:
    """p(z) of every row of a catalogue.

    Parameters
    ----------
    grid : mapping
        ``low``, ``high``, ``points``: evenly spaced redshifts.
    ids : {"int64", "uint64", "string"}
        Type of the survey's ids.
    """
    redshifts = np.linspace(grid["low"], grid["high"], grid["points"])
    z = Coordinate("z", tuple(redshifts.tolist()), "", "src.redshift.phot", "redshift")
    return ArraySpec(
        name="pz",
        shape=(len(redshifts),),
        dimensions=("z",),
        ids=ids,
        ucd="stat.probability;src.redshift.phot",
        description="probability density in redshift",
        coordinates=(z,),
    )


@dataclass(frozen=True)
class Span:
    """The rows of the array that a partition has to itself.

    Parameters
    ----------
    first : int
        Its first row, where a shard begins.
    rows : int
        Rows of the partition.
    room : int
        Rows that are kept for it: whole shards.
    """

    first: int
    rows: int
    room: int

    @property
    def end(self) -> int:
        """The row after the last that is kept for it."""
        return self.first + self.room

    def shards(self, shard_rows: int) -> range:
        """Numbers of the shards that hold its rows."""
        return _shards_of(self.first, self.rows, shard_rows)


@dataclass(frozen=True)
class Written:
    """What a worker wrote.

    Parameters
    ----------
    rows : int
    outputs : mapping of str to str
        SHA-256 of each file by its path relative to the store, sorted: for the receipt.
    """

    rows: int
    outputs: Mapping[str, str]


@dataclass(frozen=True)
class TableRows:
    """What the catalogue says of a partition.

    Parameters
    ----------
    ids : array, shape (n,)
        Integers or strings.
    valued : array, shape (n,), bool, optional
        Rows that must have values (the others may be NaN); by default all.
    """

    ids: ArrayLike
    valued: NDArray[np.bool_] | None = None


@dataclass(frozen=True)
class Problem:
    """Something in the arrays that is not as it should be.

    Parameters
    ----------
    name : str
        Kind of problem: ``overlap``, ``missing shard``, ``wrong id`` ...
    where : str
        Path relative to the store, and the partition.
    expected, found : str
    files : tuple of Path
        What must go, so that the partition is written anew.
    """

    name: str
    where: str
    expected: str
    found: str
    files: tuple[Path, ...] = field(default=(), compare=False)

    def __str__(self) -> str:
        return f"{self.where}: {self.name}: expected {self.expected}, found {self.found}"


def plan_spans(
    kept: Mapping[str, Span], end: int, rows: Mapping[str, int], shard_rows: int
) -> tuple[dict[str, Span], int]:
    """Where each partition goes.

    A partition stays where it is as long as it fits. One that is new, or has outgrown its span,
    gets whole shards at the end. Places that are given up are not given to another: a worker of a
    run that was killed may still be writing there, and a reader may have noted the old one.

    Parameters
    ----------
    kept : mapping of str to Span
        Of the time before.
    end : int
        Rows of the array.
    rows : mapping of str to int
        Rows of every partition there is now, in the order in which new ones are to lie.
    shard_rows : int

    Returns
    -------
    dict of str to Span
        In the order of `rows`.
    int
        Rows of the array, a multiple of `shard_rows`.
    """
    spans = {}
    for name, count in rows.items():
        old = kept.get(name)
        if old is not None and count <= old.room:
            spans[name] = Span(old.first, count, old.room)
        else:
            room = -(-count // shard_rows) * shard_rows
            spans[name] = Span(end, count, room)
            end += room
    return spans, end


def allocate(
    layout: Layout,
    name: str,
    spec: ArraySpec,
    rows: Mapping[str, int],
    written: Mapping[str, Sequence[str]] | None = None,
) -> dict[str, Span]:
    """Make or enlarge the arrays, before any worker writes: the driver alone may call this.

    Shards of partitions that are gone, shrank or moved are deleted; so is everything where the
    group was of another spec. Where the metadata is lost, it is made again around the shards that
    are `written`. Killed anywhere and called again, it ends the same.

    Parameters
    ----------
    layout : Layout
    name : str
        Of the group: a model.
    spec : ArraySpec
    rows : mapping of str to int
        Rows of every partition, by name, in the order in which new ones are to lie.
    written : mapping of str to sequence of str, optional
        Outputs (as `Written` names them) of the partitions whose shards are there and sound.

    Returns
    -------
    dict of str to Span
        What each partition's task must be given.

    Raises
    ------
    SpecError
        If the disk is full or the folder cannot be written.
    """
    root = layout.arrays(name)
    fence.check()
    with explained(root):
        store = _store(root)
        stored = _stored(root)
        kept = _written_spans(layout, name, spec, written or {})
        if stored is None or not _is_sound(layout, root, spec, stored, kept):
            stored = _Stored(spec.digest, _end(root, spec, kept), kept)
            _create(root, store, spec, around_shards=bool(kept))
        spans, end = plan_spans(stored.spans, stored.end, rows, spec.shard_rows)
        for array in (spec.name, ID):
            opened = zarr.open_array(store, path=array, mode="r+")
            if opened.shape[0] != end:
                opened.resize((end, *opened.shape[1:]))
        for path, words in _meanings(spec).items():
            opened = zarr.open_array(store, path=path, mode="r+")
            if opened.attrs.asdict() != words:
                opened.update_attributes(words)
        # One file, which LocalStore replaces in one step: now the spans are as planned, or as
        # they were. The arrays' length is set by them, so a call that was cut short is forgotten.
        group = zarr.open_group(store, mode="r+")
        own = {"version": VERSION, "digest": spec.digest, "array": spec.name, "rows": end}
        lists = {key: [one.first, one.rows, one.room] for key, one in spans.items()}
        if group.attrs.asdict() != {_OWN: own, _PARTITIONS: lists}:
            group.update_attributes({_OWN: own, _PARTITIONS: lists})
        _sweep(root, spec, spans.values())
        if not is_remote(root):
            settle(path for path in _metadata_files(root, spec) if path.is_file())
    return spans


def metadata_outputs(layout: Layout, name: str, spec: ArraySpec) -> dict[str, str]:
    """What the group has besides its shards, for the receipt that publishes it.

    Parameters
    ----------
    layout : Layout
    name : str
    spec : ArraySpec

    Returns
    -------
    dict of str to str
        SHA-256 of each file by its path relative to the store.
    """
    files = _metadata_files(layout.arrays(name), spec)
    return {layout.relative(path): digest_file(path) for path in files if path.exists()}


def metadata_problem(
    layout: Layout, name: str, spec: ArraySpec, written: Mapping[str, Sequence[str]]
) -> str:
    """Why `allocate` must make the metadata of a group again; empty where it is whole.

    Parameters
    ----------
    layout : Layout
    name : str
    spec : ArraySpec
    written : mapping of str to sequence of str
        Outputs of the partitions whose shards are there: the group must place them so.

    Returns
    -------
    str
        One line.
    """
    root = layout.arrays(name)
    where = layout.relative(root / "zarr.json")
    stored = _stored(root)
    if stored is None:
        return f"{where} is damaged" if (root / "zarr.json").exists() else f"{where} is gone"
    if stored.digest != spec.digest:
        return f"{where} is of other arrays"
    for problem in _metadata_problems(layout, root, spec, stored):
        return str(problem)
    for partition in _misplaced(stored, _written_spans(layout, name, spec, written)):
        return f"{where} says something else of {partition} than its receipt"
    return ""


class ArrayWriter(AbstractContextManager["ArrayWriter"]):
    """A partition's rows, written shard by shard; memory is that of one shard.

    What the span held before is removed first: whoever looks while it is written, or after the
    worker was killed, finds new rows or none, never old ones. The same rows make the same bytes.
    What is not committed when the block ends is removed.

    Parameters
    ----------
    layout : Layout
    name : str
        Of the group: a model.
    spec : ArraySpec
    span : Span
        As `allocate` returned it.

    Raises
    ------
    SpecError
        From all that writes: the disk is full or the folder cannot be written.
    """

    def __init__(self, layout: Layout, name: str, spec: ArraySpec, span: Span) -> None:
        self._layout, self._root = layout, layout.arrays(name)
        self.spec, self._span = spec, span
        if span.first % spec.shard_rows or span.room % spec.shard_rows:
            raise ValueError(f"{span} is not made of whole shards of {spec.shard_rows} rows")
        self._rows = self._filled = 0
        self._outputs: dict[str, str] = {}
        self._committed = False
        fence.check()
        self._remove()
        self._values: NDArray[Any] = np.full(
            (spec.shard_rows, *spec.shape), np.nan, np.dtype(spec.dtype)
        )
        self._ids: NDArray[Any] = _no_ids(spec, spec.shard_rows)
        self._arrays: tuple[tuple[str, Any], ...] = ()

    def write(self, ids: ArrayLike, values: ArrayLike) -> None:
        """Add rows.

        Parameters
        ----------
        ids : array, shape (n,)
            Integers or strings.
        values : array, shape (n, ...)
            NaN where there is none.
        """
        new_ids, new = as_ids(ids, self.spec.ids), np.asarray(values)
        if new.shape != (len(new_ids), *self.spec.shape):
            raise ValueError(
                f"values of shape {new.shape} for {len(new_ids)} rows of {self.spec.shape}"
            )
        if self._rows + len(new) > self._span.rows:
            raise ValueError(f"more rows than the {self._span.rows} there is a span for")
        start = 0
        while start < len(new):
            taken = min(self.spec.shard_rows - self._filled, len(new) - start)
            into = slice(self._filled, self._filled + taken)
            self._ids[into] = new_ids[start : start + taken]
            self._values[into] = new[start : start + taken]
            self._filled += taken
            self._rows += taken
            start += taken
            if self._filled == self.spec.shard_rows:
                self._flush()

    def commit(self) -> Written:
        """Write what is left, as a whole shard.

        Returns
        -------
        Written
            For the receipt.

        Raises
        ------
        TransientError
            If a shard reads back different from what was written.
        """
        if self._rows != self._span.rows:
            raise ValueError(f"expected {self._span.rows} rows, {self._rows} were written")
        if self._filled:
            self._flush()
        # LocalStore renames a file into its place but leaves it to the kernel when to write it.
        if not is_remote(self._root):
            with explained(self._root):
                settle(self._layout.root / output for output in self._outputs)
        self._committed = True
        return Written(self._rows, dict(sorted(self._outputs.items())))

    def __exit__(self, *_: object) -> None:
        if not self._committed:
            # Also on the way of another error, which must not be hidden.
            with suppress(OSError, GalbatchError):
                fence.check()  # or the shards are another run's
                self._remove()

    def _flush(self) -> None:
        """One whole shard: LocalStore writes it to a temporary name and renames that."""
        spec = self.spec
        number = (self._span.first + self._rows - self._filled) // spec.shard_rows
        fence.check()
        self._values[self._filled :] = np.nan
        self._ids[self._filled :] = NO_ID[spec.ids]
        rows = slice(number * spec.shard_rows, (number + 1) * spec.shard_rows)
        for name, array, data in zip(
            (spec.name, ID), self._opened(rows.stop), (self._values, self._ids), strict=True
        ):
            path = _shard(self._root, spec, name, number)
            with explained(path, spec.shard_bytes):
                array[rows] = data
                if not _reads_back(path, array, rows, data):
                    raise TransientError(str(path), "reads back different from what was written")
                self._outputs[self._layout.relative(path)] = digest_file(path)
        self._filled = 0

    def _opened(self, end: int) -> tuple[Any, Any]:
        if not self._arrays:
            store = _store(self._root)
            self._arrays = tuple((n, _array(store, n, empty=True)) for n in (self.spec.name, ID))
        values, ids = (array for _, array in self._arrays)
        if min(values.shape[0], ids.shape[0]) < end:
            raise ValueError(f"{self._root} ends before row {end}: allocate it first")
        return values, ids

    def _remove(self) -> None:
        spec, span = self.spec, self._span
        for number in _shards_of(span.first, span.room, spec.shard_rows):
            for array in (ID, spec.name):
                path = _shard(self._root, spec, array, number)
                with explained(path):
                    path.unlink(missing_ok=True)


def write(
    layout: Layout,
    name: str,
    spec: ArraySpec,
    span: Span,
    batches: Iterable[tuple[ArrayLike, ArrayLike]],
) -> Written:
    """Write one partition; see `ArrayWriter`.

    Parameters
    ----------
    layout : Layout
    name : str
    spec : ArraySpec
    span : Span
    batches : iterable of (ids, values)
        Of any sizes: as many rows as the span is for, in the order of the partition's file.

    Returns
    -------
    Written
    """
    with ArrayWriter(layout, name, spec, span) as writer:
        for ids, values in batches:
            writer.write(ids, values)
        return writer.commit()


class Arrays:
    """The arrays of a group, to read; nothing is read before it is asked for.

    Parameters
    ----------
    layout : Layout
    name : str
        Of the group: a model.

    Raises
    ------
    DataError
        If there is no such group.
    """

    def __init__(self, layout: Layout, name: str) -> None:
        self._where = layout.arrays(name)
        stored = _stored(self._where)
        if stored is None:
            raise DataError(str(self._where), "no arrays here", "run the job that makes them")
        store = _store(self._where, read_only=True)
        self.spans: Mapping[str, Span] = stored.spans
        self.values: Any = _array(store, stored.array)
        """The Zarr array, shape (rows, ...)."""
        self.ids: Any = _array(store, ID)
        """The Zarr array of the ids, shape (rows,)."""

    def read(
        self, partition: str, rows: slice | NDArray[np.integer[Any]] | None = None
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """Some rows of a partition.

        Parameters
        ----------
        partition : str
        rows : slice or array of int, optional
            Numbers of rows in the partition's file, in any order; by default all.

        Returns
        -------
        ids : ndarray, shape (n,)
        values : ndarray, shape (n, ...)

        Raises
        ------
        DataError
            If the partition is not there, or has not been written.
        """
        span = self._span(partition)
        chosen: Any
        if isinstance(rows, np.ndarray):
            if rows.size and (rows.min() < 0 or rows.max() >= span.rows):
                raise IndexError(f"partition {partition} has {span.rows} rows")
            chosen = span.first + rows.astype(np.int64)
        else:
            begin, end, step = (rows or slice(None)).indices(span.rows)
            if step != 1:
                return self.read(partition, np.arange(begin, end, step))
            chosen = slice(span.first + begin, span.first + max(begin, end))
        return self._checked(partition, self.ids.oindex[chosen], chosen)

    def batches(self, partition: str) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
        """All rows of a partition, one shard after the other.

        Yields
        ------
        ids : ndarray, shape (n,)
        values : ndarray, shape (n, ...)
        """
        rows, size = self._span(partition).rows, self.values.shards[0]
        for begin in range(0, rows, size):
            yield self.read(partition, slice(begin, begin + size))

    def _span(self, partition: str) -> Span:
        try:
            return self.spans[partition]
        except KeyError:
            raise DataError(str(self._where), f"has no partition '{partition}'") from None

    def _checked(
        self, partition: str, ids: NDArray[Any], chosen: Any
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        # Where there is no shard, Zarr answers with the fill value.
        if (ids == NO_ID[id_kind(ids.dtype.name)]).any():
            raise DataError(str(self._where), f"partition '{partition}' has not been written")
        return ids, self.values.oindex[chosen]


def check(
    layout: Layout,
    name: str,
    spec: ArraySpec,
    rows: Mapping[str, int],
    table: Callable[[str], TableRows] | None = None,
    others: Collection[str] = (),
) -> list[Problem]:
    """Whether the arrays are what the catalogue's tables say.

    Reads a shard at a time; memory does not grow with the arrays, nor with a partition but for
    its ids.

    Parameters
    ----------
    layout : Layout
    name : str
        Of the group: a model.
    spec : ArraySpec
    rows : mapping of str to int
        Rows of every partition that has been written, by name.
    table : callable, optional
        Given a partition, what its Parquet file says (``mapping.__getitem__`` will do); without
        it, ids are not compared and values are not asked for.
    others : collection of str
        Partitions that may be there as well, and are not looked at.

    Returns
    -------
    list of Problem
        Empty where all is sound.
    """
    root = layout.arrays(name)
    where, group = layout.relative(root), (root / "zarr.json",)
    stored = _stored(root)
    if stored is None:
        return [Problem("no arrays", where, "a Zarr group of galbatch", "none", group)]
    if stored.digest != spec.digest:
        return [Problem("other arrays", where, spec.digest[:8], stored.digest[:8], group)]
    problems = list(_metadata_problems(layout, root, spec, stored))
    if problems:
        return problems
    shards = {array: _shards(root, spec, array) for array in (spec.name, ID)}
    problems += _span_problems(layout, root, spec, stored, rows, shards, others)
    arrays = Arrays(layout, name)
    for partition in rows:
        span = stored.spans.get(partition)
        # What lies wrong has been said; its rows cannot be told apart.
        if span and not span.first % spec.shard_rows and span.end <= stored.end:
            problems += _PartitionCheck(layout, root, spec, arrays, partition, shards).run(
                rows[partition], table
            )
    return problems


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


def _dtype(kind: str) -> np.dtype[Any]:
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
        array = array.astype(_dtype(kind))
    except (TypeError, ValueError) as error:
        raise DataError("ids", f"cannot be stored: {error}") from error
    if (array == NO_ID[kind]).any():
        raise DataError("ids", f"expected an id in every row, found {NO_ID[kind]!r}")
    return array


@dataclass(frozen=True)
class _Stored:
    """What a group says of itself."""

    digest: str
    end: int
    spans: Mapping[str, Span]
    array: str = ""


def _store(root: Path, read_only: bool = False) -> Store:
    """Where Zarr reads and writes: the one function that knows what kind of path it is.

    LocalStore writes to a temporary name and renames that, so an object is whole or not there; an
    object store does as much by itself.
    """
    if not is_remote(root):
        return LocalStore(root, read_only=read_only)
    options: dict[str, Any] = dict(cast(Any, root).storage_options)
    return FsspecStore.from_url(str(root), storage_options=options, read_only=read_only)


def _array(store: Store, path: str, *, empty: bool = False) -> Any:
    """An array of the group, opened without the group (whose list of partitions may be long).

    With `empty`, chunks of nothing but fill are written too: a shard that is not there was not
    written. (The keyword `config` of `open_array` is ignored by zarr 3.1.6.)
    """
    array = zarr.open_array(store, path=path, mode="r" if store.read_only else "r+")
    return array.with_config({"write_empty_chunks": True}) if empty else array


def _stored(root: Path) -> _Stored | None:
    """What is there, or None: also where it was not finished."""
    try:
        words = zarr.open_group(_store(root, read_only=True), mode="r").attrs.asdict()
        own: Any = words[_OWN]
        if own["version"] != VERSION:
            return None
        lists: Any = words[_PARTITIONS]
        spans = {name: Span(*numbers) for name, numbers in lists.items()}
        return _Stored(own["digest"], own["rows"], spans, own["array"])
    except (FileNotFoundError, KeyError, TypeError, ValueError):
        return None


def _metadata_files(root: Path, spec: ArraySpec) -> list[Path]:
    """All files of a group but the shards."""
    names = [spec.name, ID, *(one.name for one in spec.coordinates)]
    grids = [root / one.name / "c" / "0" for one in spec.coordinates]
    return [root / "zarr.json", *(root / name / "zarr.json" for name in names), *grids]


def _written_spans(
    layout: Layout, name: str, spec: ArraySpec, written: Mapping[str, Sequence[str]]
) -> dict[str, Span]:
    """Where the partitions lie whose shards are there: shards have their number in their name."""
    prefix = f"{layout.relative(layout.arrays(name))}/{ID}/c."
    size, spans = spec.shard_rows, {}
    for partition, outputs in written.items():
        numbers = sorted(int(one.removeprefix(prefix)) for one in outputs if one.startswith(prefix))
        if numbers:
            room = len(numbers) * size
            spans[partition] = Span(numbers[0] * size, room, room)
    return spans


def _end(root: Path, spec: ArraySpec, kept: Mapping[str, Span]) -> int:
    """The row after all that is there: a place is not given to another (see `plan_spans`)."""
    found = _shards(root, spec, ID) if kept else {}
    ends = [(number + 1) * spec.shard_rows for number in found]
    return max([0, *ends, *(span.end for span in kept.values())])


def _is_sound(
    layout: Layout, root: Path, spec: ArraySpec, stored: _Stored, kept: Mapping[str, Span]
) -> bool:
    """Whether the metadata is what the spec and the receipts say.

    Arrays may have any length: a call of `allocate` may have been cut short.
    """
    if stored.digest != spec.digest or any(_misplaced(stored, kept)):
        return False
    return not any(_metadata_problems(layout, root, spec, stored, any_length=True))


def _misplaced(stored: _Stored, kept: Mapping[str, Span]) -> Iterator[str]:
    """Partitions that the group has elsewhere than where their shards are."""
    for partition, span in kept.items():
        found = stored.spans.get(partition)
        if found is None or found.first != span.first or found.end > stored.end:
            yield partition


def _create(root: Path, store: Store, spec: ArraySpec, *, around_shards: bool) -> None:
    # Without it the group is none, whatever is left of it when this is cut short.
    (root / "zarr.json").unlink(missing_ok=True)
    if around_shards:
        for path in _metadata_files(root, spec):
            path.unlink(missing_ok=True)
    group = zarr.create_group(store, overwrite=not around_shards)
    described: dict[str, Any] = _meanings(spec)
    for coordinate in spec.coordinates:
        group.create_array(
            coordinate.name,
            data=np.array(coordinate.values, np.float64),
            chunks=(max(len(coordinate.values), 1),),
            compressors=None,
            dimension_names=(coordinate.name,),
            attributes=described[coordinate.name],
        )
    keys = {"name": "default", "separator": "."}
    group.create_array(
        ID,
        shape=(0,),
        dtype=spec.ids,
        # In one piece where the values have a shard: ids are looked through, not looked up.
        chunks=(spec.shard_rows,),
        compressors=_codecs(spec.ids),
        fill_value=NO_ID[spec.ids],
        dimension_names=(ROW,),
        chunk_key_encoding=keys,  # type: ignore[arg-type]
    )
    group.create_array(
        spec.name,
        shape=(0, *spec.shape),
        dtype=spec.dtype,
        chunks=(spec.chunk_rows, *spec.shape),
        shards=(spec.shard_rows, *spec.shape),
        compressors=_codecs(spec.dtype),
        fill_value=np.nan,
        dimension_names=(ROW, *spec.dimensions),
        attributes=described[spec.name],
        chunk_key_encoding=keys,  # type: ignore[arg-type]
    )


def _codecs(dtype: str) -> tuple[BytesBytesCodec, ...]:
    """zstd-1 of shuffled bytes, and a checksum: blosc decodes a flipped bit to another number."""
    packed: BytesBytesCodec = BloscCodec(cname="zstd", clevel=1, shuffle="shuffle")
    return (ZstdCodec(level=1) if dtype == "string" else packed, Crc32cCodec())


def _meanings(spec: ArraySpec) -> dict[str, dict[str, Any]]:
    """Attributes of each array; `units` and `long_name` are the words that xarray plots."""
    described: tuple[ArraySpec | Coordinate, ...] = (spec, *spec.coordinates)
    return {
        one.name: {"units": one.unit, "ucd": one.ucd, "long_name": one.description}
        for one in described
    }


def _no_ids(spec: ArraySpec, rows: int) -> NDArray[Any]:
    return np.full(rows, NO_ID[spec.ids], _dtype(spec.ids))


def _reads_back(path: Path, array: Any, rows: slice, data: NDArray[Any]) -> bool:
    """Whether a shard is there and holds what was given, bit by bit: a NaN is itself."""
    if not path.exists():
        return False
    found = np.asarray(array[rows])
    if data.dtype.kind == "f":
        bits = f"u{data.dtype.itemsize}"
        return np.array_equal(found.view(bits), data.view(bits))
    return np.array_equal(found, data)


def _shards_of(first: int, rows: int, shard_rows: int) -> range:
    return range(first // shard_rows, -(-(first + rows) // shard_rows) if rows else 0)


def _shard(root: Path, spec: ArraySpec, array: str, number: int) -> Path:
    axes = 0 if array == ID else len(spec.shape)
    return root / array / ".".join(["c", str(number), *["0"] * axes])


def _shards(root: Path, spec: ArraySpec, array: str) -> dict[int, Path]:
    """The shards that are there, by number."""
    found = {}
    for path in (root / array).iterdir():
        parts = path.name.split(".")
        if parts[0] == "c" and len(parts) > 1 and parts[1].isdecimal():
            number = int(parts[1])
            if path.name == _shard(root, spec, array, number).name:
                found[number] = path
    return found


def _sweep(root: Path, spec: ArraySpec, spans: Iterable[Span]) -> None:
    """Remove shards that no partition has, and what a killed process left unfinished."""
    used = {number for span in spans for number in span.shards(spec.shard_rows)}
    for folder in (root, *(root / one.name for one in spec.coordinates)):
        _remove_partial(folder)
    for array in (spec.name, ID):
        _remove_partial(root / array)
        for number, path in _shards(root, spec, array).items():
            if number not in used:
                path.unlink(missing_ok=True)


def _remove_partial(folder: Path) -> None:
    for path in list(folder.iterdir()):
        if path.name.endswith(_PARTIAL):
            path.unlink(missing_ok=True)


def _metadata_problems(
    layout: Layout, root: Path, spec: ArraySpec, stored: _Stored, *, any_length: bool = False
) -> Iterator[Problem]:
    """Shapes, types, shards and coordinates, of the files as they are."""
    store = _store(root, read_only=True)
    expected: dict[str, tuple[Any, ...]] = {
        spec.name: (
            (stored.end, *spec.shape),
            np.dtype(spec.dtype),
            (spec.chunk_rows, *spec.shape),
            (spec.shard_rows, *spec.shape),
        ),
        ID: (
            (stored.end,),
            np.dtypes.StringDType() if spec.ids == "string" else np.dtype(spec.ids),
            (spec.shard_rows,),
            None,
        ),
    }
    for array, words in expected.items():
        where, own = layout.relative(root / array), (root / array / "zarr.json",)
        try:
            opened = _array(store, array)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            yield Problem("unreadable array", where, "an array", _line(error), own)
            continue
        shape = (stored.end, *opened.shape[1:]) if any_length else opened.shape
        found = (shape, opened.dtype, opened.chunks, opened.shards)
        for what, one, other in zip(
            ("shape", "type", "chunks", "shards"), words, found, strict=True
        ):
            if one != other:
                yield Problem(f"wrong {what}", where, str(one), str(other), own)
    if stored.end % spec.shard_rows:
        yield Problem(
            "unaligned", layout.relative(root), f"whole shards of {spec.shard_rows} rows",
            f"{stored.end} rows", (root / "zarr.json",),
        )  # fmt: skip
    for one in spec.coordinates:
        where = layout.relative(root / one.name)
        files = (root / one.name / "zarr.json", root / one.name / "c" / "0")
        try:
            values = np.asarray(_array(store, one.name)[:])
        except Exception as error:
            yield Problem("unreadable array", where, "an array", _line(error), files)
            continue
        if not np.array_equal(values, np.array(one.values)):
            yield Problem("wrong coordinate", where, f"{len(one.values)} values", "others", files)


def _span_problems(
    layout: Layout,
    root: Path,
    spec: ArraySpec,
    stored: _Stored,
    rows: Mapping[str, int],
    shards: Mapping[str, Mapping[int, Path]],
    others: Collection[str],
) -> Iterator[Problem]:
    """The spans against each other, the tables and the files."""
    where, group = layout.relative(root), (root / "zarr.json",)
    size = spec.shard_rows
    for name in rows.keys() - stored.spans.keys():
        yield Problem(
            "missing partition", f"{where} {name}", counted(rows[name], "row"), "no span", group
        )
    used: set[int] = set()
    last, last_name = 0, ""
    for name, span in sorted(stored.spans.items(), key=lambda item: (item[1].first, item[0])):
        here = f"{where} {name}"
        lies = f"rows {span.first} to {span.end}"
        if span.first % size or span.room % size:
            yield Problem("unaligned", here, f"whole shards of {size} rows", lies, group)
        if not 0 <= span.rows <= span.room or span.first < 0 or span.end > stored.end:
            yield Problem(
                "outside", here, f"{counted(span.rows, 'row')} within {stored.end}", lies, group
            )  # fmt: skip
        if span.room and span.first < last:
            after = f"first row {last} or later, after {last_name}"
            yield Problem("overlap", here, after, lies, group)
        if span.end > last:
            last, last_name = span.end, name
        numbers = _shards_of(span.first, span.rows, size)
        if name in rows or name in others:
            used.update(numbers)
        else:
            files = tuple(
                found[number] for found in shards.values() for number in numbers if number in found
            )
            used.update(numbers)
            if files:
                yield Problem("unknown partition", here, "none", counted(span.rows, "row"), files)
    for found in shards.values():
        for number in sorted(found.keys() - used):
            path = found[number]
            yield Problem("stray shard", layout.relative(path), "no file", "one", (path,))


@dataclass(frozen=True)
class _PartitionCheck:
    """One partition's rows against its table."""

    layout: Layout
    root: Path
    spec: ArraySpec
    arrays: Arrays
    partition: str
    shards: Mapping[str, Mapping[int, Path]]

    def run(self, rows: int, table: Callable[[str], TableRows] | None) -> Iterator[Problem]:
        """What is wrong with it."""
        span = self.arrays.spans[self.partition]
        size = self.spec.shard_rows
        if span.rows != rows:
            yield self._problem("foreign row count", "", counted(rows, "row"), f"{span.rows}")
            return
        told = table(self.partition) if table is not None else None
        ids = None if told is None else as_ids(told.ids, self.spec.ids)
        if ids is not None and len(ids) != rows:
            yield self._problem(
                "foreign row count", "", counted(len(ids), "id"), counted(rows, "row")
            )
            return
        valued = None if told is None else told.valued
        if told is not None and valued is None:
            valued = np.ones(rows, bool)
        for number in span.shards(size):
            missing = False
            for array in (self.spec.name, ID):
                if number not in self.shards[array]:
                    path = _shard(self.root, self.spec, array, number)
                    missing = True
                    yield self._problem("missing shard", self._at(path), "a file", "none", number)
            if missing:
                continue
            begin = number * size
            read: list[NDArray[Any]] = []
            for array, opened in ((self.spec.name, self.arrays.values), (ID, self.arrays.ids)):
                path = self.shards[array][number]
                try:
                    # Zarr takes a file that is empty for one that is not there.
                    if not path.stat().st_size:
                        raise ValueError("an empty file")
                    read.append(np.asarray(opened[begin : begin + size]))
                except Exception as error:  # every codec has its own
                    yield self._problem(
                        "unreadable shard", self._at(path), "a whole shard", _line(error), number
                    )
            if len(read) == 2:
                start = begin - span.first
                yield from self._rows(number, start, rows, read[0], read[1], ids, valued)

    def _rows(
        self,
        number: int,
        start: int,
        rows: int,
        values: NDArray[Any],
        found: NDArray[Any],
        ids: NDArray[Any] | None,
        valued: NDArray[np.bool_] | None,
    ) -> Iterator[Problem]:
        here = self._at(self.shards[self.spec.name][number])
        held = min(rows - start, len(found))
        nobody = found == NO_ID[self.spec.ids]
        if nobody[:held].any() or not nobody[held:].all():
            count = int((~nobody).sum())
            yield self._problem("foreign row count", here, f"{held} rows", f"{count}", number)
            return
        if not np.isnan(values[held:]).all():
            yield self._problem("values of no row", here, "NaN after the last", "others", number)
        if ids is not None:
            wrong = np.flatnonzero(found[:held] != ids[start : start + held])
            if wrong.size:
                at = int(wrong[0])
                yield self._problem(
                    "wrong id",
                    f"{here} row {start + at}",
                    str(ids[start + at]),
                    f"{found[at]} ({wrong.size} such rows)",
                    number,
                )
        if valued is not None:
            blank = np.isnan(values[:held].reshape(held, -1)).any(axis=1)
            bad = np.flatnonzero(blank & valued[start : start + held])
            if bad.size:
                row = f"{here} row {start + int(bad[0])}"
                yield self._problem(
                    "no value", row, "a value", f"NaN ({counted(bad.size, 'row')})", number
                )

    def _at(self, path: Path) -> str:
        return self.layout.relative(path)

    def _problem(
        self, name: str, where: str, expected: str, found: str, number: int | None = None
    ) -> Problem:
        span = self.arrays.spans[self.partition]
        numbers = span.shards(self.spec.shard_rows) if number is None else (number,)
        files = tuple(
            known[number] for known in self.shards.values() for number in numbers if number in known
        )
        where = f"{where or self.layout.relative(self.root)} {self.partition}"
        return Problem(name, where, expected, found, files)


def _line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]
