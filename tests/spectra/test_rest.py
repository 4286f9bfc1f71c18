"""Spectra at rest: moved, made comparable, and whole."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from galbatch.spectra.filling import FLOOR, Expected, expected_of, softened, weighted_components
from galbatch.spectra.grids import LogGrid
from galbatch.spectra.rest import ToRest, rest_grid

GRID = LogGrid(3.56, 1e-4, 3800)
REST = rest_grid(3700.0, 6200.0, 200)
TO_REST = ToRest(GRID, REST)
Array = NDArray[np.float64]


def at(redshift: Array) -> Array:
    """A smooth spectrum with lines, at redshifts, on the grid."""
    rest = GRID.wavelengths / (1 + redshift[:, None])
    lines = sum(np.exp(-0.5 * ((rest - line) / 12) ** 2) for line in (3970, 4340, 4861, 5007))
    return np.asarray(1 + 0.3 * np.sin(rest / 300) + 2 * lines)


def family(rows: int, seed: int = 1) -> tuple[Array, Array]:
    """Spectra at rest of two numbers and a level, with noise of 3 %."""
    rng = np.random.default_rng(seed)
    x = np.linspace(-1, 1, REST.points)
    slope, bump = rng.normal(0, 1, (2, rows, 1))
    flux = 1 + 0.2 * slope * x + 0.1 * bump * np.exp(-((x / 0.1) ** 2))
    level = 10 ** rng.uniform(-3, 3, (rows, 1))
    noisy = flux * level + rng.normal(0, 0.03, flux.shape) * level
    return noisy, np.ones_like(flux) / (0.03 * level) ** 2


def test_the_grid_has_its_ends() -> None:
    assert REST.edges[[0, -1]] == pytest.approx([3700, 6200])
    assert REST.points == 200


def test_copies_at_other_redshifts_are_the_same_at_rest() -> None:
    redshift = np.array([0.0, 0.05, 0.1234, 0.2, 0.33])
    flux = at(redshift)
    moved, ivar = TO_REST(flux, np.ones_like(flux), redshift)
    for row in range(1, len(redshift)):
        both = (ivar[0] > 0) & (ivar[row] > 0)
        assert both.sum() > 150
        # Half a pixel of the grid is 0.4 Angstrom: 0.05 at the flank of a line.
        np.testing.assert_allclose(moved[row][both], moved[0][both], atol=0.06)


def test_a_shift_by_whole_pixels_changes_no_number() -> None:
    redshift = GRID.redshifts(np.array([0, 137, 600]))
    rng = np.random.default_rng(2)
    start = rng.uniform(1, 2, GRID.points + 600)
    flux = np.stack([start[600 - shift : 600 - shift + GRID.points] for shift in (0, 137, 600)])
    moved, ivar = TO_REST(flux, np.ones_like(flux), redshift)
    both = (ivar > 0).all(axis=0)
    assert both.sum() > 100
    np.testing.assert_array_equal(moved[:, both], np.repeat(moved[:1, both], 3, axis=0))


def test_means_are_by_inverse_variance_and_a_half_must_be_there() -> None:
    wanted = LogGrid(3.56 + 1.5e-4, 4e-4, 100)
    rng = np.random.default_rng(3)
    flux = rng.normal(1, 1, (1, GRID.points))
    ivar = rng.uniform(1, 5, (1, GRID.points))
    ivar[0, 4:6], ivar[0, 8:11] = 0, 0
    moved, inverse = ToRest(GRID, wanted)(flux, ivar, np.zeros(1))
    # Pixels of the same width, to a ten-thousandth.
    assert moved[0, 0] == pytest.approx(np.average(flux[0, :4], weights=ivar[0, :4]), abs=1e-3)
    assert inverse[0, 0] == pytest.approx(ivar[0, :4].sum(), rel=1e-3)
    assert moved[0, 1] == pytest.approx(np.average(flux[0, 6:8], weights=ivar[0, 6:8]), abs=1e-3)
    assert (moved[0, 2], inverse[0, 2]) == (0, 0)


@pytest.mark.parametrize("redshift", [np.nan, 30.0, -0.9, -1.0])
def test_out_of_sight_there_are_no_data(redshift: float) -> None:
    flux = np.ones((1, GRID.points))
    moved, ivar = TO_REST(flux, flux, np.array([redshift]))
    assert not moved.any() and not ivar.any()


def test_weights_are_bounded() -> None:
    ivar = np.array([0.0, 1.0, 1e4, 1e30])
    found = softened(ivar)
    assert found[0] == 0 and found[1] == pytest.approx(1, rel=1e-3)
    assert found[2] == pytest.approx(1 / (1e-4 + FLOOR**2))
    assert found[3] == pytest.approx(2000)


def test_missing_pixels_are_filled_and_levels_hold() -> None:
    flux, ivar = family(400)
    expected = expected_of(flux, ivar, 3)
    assert expected.known.all()
    assert (expected.mean**2).mean() == pytest.approx(1)
    held, errors = family(60, seed=5)
    whole = expected.whole(held, errors)
    seen = np.arange(REST.points) < 120
    part = expected.whole(np.where(seen, held, 1e9), np.where(seen, errors, 0.0))
    assert (part.weights[:, ~seen] == 0).all()
    np.testing.assert_allclose(part.level, whole.level, rtol=0.05)
    scale = (part.level / whole.level)[:, None]
    assert np.abs(part.spectra * scale - whole.spectra)[:, ~seen].std() < 0.05
    # Where there are data, they stand as they are.
    np.testing.assert_allclose((part.spectra * part.level[:, None])[:, seen], held[:, seen])


def test_what_stands_in_masked_pixels_changes_nothing() -> None:
    flux, ivar = family(100)
    rng = np.random.default_rng(6)
    masked = rng.random(flux.shape) < 0.2
    ivar = np.where(masked, 0.0, ivar)
    found = []
    for junk in (0.0, np.nan, 1e30):
        given = np.where(masked, junk, flux)
        expected = expected_of(given, ivar, 2)
        whole = expected.whole(given, ivar)
        found.append([*vars(expected).values(), *vars(whole).values()])
    for other in found[1:]:
        for one, same in zip(found[0], other, strict=True):
            np.testing.assert_array_equal(one, same)


def test_no_flux_and_no_data_have_no_level() -> None:
    flux, ivar = family(100)
    flux[3], ivar[4] = -flux[3], 0
    expected = expected_of(flux, ivar, 2)
    whole = expected.whole(flux, ivar)
    np.testing.assert_array_equal(np.flatnonzero(~np.isfinite(whole.level)), [3, 4])
    assert np.isfinite(whole.spectra).all() and np.isfinite(whole.weights).all()


def test_a_pixel_that_no_spectrum_has_is_not_known(tmp_path: Any) -> None:
    flux, ivar = family(100)
    ivar[:, :20] = 0
    expected = expected_of(flux, ivar, 2)
    np.testing.assert_array_equal(expected.known, np.arange(REST.points) >= 20)
    assert np.isfinite(expected.mean).all() and not expected.vectors[:, :20].any()
    expected.save(tmp_path / "expected.npz")
    again = Expected.load(tmp_path / "expected.npz")
    for name, values in vars(expected).items():
        np.testing.assert_array_equal(getattr(again, name), values)


def test_components_span_what_spectra_differ_by() -> None:
    rng = np.random.default_rng(7)
    axes = np.stack([np.linspace(-1, 1, 80), np.sin(np.arange(80) / 5.0)])
    away = rng.normal(0, 1, (300, 2)) @ axes + rng.normal(0, 0.01, (300, 80))
    weights = np.where(rng.random(away.shape) < 0.3, 0.0, 1e4)
    weights[:, :40] *= 0.1
    found = weighted_components(np.where(weights > 0, away, 0.0), weights, 2)
    left = axes - axes @ np.linalg.pinv(found) @ found
    assert np.abs(left).max() < 0.01
