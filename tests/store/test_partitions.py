"""Cutting a catalogue into partitions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from galbatch.store.partitions import (
    PixelCounts,
    extend_partitions,
    plan_partitions,
    plan_row_ranges,
)
from galbatch.values import Partition

pixels_of_order_29 = st.lists(st.integers(0, 12 * 4**29 - 1), min_size=1, max_size=200)


def test_hats_would_cut_the_same() -> None:
    from hats.pixel_math.partition_stats import generate_alignment

    rng = np.random.default_rng(1)
    crowded = rng.integers(0, 4**26, 2000) + 7 * 4**28
    healpix = np.concatenate([rng.integers(0, 12 * 4**29, 3000), crowded])
    histogram = PixelCounts.of(healpix, 5)
    threshold = max(150, int(histogram.counts.max()))
    theirs = generate_alignment(histogram.dense(), highest_order=5, threshold=threshold)
    expected = {tuple(int(word) for word in found) for found in theirs if found is not None}
    ours = plan_partitions(histogram, threshold)
    assert {(p.order, p.index, p.rows) for p in ours} == expected
    assert len({p.order for p in ours}) > 2


@settings(deadline=None)
@given(pixels_of_order_29, st.integers(1, 50), st.integers(0, 13))
def test_every_row_is_in_exactly_one_partition(pixels: list[int], rows: int, order: int) -> None:
    healpix = np.array(pixels)
    partitions = plan_partitions(PixelCounts.of(healpix, order), rows)
    held = np.zeros(len(healpix), int)
    for partition in partitions:
        inside = healpix >> 2 * (29 - partition.order) == partition.index
        assert inside.sum() == partition.rows > 0
        assert partition.rows <= rows or partition.order == order
        held += inside
    assert (held == 1).all()
    starts = [partition.index << 2 * (29 - partition.order) for partition in partitions]
    assert starts == sorted(starts)


def test_a_crowded_pixel_of_the_highest_order_stays_whole() -> None:
    (partition,) = plan_partitions(PixelCounts.of(np.zeros(1000, np.int64), 13), 10)
    assert (partition.order, partition.rows) == (13, 1000)


def test_histograms_add_up() -> None:
    healpix = np.random.default_rng(0).integers(0, 12 * 4**29, 5000)
    whole = PixelCounts.of(healpix, 6)
    parts = [PixelCounts.of(part, 6) for part in np.array_split(healpix, 7)]
    total = PixelCounts.total(parts, 6)
    np.testing.assert_array_equal(total.dense(), whole.dense())
    coarse = whole.coarser(2)
    np.testing.assert_array_equal(coarse.dense(), whole.dense().reshape(-1, 4**4).sum(axis=1))
    assert total.rows == coarse.rows == 5000
    assert PixelCounts.total([], 3).rows == 0
    assert plan_partitions(PixelCounts.total([], 3), 5) == ()


@settings(max_examples=60, deadline=None)
@given(pixels_of_order_29, pixels_of_order_29, st.integers(1, 40))
def test_news_leave_alone_what_can_be(first: list[int], more: list[int], rows: int) -> None:
    top = 6
    old, new = (PixelCounts.of(np.array(pixels), top) for pixels in (first, more))
    held = plan_partitions(old, rows)
    place = {
        one: PixelCounts.of(np.array([p for p in first if _within(p, one)]), top) for one in held
    }
    found = extend_partitions(held, new, rows, lambda one: place[one])
    both = [*first, *more]
    assert sum(one.rows for one in found) == len(both)
    for one in found:
        assert sum(_within(pixel, one) for pixel in both) == one.rows
        assert one.rows <= rows or one.order == top or one in held
    for one in held:
        coming = sum(_within(pixel, one) for pixel in more)
        if one.rows + coming <= rows or not coming:
            assert one in found


def _within(pixel: int, one: Partition) -> bool:
    return pixel >> 2 * (29 - one.order) == one.index


@pytest.mark.parametrize("rows", [1, 3, 7, 100])
def test_row_ranges(rows: int) -> None:
    kept = np.array([True, False, True, False, False, False, True, True])
    ranges = plan_row_ranges(len(kept), rows, np.flatnonzero(~kept))
    assert sum(partition.rows for partition in ranges) == 4
    for partition in ranges:
        part = kept[partition.index * rows : (partition.index + 1) * rows]
        assert part.sum() == partition.rows > 0


def test_row_ranges_of_nothing() -> None:
    assert plan_row_ranges(0, 5) == ()
