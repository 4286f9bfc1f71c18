"""Minima of curves: which count, which are apart, and what a wide one holds."""

from __future__ import annotations

import numpy as np
from toy_bases import GRID, galaxy, stars

from galbatch.spectra.minima import lone, minima_of, other_minima
from galbatch.spectra.stacks import stacked


def test_ends_and_plains_count_once() -> None:
    curve = np.array(
        [[1.0, 2, 2, 0, 0, 3, 5, 4], [3, 2, 1, 1, 1, 2, 2, 2], [2, 2, 2, 2, 2, 2, 2, 2]]
    )
    found = [np.flatnonzero(np.isfinite(row)).tolist() for row in lone(curve)]
    assert [len(places) for places in found] == [3, 1, 1]
    assert found[0][0] == 0 and found[0][-1] == 7
    assert np.isfinite(lone(np.ones((2, 1)))).all()


def test_a_wide_minimum_beats_a_narrow_one_that_is_as_deep() -> None:
    bases = [galaxy(), *stars()]
    stacks = stacked(bases, GRID)
    shifts = np.arange(stacks[0].shifts)
    curve = 100 - 20 * np.exp(-0.5 * ((shifts - 100) / 8) ** 2)
    curve -= 20.5 * np.exp(-0.5 * ((shifts - 300) / 0.7) ** 2)
    others = np.full((1, 4, stacks[1].shifts), 99.0)
    others[0, 2, 1] = 90
    places = [shifts, np.arange(stacks[1].shifts)]
    curves = [curve[None, None], others]

    def best(width: int) -> tuple[int, int]:
        found = minima_of(curves, places, stacks, np.array([30.0]), 25, np.ones(1), width)
        assert len(set(zip(found.stack, found.basis, found.place, strict=True))) == len(found.row)
        np.testing.assert_allclose(
            found.score + found.bonus,
            [
                curves[s][0, b, p]
                for s, b, p in zip(found.stack, found.basis, found.place, strict=True)
            ],
        )
        first = int(found.score.argmin())
        apart = other_minima(found.kind, found.shift, (found.kind[first], found.shift[first]), 25)
        assert len(apart) == len(found.row) - 1
        return int(found.place[first]), int(found.kind[first])

    assert best(0) == (300, 0) and best(10) == (100, 0)


def test_each_class_has_its_best_two_however_bad() -> None:
    stacks = stacked([galaxy(), *stars()], GRID)
    shifts = np.arange(stacks[0].shifts)
    curve = 1000 - 20 * np.exp(-0.5 * ((shifts - 100) / 5) ** 2)
    curve -= 10 * np.exp(-0.5 * ((shifts - 300) / 5) ** 2)
    star = np.full((1, 4, stacks[1].shifts), 50.0)
    star[0, 1, 2] = 10
    found = minima_of(
        [curve[None, None], star], [shifts, np.arange(stacks[1].shifts)], stacks,
        np.array([5.0]), 25, np.ones(1), 0,
    )  # fmt: skip
    assert sorted(zip(found.kind.tolist(), found.place.tolist(), strict=True)) == [
        (0, 100), (0, 300), (2, 2),
    ]  # fmt: skip
