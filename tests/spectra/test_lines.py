"""What a network is shown of spectra: lines at rest, and pixels as observed and at rest."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from galbatch.spectra.grids import LogGrid
from galbatch.spectra.lines import COUNT, line_numbers
from galbatch.spectra.network_input import BIN, REST, NetworkInput

GRID = LogGrid(3.5563, 1e-4, 4076)
PLACES = {"beta": (4862.7, 30.0), "oxygen": (5008.2, 90.0), "alpha": (6564.6, 100.0),
          "nitrogen": (6585.3, 40.0)}  # fmt: skip


def galaxy(grid: LogGrid, redshift: float = 0.0) -> NDArray[np.float64]:
    """A continuum of 10 with four lines whose areas are counted in pixels."""
    found = np.full(grid.points, 10.0)
    pixel = np.arange(grid.points)
    for place, area in PLACES.values():
        centre = (np.log10(place * (1 + redshift)) - grid.first) / grid.step
        found += area * np.exp(-0.5 * ((pixel - centre) / 2.3) ** 2) / (2.3 * np.sqrt(2 * np.pi))
    return found


def test_areas_and_ratios_of_lines() -> None:
    flux = galaxy(REST)[None]
    found = line_numbers(flux, np.full(flux.shape, 4.0), REST)
    assert found.shape == (1, COUNT)
    height, across = np.log10(90 / 30), np.log10(40 / 100)
    told = found[0, 12:15]
    np.testing.assert_allclose(told, [height + 1.2 * across - 0.22, height, across], atol=0.03)
    error = 0.5 * np.sqrt(2.3 * 2 * np.sqrt(np.pi))
    assert abs(np.sinh(found[0, 2]) / (90 / error) - 1) < 0.1


def test_what_has_no_data_measures_nothing() -> None:
    flux = np.stack([galaxy(REST)] * 2)
    weights = np.full(flux.shape, 4.0)
    weights[0], weights[1, REST.wavelengths > 6000] = 0.0, 0.0
    found = line_numbers(flux, weights, REST)
    assert not found[0].any()
    assert found[1, 2] > 1 and not found[1, 6:16].any()


def test_a_redshift_moves_a_spectrum_to_rest() -> None:
    maker = NetworkInput(GRID)
    redshifts = GRID.redshifts(np.array([0, 300, 900]))
    flux = np.stack([galaxy(GRID, redshift) for redshift in redshifts])
    ivar = np.full(flux.shape, 4.0)
    made = maker(flux, ivar, redshifts)
    rest = made[:, 2 * maker.observed : -COUNT].reshape(3, 2, -1)
    both = (rest[0, 0] != 0) & (rest[1, 0] != 0) & (rest[2, 0] != 0)
    both &= np.roll(both, 1)  # the first has half of its pixels
    assert both.sum() > 1000
    np.testing.assert_allclose(rest[1][:, both], rest[0][:, both], atol=0.02)
    np.testing.assert_allclose(made[1:, -COUNT:-12], made[:1, -COUNT:-12].repeat(2, 0), atol=0.05)
    line = np.log10(6564.6 / 10**REST.first) / REST.step / BIN
    assert abs(int(rest[2, 1].argmax()) - line) <= 1


def test_rows_do_not_depend_on_each_other() -> None:
    maker, rng = NetworkInput(GRID), np.random.default_rng(1)
    flux = galaxy(GRID) + rng.normal(0, 1, (7, GRID.points))
    ivar = np.where(rng.random(flux.shape) < 0.05, 0.0, 1.0)
    redshifts = np.array([0.0, 0.1, 0.2, np.nan, 1.0, 4.0, 0.3])
    together = maker(flux, ivar, redshifts)
    assert np.isfinite(together).all()
    for row in range(7):
        part = slice(row, row + 1)
        np.testing.assert_array_equal(
            maker(flux[part], ivar[part], redshifts[part])[0], together[row]
        )
    ivar[:] = 0
    assert not maker(flux, ivar, redshifts).any()
