"""Whether the arrays are what the tables beside them say."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from galbatch.errors import counted
from galbatch.store.arrays.group import (
    StoredGroup,
    array_names,
    open_array,
    open_store,
    read_stored,
    shard_path,
    shards_there,
)
from galbatch.store.arrays.reader import Arrays
from galbatch.store.arrays.spans import shards_between
from galbatch.store.arrays.spec import NO_ID, GroupSpec, as_ids
from galbatch.store.layout import Layout
from galbatch.values import ID


@dataclass(frozen=True)
class TableRows:
    """The rows of a partition, as its Parquet file has them.

    Parameters
    ----------
    ids : array, shape (n,)
        Integers or strings.
    missing : mapping of str to int, optional
        Rows without a value, by array.
    first : int, optional
        The first of its rows in the arrays.
    """

    ids: ArrayLike
    missing: Mapping[str, int] | None = None
    first: int | None = None


@dataclass(frozen=True)
class ArrayProblem:
    """Something in the arrays that is not as it should be.

    Parameters
    ----------
    name : str
        Kind of problem: ``overlap``, ``missing shard``, ``wrong id`` ...
    where : str
        Path relative to the store, and the partition.
    expected, found : str
    files : tuple of Path
        Files to remove, so that the partition is written again.
    """

    name: str
    where: str
    expected: str
    found: str
    files: tuple[Path, ...] = field(default=(), compare=False)

    def __str__(self) -> str:
        return f"{self.where}: {self.name}: expected {self.expected}, found {self.found}"


def check(
    layout: Layout,
    table: str | None,
    spec: GroupSpec,
    rows: Mapping[str, int],
    rows_of: Callable[[str], TableRows] | None = None,
    others: Collection[str] = (),
) -> list[ArrayProblem]:
    """Whether the arrays are what the table's files say.

    Reads a shard at a time; memory does not grow with the arrays, nor with a partition but for
    its ids.

    Parameters
    ----------
    layout : Layout
    table : str or None
        A model's name; None for the catalogue.
    spec : GroupSpec
    rows : mapping of str to int
        Rows of every partition that has been written, by name.
    rows_of : callable, optional
        Given a partition, what its Parquet file says (``mapping.__getitem__`` will do); without
        it, ids are not compared and rows without a value are not counted.
    others : collection of str
        Partitions that may be there as well, and are not looked at.

    Returns
    -------
    list of ArrayProblem
        Empty where all is sound.
    """
    root = layout.arrays(table)
    where, group = layout.relative(root), (root / "zarr.json",)
    stored = read_stored(root)
    if stored is None:
        return [ArrayProblem("no arrays", where, "a Zarr group of galbatch", "none", group)]
    if stored.digest != spec.digest:
        return [ArrayProblem("other arrays", where, spec.digest[:8], stored.digest[:8], group)]
    problems = list(metadata_problems(layout, root, spec, stored))
    if problems:
        return problems
    shards = {array: shards_there(root, spec, array) for array in array_names(spec)}
    problems += _span_problems(layout, root, spec, stored, rows, shards, others)
    arrays = Arrays(layout, table)
    for partition in rows:
        span = stored.spans.get(partition)
        # A span in a wrong place was reported above; its rows cannot be checked.
        if span and not span.first % spec.shard_rows and span.end <= stored.end:
            problems += _PartitionCheck(layout, root, spec, arrays, partition, shards).run(
                rows[partition], rows_of
            )
    return problems


def metadata_problems(
    layout: Layout, root: Path, spec: GroupSpec, stored: StoredGroup, *, any_length: bool = False
) -> Iterator[ArrayProblem]:
    """Shapes, types, shards and coordinates, of the files as they are."""
    store = open_store(root, read_only=True)
    rows = spec.shard_rows
    expected: dict[str, tuple[Any, ...]] = {
        array.name: (
            (stored.end, *array.shape),
            np.dtype(array.dtype),
            (array.chunk_rows, *array.shape),
            (rows, *array.shape),
        )
        for array in spec.arrays
    }
    ids = np.dtypes.StringDType() if spec.ids == "string" else np.dtype(spec.ids)
    expected[ID] = ((stored.end,), ids, (rows,), None)
    for array, wanted in expected.items():
        where, own = layout.relative(root / array), (root / array / "zarr.json",)
        try:
            opened = open_array(store, array)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            yield ArrayProblem("unreadable array", where, "an array", _line(error), own)
            continue
        shape = (stored.end, *opened.shape[1:]) if any_length else opened.shape
        found = (shape, opened.dtype, opened.chunks, opened.shards)
        for what, one, other in zip(
            ("shape", "type", "chunks", "shards"), wanted, found, strict=True
        ):
            if one != other:
                yield ArrayProblem(f"wrong {what}", where, str(one), str(other), own)
    if stored.end % rows:
        yield ArrayProblem(
            "unaligned", layout.relative(root), f"whole shards of {rows} rows",
            f"{stored.end} rows", (root / "zarr.json",),
        )  # fmt: skip
    for one in spec.coordinates:
        where = layout.relative(root / one.name)
        files = (root / one.name / "zarr.json", root / one.name / "c" / "0")
        try:
            values = np.asarray(open_array(store, one.name)[:])
        except Exception as error:
            yield ArrayProblem("unreadable array", where, "an array", _line(error), files)
            continue
        if not np.array_equal(values, np.array(one.values)):
            count = f"{len(one.values)} values"
            yield ArrayProblem("wrong coordinate", where, count, "others", files)


def _span_problems(
    layout: Layout,
    root: Path,
    spec: GroupSpec,
    stored: StoredGroup,
    rows: Mapping[str, int],
    shards: Mapping[str, Mapping[int, Path]],
    others: Collection[str],
) -> Iterator[ArrayProblem]:
    """The spans against each other, the tables and the files."""
    where, group = layout.relative(root), (root / "zarr.json",)
    size = spec.shard_rows
    for name in rows.keys() - stored.spans.keys():
        yield ArrayProblem(
            "missing partition", f"{where} {name}", counted(rows[name], "row"), "no span", group
        )
    used: set[int] = set()
    last, last_name = 0, ""
    for name, span in sorted(stored.spans.items(), key=lambda item: (item[1].first, item[0])):
        here = f"{where} {name}"
        lies = f"rows {span.first} to {span.end}"
        if span.first % size or span.room % size:
            yield ArrayProblem("unaligned", here, f"whole shards of {size} rows", lies, group)
        if not 0 <= span.rows <= span.room or span.first < 0 or span.end > stored.end:
            inside = f"{counted(span.rows, 'row')} within {stored.end}"
            yield ArrayProblem("outside", here, inside, lies, group)
        if span.room and span.first < last:
            after = f"first row {last} or later, after {last_name}"
            yield ArrayProblem("overlap", here, after, lies, group)
        if span.end > last:
            last, last_name = span.end, name
        numbers = shards_between(span.first, span.rows, size)
        used.update(numbers)
        if name not in rows and name not in others:
            files = tuple(
                found[number] for found in shards.values() for number in numbers if number in found
            )
            if files:
                count = counted(span.rows, "row")
                yield ArrayProblem("unknown partition", here, "none", count, files)
    for found in shards.values():
        for number in sorted(found.keys() - used):
            path = found[number]
            yield ArrayProblem("stray shard", layout.relative(path), "no file", "one", (path,))


class _PartitionCheck:
    """One partition's rows against its table."""

    def __init__(
        self,
        layout: Layout,
        root: Path,
        spec: GroupSpec,
        arrays: Arrays,
        partition: str,
        shards: Mapping[str, Mapping[int, Path]],
    ) -> None:
        self._layout, self._root, self._spec, self._arrays = layout, root, spec, arrays
        self._partition, self._shards = partition, shards
        self._span = arrays.spans[partition]
        self._missing = dict.fromkeys(spec.of, 0)

    def run(self, rows: int, rows_of: Callable[[str], TableRows] | None) -> Iterator[ArrayProblem]:
        """The problems of the partition."""
        span = self._span
        if span.rows != rows:
            yield self._problem("wrong row count", "", counted(rows, "row"), f"{span.rows}")
            return
        told = rows_of(self._partition) if rows_of is not None else None
        ids = None if told is None else as_ids(told.ids, self._spec.ids)
        if ids is not None and len(ids) != rows:
            count = counted(len(ids), "id")
            yield self._problem("wrong row count", "", count, counted(rows, "row"))
            return
        if told is not None and told.first is not None and told.first != span.first:
            lies = f"first row {told.first}"
            yield self._problem("wrong place", "", lies, f"{span.first}")
            return
        sound = True
        for number in span.shards(self._spec.shard_rows):
            problems = list(self._shard(number, rows, ids))
            sound = sound and not problems
            yield from problems
        if sound and told is not None and told.missing is not None:
            for name, blank in self._missing.items():
                expected = told.missing.get(name, 0)
                if blank != expected:
                    rows_ = f"{counted(expected, 'row')} without a value"
                    yield self._problem("no value", name, rows_, f"{blank:,}")

    def _shard(self, number: int, rows: int, ids: NDArray[Any] | None) -> Iterator[ArrayProblem]:
        spec, missing = self._spec, False
        for array in array_names(spec):
            if number not in self._shards[array]:
                path = shard_path(self._root, spec, array, number)
                missing = True
                yield self._problem("missing shard", self._at(path), "a file", "none", number)
        if missing:
            return
        begin = number * spec.shard_rows
        start = begin - self._span.first
        held = min(rows - start, spec.shard_rows)
        for array in array_names(spec):
            opened = self._arrays.ids if array == ID else self._arrays.values[array]
            path = self._shards[array][number]
            try:
                # Zarr takes a file that is empty for one that is not there.
                if not path.stat().st_size:
                    raise ValueError("an empty file")
                read = np.asarray(opened[begin : begin + spec.shard_rows])
            except Exception as error:  # every codec has its own
                yield self._problem(
                    "unreadable shard", self._at(path), "a whole shard", _line(error), number
                )
                continue
            if array == ID:
                yield from self._ids(number, start, held, read, ids)
            else:
                yield from self._values(number, array, held, read)

    def _ids(
        self,
        number: int,
        start: int,
        held: int,
        found: NDArray[Any],
        ids: NDArray[Any] | None,
    ) -> Iterator[ArrayProblem]:
        here = self._at(self._shards[ID][number])
        nobody = found == NO_ID[self._spec.ids]
        if nobody[:held].any() or not nobody[held:].all():
            count = int((~nobody).sum())
            yield self._problem("wrong row count", here, f"{held} rows", f"{count}", number)
            return
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

    def _values(
        self, number: int, name: str, held: int, values: NDArray[Any]
    ) -> Iterator[ArrayProblem]:
        array = self._spec.of[name]
        self._missing[name] += int(array.is_missing(values[:held]).sum())
        if not array.is_missing(values[held:]).all():
            here = self._at(self._shards[name][number])
            after = f"{array.missing} after the last"
            yield self._problem("values of no row", here, after, "others", number)

    def _at(self, path: Path) -> str:
        return self._layout.relative(path)

    def _problem(
        self, name: str, where: str, expected: str, found: str, number: int | None = None
    ) -> ArrayProblem:
        numbers = self._span.shards(self._spec.shard_rows) if number is None else (number,)
        files = tuple(
            known[number]
            for known in self._shards.values()
            for number in numbers
            if number in known
        )
        where = f"{where or self._layout.relative(self._root)} {self._partition}"
        return ArrayProblem(name, where, expected, found, files)


def _line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]
