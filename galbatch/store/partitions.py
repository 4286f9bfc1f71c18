"""Cutting a catalogue into partitions."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from galbatch.values import Partition

HEALPIX_ORDER = 29


@dataclass(frozen=True)
class Histogram:
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
    def of(cls, healpix_29: NDArray[np.int64], order: int) -> Histogram:
        """Count rows by their HEALPix pixel of order 29."""
        pixels, counts = np.unique(healpix_29 >> (2 * (HEALPIX_ORDER - order)), return_counts=True)
        return cls(order, pixels.astype(np.int64), counts.astype(np.int64))

    @classmethod
    def total(cls, histograms: Iterable[Histogram], order: int) -> Histogram:
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

    def coarser(self, order: int) -> Histogram:
        """The same rows in larger pixels."""
        shift = 2 * (self.order - order)
        pixels, place = np.unique(self.pixels >> shift, return_inverse=True)
        counts = np.zeros(len(pixels), np.int64)
        np.add.at(counts, place, self.counts)
        return Histogram(order, pixels, counts)

    def dense(self) -> NDArray[np.int64]:
        """Rows of every pixel of the sky, shape (12 * 4**order,)."""
        sky = np.zeros(12 * 4**self.order, np.int64)
        sky[self.pixels] = self.counts
        return sky


def plan_partitions(histogram: Histogram, rows: int) -> tuple[Partition, ...]:
    """Cut the sky so that no partition has more than `rows` rows, in the largest pixels possible.

    Parameters
    ----------
    histogram : Histogram
        At the highest order that a partition may have.
    rows : int
        Most rows of a partition. A pixel of the histogram's own order is not cut further: a
        crowded one may have more.

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
        taken = (sums <= rows) | (order == histogram.order)
        for index, held in zip(parents[starts[taken]].tolist(), sums[taken].tolist(), strict=True):
            partitions.append((index << shift, Partition("healpix", order, index, held)))
        lengths = np.diff(starts, append=len(pixels))
        left = ~np.repeat(taken, lengths)
        pixels, counts = pixels[left], counts[left]
    return tuple(partition for _, partition in sorted(partitions))


def plan_row_ranges(kept: NDArray[np.bool_] | int, rows: int) -> tuple[Partition, ...]:
    """Cut consecutive rows.

    Parameters
    ----------
    kept : array of bool, shape (n,), or int
        Which of the n rows of all shards belong to the catalogue; or n, when all do.
    rows : int
        Range i is the rows from ``i * rows`` to ``(i + 1) * rows``.

    Returns
    -------
    tuple of Partition
        Those that hold any row.
    """
    if isinstance(kept, int):
        held = [min(rows, kept - start) for start in range(0, kept, rows)]
    elif len(kept):
        held = np.add.reduceat(kept, np.arange(0, len(kept), rows), dtype=np.int64).tolist()
    else:
        held = []
    return tuple(Partition("rows", 0, index, number) for index, number in enumerate(held) if number)
