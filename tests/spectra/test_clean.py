"""Which pixels are masked: no data, sky lines, spikes; and lines that are none of these."""

from __future__ import annotations

import numpy as np
import pytest

from galbatch.spectra.clean import cleaned, has_data, near_sky_lines, spikes
from galbatch.spectra.grids import LogGrid

GRID = LogGrid(3.5563, 1e-4, 4076)


def test_what_has_no_data_is_told() -> None:
    flux = np.array([[1, np.nan, np.inf, 1, 1, 1, 1]])
    ivar = np.array([[1, 1, 1, 0, -1, np.inf, np.nan]])
    assert has_data(flux, ivar).tolist() == [[True, *[False] * 6]]


def test_sky_lines_are_masked_in_the_observed_frame() -> None:
    found = near_sky_lines(GRID)
    np.testing.assert_array_equal(found, abs(GRID.wavelengths - 5577) <= 12)
    assert 15 <= found.sum() <= 21
    assert near_sky_lines(GRID, ((5577, 12), (6300, 5))).sum() > found.sum()


@pytest.mark.parametrize("height", [30.0, -30.0, 1000.0])
def test_a_lone_pixel_is_a_spike(height: float) -> None:
    rng = np.random.default_rng(1)
    flux = 5 + rng.standard_normal((1, 500))
    flux[0, 250] += height
    found = spikes(flux, np.ones_like(flux))
    assert found[0, 250] and found.sum() == 1


@pytest.mark.parametrize("full_width", [2.0, 2.5, 3.0, 6.0])
@pytest.mark.parametrize("between", [0.0, 0.25, 0.5])
@pytest.mark.parametrize("height", [20.0, 200.0, 5000.0])
def test_a_line_as_wide_as_the_instrument_resolves_is_kept(
    full_width: float, between: float, height: float
) -> None:
    rng = np.random.default_rng(2)
    pixels = np.arange(500)
    sigma = full_width / 2.3548
    line = height * np.exp(-0.5 * ((pixels - 250 - between) / sigma) ** 2)
    for sign in (1, -1):
        flux = 5 + sign * line + rng.standard_normal((20, 500))
        found = spikes(flux, np.ones_like(flux))
        assert not found[:, 245:257].any()


def test_noise_makes_no_spikes_and_gaps_are_left_alone() -> None:
    flux = np.random.default_rng(3).standard_normal((50, 4000))
    ivar = np.ones_like(flux)
    assert spikes(flux, ivar).sum() <= 2
    flux[:, 100] = 1e6
    ivar[:, 101] = 0
    assert not spikes(flux, ivar)[:, 95:105].any()


def test_cleaned_weights_are_zero_where_anything_is_wrong_and_the_same_elsewhere() -> None:
    flux = np.random.default_rng(4).standard_normal((2, GRID.points))
    ivar = np.full_like(flux, 2.0)
    flux[0, 10], flux[0, 500], ivar[1, 20] = np.nan, 100, -3
    found = cleaned(flux, ivar, GRID)
    bad = np.zeros(flux.shape, dtype=bool)
    bad[0, [10, 500]], bad[1, 20] = True, True
    bad |= near_sky_lines(GRID)
    np.testing.assert_array_equal(found, np.where(bad, 0, ivar))
