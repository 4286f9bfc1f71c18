"""Cutting a catalogue into partitions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from galbatch.values import Partition

HEALPIX_ORDER = 29


@dataclass(frozen=True)
class PixelCounts:
    """Rows per HEALPix pixel, only of the pixels that have any.

    Parameters
    ----------
    order : int
        HEALPix order of the pixels.
    pixels : array, shape (k,), int64
        Pixels (nested), ascending.
    counts : array, shape (k,), int64
        Rows in each.
    """

    order: int
    pixels: NDArray[np.int64]
    counts: NDArray[np.int64]

    @classmethod
    def of(cls, healpix_29: NDArray[np.int64], order: int) -> PixelCounts:
        """Count rows by their HEALPix pixel of order 29."""
        pixels, counts = np.unique(healpix_29 >> (2 * (HEALPIX_ORDER - order)), return_counts=True)
        return cls(order, pixels.astype(np.int64), counts.astype(np.int64))

    @classmethod
    def total(cls, histograms: Iterable[PixelCounts], order: int) -> PixelCounts:
        """The sum of histograms of one order."""
        parts = list(histograms)
        if not parts:
            return cls(order, np.empty(0, np.int64), np.empty(0, np.int64))
        pixels, place = np.unique(
            np.concatenate([part.pixels for part in parts]), return_inverse=True
        )
        counts = np.zeros(len(pixels), np.int64)
        np.add.at(counts, place, np.concatenate([part.counts for part in parts]))
        return cls(order, pixels, counts)

    @property
    def rows(self) -> int:
        """Rows in all."""
        return int(self.counts.sum())

    def coarser(self, order: int) -> PixelCounts:
        """The same rows in larger pixels."""
        shift = 2 * (self.order - order)
        pixels, place = np.unique(self.pixels >> shift, return_inverse=True)
        counts = np.zeros(len(pixels), np.int64)
        np.add.at(counts, place, self.counts)
        return PixelCounts(order, pixels, counts)

    def dense(self) -> NDArray[np.int64]:
        """Rows of every pixel of the sky, shape (12 * 4**order,)."""
        sky = np.zeros(12 * 4**self.order, np.int64)
        sky[self.pixels] = self.counts
        return sky


def plan_partitions(
    histogram: PixelCounts, rows: int, apart: Sequence[Partition] = ()
) -> tuple[Partition, ...]:
    """Cut the sky so that no partition has more than `rows` rows, in the largest pixels possible.

    Parameters
    ----------
    histogram : PixelCounts
        At the highest order that a partition may have.
    rows : int
        Most rows of a partition. A pixel of the histogram's own order is not cut further: a
        crowded one may have more.
    apart : sequence of Partition
        Partitions of the store that no row of the histogram falls into: no new partition may
        contain one of them.

    Returns
    -------
    tuple of Partition
        Along the sky; together they hold every row once.
    """
    # hats' generate_alignment gives the same answer (a test compares them) but visits every pixel
    # of the sky in Python - 800 million at order 13 - and refuses a crowded pixel.
    partitions: list[tuple[int, Partition]] = []
    pixels, counts = histogram.pixels, histogram.counts
    for order in range(histogram.order + 1):
        if len(pixels) == 0:
            break
        shift = 2 * (histogram.order - order)
        parents = pixels >> shift
        starts = np.flatnonzero(np.diff(parents, prepend=-1))
        sums = np.add.reduceat(counts, starts)
        fits = sums <= rows
        within = [one.index >> 2 * (one.order - order) for one in apart if one.order > order]
        if within:
            fits &= ~np.isin(parents[starts], within)
        taken = fits | (order == histogram.order)
        for index, held in zip(parents[starts[taken]].tolist(), sums[taken].tolist(), strict=True):
            partitions.append((index << shift, Partition("healpix", order, index, held)))
        lengths = np.diff(starts, append=len(pixels))
        left = ~np.repeat(taken, lengths)
        pixels, counts = pixels[left], counts[left]
    return tuple(partition for _, partition in sorted(partitions))


def extend_partitions(
    existing: Sequence[Partition],
    new_rows: PixelCounts,
    rows: int,
    histogram_of: Callable[[Partition], PixelCounts],
) -> tuple[Partition, ...]:
    """Make room for more rows, and leave every partition alone that has room.

    Parameters
    ----------
    existing : sequence of Partition
        The partitions in the store, with the rows that stay in them.
    new_rows : PixelCounts
        The new rows, at the highest order that a partition may have.
    rows : int
        Most rows of a partition.
    histogram_of : callable
        The rows that stay in one of `existing`, at the same order: called for those that
        must be cut.

    Returns
    -------
    tuple of Partition
        Along the sky. One of `existing` that overflows is cut into smaller pixels, one without rows
        is left out, and all others are there as they were, whatever the number of their rows.
    """
    top = new_rows.order
    ordered = sorted(existing, key=lambda one: one.index << 2 * (top - one.order))
    lows = np.array([one.index << 2 * (top - one.order) for one in ordered], np.int64)
    highs = np.array([(one.index + 1) << 2 * (top - one.order) for one in ordered], np.int64)
    place = np.searchsorted(lows, new_rows.pixels, side="right") - 1
    inside = place >= 0
    inside[inside] = new_rows.pixels[inside] < highs[place[inside]]
    outside = PixelCounts(top, new_rows.pixels[~inside], new_rows.counts[~inside])
    found = list(plan_partitions(outside, rows, ordered))
    coming = np.zeros(len(ordered), np.int64)
    np.add.at(coming, place[inside], new_rows.counts[inside])
    for number, one in enumerate(ordered):
        total = one.rows + int(coming[number])
        if total > rows and coming[number] and one.order < top:
            mine = inside & (place == number)
            added = PixelCounts(top, new_rows.pixels[mine], new_rows.counts[mine])
            found += plan_partitions(PixelCounts.total([histogram_of(one), added], top), rows)
        elif total:
            found.append(replace(one, rows=total))
    return tuple(sorted(found, key=lambda one: one.index << 2 * (top - one.order)))


def plan_row_ranges(
    rows: int, size: int, left_out: NDArray[np.int64] | None = None
) -> tuple[Partition, ...]:
    """Cut consecutive rows.

    Parameters
    ----------
    rows : int
        How many there are.
    size : int
        Range i is the rows from ``i * size`` to ``(i + 1) * size``.
    left_out : array of int64, optional
        Numbers of rows that do not belong to the catalogue.

    Returns
    -------
    tuple of Partition
        Those that hold any row.
    """
    held = np.array([min(size, rows - start) for start in range(0, rows, size)], np.int64)
    if left_out is not None and len(left_out):
        held -= np.bincount(left_out // size, minlength=len(held))
    return tuple(
        Partition("rows", 0, index, number) for index, number in enumerate(held.tolist()) if number
    )
