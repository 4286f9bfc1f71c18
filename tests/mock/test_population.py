from __future__ import annotations

import numpy as np
import pytest

from galbatch.errors import SpecError
from galbatch.mock.galaxies import COSMOLOGY, Galaxies
from galbatch.mock.library import load_galaxies
from galbatch.mock.objects import Objects
from galbatch.mock.population import Population, population
from galbatch.mock.relations import mass_function, schechter
from galbatch.spec import load_survey

ROWS = 60_000


@pytest.fixture(scope="module")
def sky() -> Objects:
    survey = load_survey("alhambra")
    reference = survey.band_names.index("F814W")
    drawn = population(survey.bands, reference, (17.0, 25.0), 0.1)
    return drawn.draw(np.random.default_rng(5), ROWS)


def magnitude(sky: Objects) -> np.ndarray:
    reference = load_survey("alhambra").band_names.index("F814W")
    return 23.9 - 2.5 * np.log10(sky.flux[:, reference])


def test_the_reference_magnitude_is_in_range(sky: Objects) -> None:
    assert magnitude(sky).min() > 17.0 - 1e-3
    assert magnitude(sky).max() < 25.0 + 1e-3


def test_fluxes_are_positive_where_light_can_come_from(sky: Objects) -> None:
    # Below the Lyman limit there is nothing: F365W sees that from redshift 3 on.
    assert np.isfinite(sky.flux).all()
    low = ~(sky.redshift > 2.5)
    assert (sky.flux[low] > 0).all()


def test_stars_have_no_truth_of_galaxies(sky: Objects) -> None:
    for name in ("redshift", "log_mass", "abs_mag_b", "spectral_type"):
        assert np.array_equal(np.isnan(getattr(sky, name)), sky.is_star)
    assert (sky.radius[sky.is_star] == 0).all()
    assert abs(sky.is_star.mean() - 0.1) < 5 * np.sqrt(0.09 / ROWS)


def test_redshifts_are_those_of_a_deep_survey(sky: Objects) -> None:
    galaxies = ~sky.is_star
    deep = sky.redshift[galaxies & (magnitude(sky) < 24.5)]
    assert 0.6 < np.median(deep) < 0.85
    medians = [
        np.median(sky.redshift[galaxies & (magnitude(sky) // 1 == whole)])
        for whole in range(19, 25)
    ]
    assert (np.diff(medians) > 0).all()


def test_number_counts_rise_as_in_nature(sky: Objects) -> None:
    edges = np.arange(19.0, 25.1, 1.0)
    galaxies, _ = np.histogram(magnitude(sky)[~sky.is_star], edges)
    stars, _ = np.histogram(magnitude(sky)[sky.is_star], edges)
    slopes = np.diff(np.log10(galaxies))
    assert (slopes > 0.15).all() and (slopes < 0.6).all()
    assert 0.25 < slopes.mean() < 0.45
    assert np.diff(np.log10(stars)).mean() < slopes.mean() - 0.1


def test_faint_stars_are_redder(sky: Objects) -> None:
    names = load_survey("alhambra").band_names
    colour = -2.5 * np.log10(sky.flux[:, names.index("F489W")] / sky.flux[:, names.index("F799W")])
    bright = sky.is_star & (magnitude(sky) < 18.5)
    faint = sky.is_star & (magnitude(sky) > 20) & (magnitude(sky) < 21.5)
    assert np.median(colour[faint]) > np.median(colour[bright])


def test_mass_type_and_luminosity_hang_together(sky: Objects) -> None:
    galaxies = ~sky.is_star
    near = galaxies & (sky.redshift > 0.3) & (sky.redshift < 0.6)
    assert np.corrcoef(sky.log_mass[near], sky.abs_mag_b[near])[0, 1] < -0.7
    massive = near & (sky.log_mass > 10.8)
    light = near & (sky.log_mass < 9.5)
    assert np.median(sky.spectral_type[massive]) < 4.0 < np.median(sky.spectral_type[light])
    assert sky.spectral_type[galaxies].min() >= 1.0
    assert sky.spectral_type[galaxies].max() <= 11.0


def test_absolute_magnitude_is_the_flux_at_that_distance(sky: Objects) -> None:
    # Where a band observes rest-frame B, the K correction is 2.5 log10(1+z) and little else.
    # (A medium band is narrower than Johnson B, which starts at the Balmer break.)
    names = load_survey("alhambra").band_names
    survey = load_survey("alhambra")
    band = survey.bands[names.index("F613W")]
    z = band.wavelength / 4400.0 - 1.0
    seen = np.flatnonzero(~sky.is_star & (np.abs(sky.redshift - z) < 0.02))
    flux = sky.flux[seen, names.index("F613W")]
    modulus = COSMOLOGY.distmod(sky.redshift[seen]).value
    expected = 23.9 - 2.5 * np.log10(flux) - modulus + 2.5 * np.log10(1 + sky.redshift[seen])
    difference = expected - sky.abs_mag_b[seen]
    assert abs(np.median(difference)) < 0.06
    assert np.percentile(np.abs(difference), 90) < 0.2


def test_no_galaxy_is_older_than_the_universe() -> None:
    survey = load_survey("alhambra")
    drawn = population(survey.bands, survey.band_names.index("F814W"), (17.0, 25.0), 0.1)
    candidates = drawn.galaxies._candidates(np.random.default_rng(1), 20_000)
    age = COSMOLOGY.age(candidates["redshift"]).value
    # Within a cell, the age at the cell's own redshift counts.
    assert (load_galaxies().oldest[candidates["pair"]].max(axis=1) < 1.1 * age).all()


def test_mass_functions_are_the_published_ones() -> None:
    # Ilbert et al. (2013), from the same field, have 10**-2.7 per Mpc3 and dex at 10**10.5 M_sun
    # and z = 0.65 for all galaxies.
    both = sum(mass_function(np.array([10.5]), 0.65, passive)[0] for passive in (True, False))
    assert abs(np.log10(both) + 2.5) < 0.2
    assert mass_function(np.array([11.0]), 0.65, True) > mass_function(
        np.array([11.0]), 0.65, False
    )
    single = schechter(np.array([10.0]), np.array([10.0, -1.0, 1.0, 0.0, 0.0]))
    assert single[0] == pytest.approx(1e-3 * np.log(10) / np.e)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_a_sky_of_one_kind(share: float) -> None:
    survey = load_survey("lsst_dc2")
    sky = Population(survey.bands, 3, (20.0, 21.0), share).draw(np.random.default_rng(1), 500)
    assert len(sky) == 500
    assert sky.is_star.mean() == share


def test_magnitudes_without_galaxies_are_an_error() -> None:
    galaxies = Galaxies(load_survey("lsst_dc2").bands, 3, (1.0, 4.0))
    with pytest.raises(SpecError, match="hardly a galaxy is between"):
        galaxies.draw(np.random.default_rng(1), 100)
