"""Which rows of the arrays each partition has to itself."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from galbatch.store.arrays.spec import GroupSpec


@dataclass(frozen=True)
class Span:
    """The rows of the arrays that a partition has to itself.

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
        return shards_between(self.first, self.rows, shard_rows)


@dataclass(frozen=True)
class ArrayPlaces:
    """The arrays of a table, and where those of each partition go.

    Parameters
    ----------
    spec : GroupSpec
    spans : mapping of str to Span
        By partition.
    """

    spec: GroupSpec
    spans: Mapping[str, Span]


def shards_between(first: int, rows: int, shard_rows: int) -> range:
    """Numbers of the shards that hold so many rows from the first on."""
    return range(first // shard_rows, -(-(first + rows) // shard_rows) if rows else 0)


def plan_spans(
    existing: Mapping[str, Span],
    end: int,
    rows: Mapping[str, int],
    shard_rows: int,
    moved: Collection[str] = (),
) -> tuple[dict[str, Span], int]:
    """Where each partition goes.

    A partition stays where it is as long as it fits. One that is new, has outgrown its span or must
    move gets whole shards at the end. Places that are given up are not given to another: a worker
    of a run that was killed may still be writing there, and a reader may have noted the old one.

    Parameters
    ----------
    existing : mapping of str to Span
        The spans before.
    end : int
        Rows of the arrays.
    rows : mapping of str to int
        Rows of every partition there is now, in the order in which new ones are to lie.
    shard_rows : int
    moved : collection of str
        Partitions that must not stay: what they hold is read while they are written again.

    Returns
    -------
    dict of str to Span
        In the order of `rows`.
    int
        Rows of the arrays, a multiple of `shard_rows`.
    """
    spans = {}
    for name, count in rows.items():
        old = existing.get(name)
        if old is not None and count <= old.room and name not in moved:
            spans[name] = Span(old.first, count, old.room)
        else:
            room = -(-count // shard_rows) * shard_rows
            spans[name] = Span(end, count, room)
            end += room
    return spans, end
