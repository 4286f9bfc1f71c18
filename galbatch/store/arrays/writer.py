"""A worker's part: one partition's rows, in whole shards."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from galbatch.errors import GalbatchError, TransientError
from galbatch.store import fence
from galbatch.store.arrays.group import (
    array_names,
    no_ids,
    open_array,
    open_store,
    shard_path,
)
from galbatch.store.arrays.spans import Span, shards_between
from galbatch.store.arrays.spec import NO_ID, GroupSpec, as_ids
from galbatch.store.commit import digest_file, explain_disk_errors, sync_files
from galbatch.store.layout import Layout
from galbatch.store.locations import is_remote
from galbatch.values import ID


@dataclass(frozen=True)
class Written:
    """The shards that a worker wrote.

    Parameters
    ----------
    rows : int
    outputs : mapping of str to str
        SHA-256 of each file by its path relative to the store, sorted: for the receipt.
    missing : mapping of str to int
        Rows without a value, by array.
    """

    rows: int
    outputs: Mapping[str, str]
    missing: Mapping[str, int]

    @property
    def digest(self) -> str:
        """SHA-256 over all of them."""
        return outputs_digest(self.outputs)


def outputs_digest(outputs: Mapping[str, str]) -> str:
    """SHA-256 over files, given that of each in the order of their paths."""
    return sha256("".join(outputs.values()).encode()).hexdigest()


class ArrayWriter(AbstractContextManager["ArrayWriter"]):
    """A partition's rows, written shard by shard; memory is that of one shard.

    What the span held before is removed first: a reader during the writing, or after the
    worker was killed, finds new rows or none, never old ones. The same rows make the same bytes.
    What is not committed when the block ends is removed.

    Parameters
    ----------
    layout : Layout
    table : str or None
        A model's name; None for the catalogue.
    spec : GroupSpec
    span : Span
        As `allocate` returned it.

    Raises
    ------
    SpecError
        From all that writes: the disk is full or the folder cannot be written.
    """

    def __init__(self, layout: Layout, table: str | None, spec: GroupSpec, span: Span) -> None:
        self._layout, self._root = layout, layout.arrays(table)
        self.spec, self._span = spec, span
        if span.first % spec.shard_rows or span.room % spec.shard_rows:
            raise ValueError(f"{span} is not made of whole shards of {spec.shard_rows} rows")
        self._rows = self._filled = 0
        self._outputs: dict[str, str] = {}
        self._missing = dict.fromkeys(spec.of, 0)
        self._committed = False
        fence.check()
        self._remove()
        # A partition may be far smaller than a shard.
        rows = min(spec.shard_rows, max(span.rows, 1))
        self._values: dict[str, NDArray[Any]] = {
            array.name: np.empty((rows, *array.shape), np.dtype(array.dtype))
            for array in spec.arrays
        }
        self._ids: NDArray[Any] = no_ids(spec, spec.shard_rows)
        self._arrays: dict[str, Any] = {}

    def write(self, ids: ArrayLike, values: Mapping[str, ArrayLike]) -> None:
        """Add rows.

        Parameters
        ----------
        ids : array, shape (n,)
            Integers or strings.
        values : mapping of str to array, shape (n, ...)
            Of every array of the spec; a row without a value is full of `ArraySpec.missing`.
        """
        spec = self.spec
        new_ids = as_ids(ids, spec.ids)
        new = {name: np.asarray(values[name]) for name in spec.of}
        for name, array in spec.of.items():
            if new[name].shape != (len(new_ids), *array.shape):
                raise ValueError(
                    f"{name}: values of shape {new[name].shape} for {len(new_ids)} rows of "
                    f"{array.shape}"
                )
            if not np.can_cast(new[name].dtype, array.dtype, "same_kind"):
                raise ValueError(f"{name}: {new[name].dtype} for an array of {array.dtype}")
            self._missing[name] += int(array.is_missing(new[name]).sum())
        if self._rows + len(new_ids) > self._span.rows:
            raise ValueError(f"more rows than the {self._span.rows} there is a span for")
        start = 0
        while start < len(new_ids):
            taken = min(spec.shard_rows - self._filled, len(new_ids) - start)
            into = slice(self._filled, self._filled + taken)
            self._ids[into] = new_ids[start : start + taken]
            for name in spec.of:
                self._values[name][into] = new[name][start : start + taken]
            self._filled += taken
            self._rows += taken
            start += taken
            if self._filled == spec.shard_rows:
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
            with explain_disk_errors(self._root):
                sync_files(self._layout.root / output for output in self._outputs)
        self._committed = True
        return Written(self._rows, dict(sorted(self._outputs.items())), dict(self._missing))

    def __exit__(self, *_: object) -> None:
        if not self._committed:
            # Also runs while another error is raised, which must not be hidden.
            with suppress(OSError, GalbatchError):
                fence.check()  # or the shards are another run's
                self._remove()

    def _flush(self) -> None:
        """One whole shard: LocalStore writes it to a temporary name and renames that."""
        spec = self.spec
        number = (self._span.first + self._rows - self._filled) // spec.shard_rows
        fence.check()
        self._ids[self._filled :] = NO_ID[spec.ids]
        self._put(ID, number, self._ids)
        for array in spec.arrays:
            values = self._values[array.name]
            values[self._filled :] = array.missing
            if len(values) < spec.shard_rows:
                blank = (spec.shard_rows - len(values), *array.shape)
                values = np.concatenate([values, np.full(blank, array.missing, values.dtype)])
            self._put(array.name, number, values)
        self._filled = 0

    def _put(self, name: str, number: int, data: NDArray[Any]) -> None:
        rows = slice(number * self.spec.shard_rows, (number + 1) * self.spec.shard_rows)
        array = self._opened(rows.stop)[name]
        path = shard_path(self._root, self.spec, name, number)
        with explain_disk_errors(path, data.nbytes):
            array[rows] = data
            if not _reads_back(path, array, rows, data):
                raise TransientError(str(path), "reads back different from what was written")
            self._outputs[self._layout.relative(path)] = digest_file(path)

    def _opened(self, end: int) -> dict[str, Any]:
        if not self._arrays:
            store = open_store(self._root)
            names = array_names(self.spec)
            self._arrays = {name: open_array(store, name, empty=True) for name in names}
        if min(array.shape[0] for array in self._arrays.values()) < end:
            raise ValueError(f"{self._root} ends before row {end}: allocate it first")
        return self._arrays

    def _remove(self) -> None:
        spec, span = self.spec, self._span
        for number in shards_between(span.first, span.room, spec.shard_rows):
            for array in reversed(array_names(spec)):
                path = shard_path(self._root, spec, array, number)
                with explain_disk_errors(path):
                    path.unlink(missing_ok=True)


def write(
    layout: Layout,
    table: str | None,
    spec: GroupSpec,
    span: Span,
    batches: Iterable[tuple[ArrayLike, Mapping[str, ArrayLike]]],
) -> Written:
    """Write one partition; see `ArrayWriter`.

    Parameters
    ----------
    layout : Layout
    table : str or None
        A model's name; None for the catalogue.
    spec : GroupSpec
    span : Span
    batches : iterable of (ids, values)
        Of any sizes: as many rows as the span is for, in the order of the partition's file.

    Returns
    -------
    Written
    """
    with ArrayWriter(layout, table, spec, span) as writer:
        for ids, values in batches:
            writer.write(ids, values)
        return writer.commit()


def _reads_back(path: Path, array: Any, rows: slice, data: NDArray[Any]) -> bool:
    """Whether a shard is there and holds what was given, bit by bit: a NaN is itself."""
    if not path.exists():
        return False
    found = np.asarray(array[rows])
    if data.dtype.kind == "f":
        bits = f"u{data.dtype.itemsize}"
        return np.array_equal(found.view(bits), data.view(bits))
    return np.array_equal(found, data)
