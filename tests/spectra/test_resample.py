"""Resampling: flux is conserved and errors are propagated; whole pixels are placed."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from galbatch.errors import SpecError
from galbatch.spectra.axis import to_axis
from galbatch.spectra.grids import LogGrid
from galbatch.spectra.resample import (
    edges_of,
    overlaps,
    resample_smooth,
    resampler,
)

Array = NDArray[np.float64]


def integral(edges: Array, values: Array, low: float, high: float) -> float:
    """Of a function of steps, pixel after pixel."""
    total = 0.0
    for left, right, value in zip(edges[:-1], edges[1:], values, strict=True):
        total += value * max(0.0, min(right, high) - max(left, low))
    return total


def widths(seed: int, count: int) -> Array:
    return np.random.default_rng(seed).uniform(0.3, 2.0, count)


@given(st.integers(0, 10_000), st.integers(2, 30), st.integers(1, 30))
def test_pixels_have_the_mean_of_what_they_cover(seed: int, many: int, few: int) -> None:
    old = np.concatenate([[4000.0], 4000 + np.cumsum(widths(seed, many))])
    new = np.concatenate([[3999.0], 3999 + np.cumsum(widths(seed + 1, few))])
    flux = np.random.default_rng(seed).standard_normal((2, many))
    ivar = np.random.default_rng(seed).uniform(0.1, 3, (2, many))
    moved, weight = resampler(old, new).both(flux, ivar)
    for pixel, (low, high) in enumerate(pairwise(new)):
        inside = low >= old[0] - 1e-9 and high <= old[-1] + 1e-9
        if not inside:
            assert np.all(moved[:, pixel] == 0) and np.all(weight[:, pixel] == 0)
            continue
        for row in range(2):
            mean = integral(old, flux[row], low, high) / (high - low)
            assert moved[row, pixel] == pytest.approx(mean, rel=1e-9, abs=1e-12)
            parts = [
                max(0.0, min(right, high) - max(left, low)) / (high - low)
                for left, right in pairwise(old)
            ]
            variance = sum(part**2 / each for part, each in zip(parts, ivar[row], strict=True))
            assert 1 / weight[row, pixel] == pytest.approx(variance, rel=1e-9)


def test_the_peers_agree() -> None:
    spectres = pytest.importorskip("spectres", reason="the judge of resampling is not installed")
    old = np.linspace(3600, 9800, 4389)
    new = LogGrid(3.5563, 1e-4, 4076).wavelengths
    flux = 1 + 0.1 * np.random.default_rng(1).standard_normal((3, len(old)))
    error = np.full_like(flux, 0.1)
    moved, weight = resampler(edges_of(old), edges_of(new)).both(flux, error**-2)
    expected, errors = spectres.spectres(new, old, flux, error, fill=0, verbose=False)
    inside = weight[0] > 0
    assert inside.sum() > 4000
    np.testing.assert_allclose(moved[:, inside], expected[:, inside], rtol=1e-6)
    np.testing.assert_allclose(weight[:, inside] ** -0.5, errors[:, inside], rtol=1e-6)


def test_the_sum_of_the_flux_is_kept() -> None:
    old, new = np.linspace(3000, 5000, 400), np.geomspace(2900, 5100, 333)
    flux = np.random.default_rng(2).uniform(1, 2, 399)
    sums = (overlaps(old, new) @ flux * np.diff(new)).sum()
    assert sums == pytest.approx((flux * np.diff(old)).sum(), rel=1e-12)


def test_a_pixel_without_data_spoils_those_that_it_is_part_of_and_no_others() -> None:
    old, new = np.arange(4000.0, 4011), np.arange(4000.5, 4010)
    flux, ivar = np.ones((3, 10)), np.ones((3, 10))
    flux[0, 4], ivar[1, 4], ivar[2, 4] = np.nan, -1, np.inf
    moved, weight = resampler(old, new).both(flux, ivar)
    assert np.all(np.flatnonzero(weight[0] == 0) == [3, 4])
    assert np.all((weight == 0) == (weight[0] == 0)) and np.all(moved[weight == 0] == 0)
    np.testing.assert_allclose(weight[weight > 0], 2)


def test_edges_lie_between_and_refuse_what_does_not_increase() -> None:
    np.testing.assert_allclose(edges_of(np.array([1.0, 2.0, 4.0])), [0.5, 1.5, 3.0, 5.0])
    for bad in ([1.0], [3.0, 2.0, 1.0], [1.0, 1.0, 2.0], [1.0, np.nan, 2.0]):
        with pytest.raises(SpecError, match="that increase"):
            edges_of(np.array(bad))


def test_smooth_templates_keep_flux_and_the_width_of_lines() -> None:
    old = LogGrid(3.6, 1e-4, 2000)
    new = LogGrid(3.60504, 1e-4, 1800)
    away = (old.logarithms - 3.7) / 1e-4
    moved = resample_smooth(np.exp(-0.5 * (away / 2) ** 2)[None], old.edges, new.edges)[0]
    expected = np.exp(-0.5 * ((new.logarithms - 3.7) / 2e-4) ** 2)
    np.testing.assert_allclose(moved, expected, atol=2e-3)
    flat = resampler(old.edges, new.edges).flux(np.exp(-0.5 * (away / 2) ** 2)[None])[0]
    assert abs(flat - expected).max() > 10 * abs(moved - expected).max()


@given(st.integers(-30, 30), st.integers(1, 40))
def test_whole_pixels_are_placed_untouched(steps: int, points: int) -> None:
    old = LogGrid(3.5563, 1e-4, 20)
    new = LogGrid(3.5563 + steps * 1e-4 + 5e-7, 1e-4, points + 1)
    flux = np.arange(40.0).reshape(2, 20) + 1
    way = to_axis(old.wavelengths, new.wavelengths)
    placed, weight = way.spectra(flux, np.ones_like(flux))
    assert way.shift == -steps
    for pixel in range(points + 1):
        before = pixel + steps
        if 0 <= before < 20:
            assert np.all(placed[:, pixel] == flux[:, before]) and np.all(weight[:, pixel] == 1)
        else:
            assert np.all(np.isnan(placed[:, pixel])) and np.all(weight[:, pixel] == 0)


@pytest.mark.parametrize("new", [LogGrid(3.5563 + 2e-6, 1e-4, 20), LogGrid(3.5563, 1.001e-4, 20)])
def test_grids_out_of_step_are_resampled(new: LogGrid) -> None:
    way = to_axis(LogGrid(3.5563, 1e-4, 20).wavelengths, new.wavelengths)
    assert way.shift is None and way.resampler is not None
