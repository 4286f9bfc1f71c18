"""The library of spectra at rest: lines where they belong, widths, and what it was made of."""

from __future__ import annotations

import numpy as np
import pytest

from galbatch.mock.sed_library import AGES, MASSES, library_columns, populations
from galbatch.mock.sky import sky_batches
from galbatch.mock.spectra import CHUNK
from galbatch.spec import load_survey
from galbatch.spectra.grids import SDSS_STEP

GRID = np.linspace(3600.0, 7350.0, 4096)


def test_lines_are_in_vacuum() -> None:
    """Ca K and H of an old population, and the middle of Na D, by their centres."""
    (old,) = populations().spectra(np.array([10.0]), np.array([0.0]))
    wavelengths = populations().grid.wavelengths
    for line in (3934.77, 3969.59, 5894.57):
        near = np.abs(wavelengths - line) < 8
        depth = old[near].max() - old[near]
        centre = (depth**4 * wavelengths[near]).sum() / (depth**4).sum()
        assert centre == pytest.approx(line, abs=1.5), line


def test_a_dispersion_widens_and_keeps_the_flux() -> None:
    made = library_columns(GRID, (1,), 400)
    cold, hot = made["dispersion"] < 120, made["dispersion"] > 280
    flux = made["flux"] / made["flux"].mean(axis=1, keepdims=True)
    rough = np.abs(np.diff(flux, 2, axis=1)).mean(axis=1)
    assert rough[hot].mean() < 0.6 * rough[cold].mean()
    light = populations().spectra(made["age"][:1], made["metallicity"][:1])[0]
    inside = (populations().grid.wavelengths > 3610) & (populations().grid.wavelengths < 7340)
    wide = np.interp(populations().grid.wavelengths[inside], GRID, made["flux"][0])
    assert wide.sum() == pytest.approx((light[inside] * made["mass"][0]).sum(), rel=2e-3)


def test_parameters_are_uniform_and_rows_do_not_depend_on_batches() -> None:
    survey = load_survey("sed_library")
    tables = [next(sky_batches(survey, CHUNK + 50, 2, rows)).slice(0, 20) for rows in (10_000, 20)]
    assert tables[0].equals(tables[1].combine_chunks())
    made = library_columns(GRID, (3,), 4000)
    for name, (low, high) in (("age", AGES), ("mass", MASSES)):
        share = (made[name] - low) / (high - low)
        assert abs(share.mean() - 0.5) < 0.02 and share.min() < 0.01 < 0.99 < share.max()
    assert populations().grid.step == SDSS_STEP


def test_what_the_library_does_not_have() -> None:
    with pytest.raises(ValueError, match="expected wavelengths from 3600"):
        library_columns(np.linspace(3000, 7000, 300), (1,), 5)


def test_a_dusty_library_has_dust_and_lines() -> None:
    made = library_columns(GRID, (5,), 600, dusty=True)
    flux = made["flux"] / made["mass"][:, None]
    colour = np.log(flux[:, GRID < 3900].mean(axis=1) / flux[:, GRID > 7000].mean(axis=1))
    old = made["age"] > 4
    assert np.corrcoef(made["extinction"][old], colour[old])[0, 1] < -0.75
    # H beta is as wide as it says, above the line of the stars.
    near = np.abs(GRID - 4862.7) < 20
    level = np.median(flux[:, np.abs(GRID - 4862.7) < 60], axis=1)
    width = ((flux[:, near] / level[:, None] - 1) * np.gradient(GRID)[near]).sum(axis=1)
    strong = made["log_gas"] > 1.5
    assert np.median(np.log10(width[strong]) - made["log_gas"][strong]) == pytest.approx(0, abs=0.1)


def test_the_dusty_survey_has_a_column_for_everything_that_was_drawn() -> None:
    table = next(sky_batches(load_survey("dusty_sed_library"), 20, 2, 20))
    for name in ("age", "metallicity", "dispersion", "stellar_mass", "extinction", "h_beta"):
        assert table[name].null_count == 0
