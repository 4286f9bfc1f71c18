"""Quasars of the simulated sky, against what is published and against real spectra."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from scipy import stats

from galbatch.errors import SpecError
from galbatch.mock.galaxies import COSMOLOGY
from galbatch.mock.objects import Objects
from galbatch.mock.observe import mock_batches
from galbatch.mock.photometry import band_flux, transmission
from galbatch.mock.population import Population
from galbatch.mock.quasars import (
    TO_1450,
    Quasars,
    quasar_density,
    quasar_grid,
    quasar_spectrum,
    smc_curve,
)
from galbatch.sample.labels import labels
from galbatch.spec import load_survey
from galbatch.spec.survey import Band, Survey
from galbatch.values import GALAXY, QSO, STAR

# Effective wavelengths and widths of the SDSS bands (Fukugita et al. 1996).
SDSS = tuple(
    Band(name=name, wavelength=centre, width=width)
    for name, centre, width in (
        ("u", 3551, 567), ("g", 4686, 1387), ("r", 6166, 1373), ("i", 7480, 1526), ("z", 8932, 950),
    )
)  # fmt: skip
ROWS = 20_000
WHOLE_SKY = 41_253.0


@pytest.fixture(scope="module")
def sky() -> Objects:
    return Quasars(SDSS, 2, (16.0, 22.5)).draw(np.random.default_rng(3), ROWS)


def magnitudes(sky: Objects) -> np.ndarray:
    return 23.9 - 2.5 * np.log10(sky.flux)


def colours(sky: Objects, low: float, high: float) -> np.ndarray:
    """Of neighbouring bands, for quasars between two redshifts."""
    return -np.diff(magnitudes(sky)[(sky.redshift > low) & (sky.redshift < high)], axis=1)


def test_what_a_quasar_is(sky: Objects) -> None:
    assert len(sky) == ROWS
    assert sky.is_qso.all() and not sky.is_star.any()
    assert (sky.radius == 0).all() and (sky.axis_ratio == 1).all()
    for name in ("log_mass", "abs_mag_b", "spectral_type"):
        assert np.isnan(getattr(sky, name)).all()
    assert sky.redshift.min() >= 0.3 and sky.redshift.max() <= 5.0
    assert magnitudes(sky)[:, 2].min() > 16.0 - 1e-3 and magnitudes(sky)[:, 2].max() < 22.5 + 1e-3


def test_median_colours_are_those_of_sdss(sky: Objects) -> None:
    # Richards et al. (2001, AJ 121, 2308): on average a power law of index -0.5; lines and the
    # 3000 A bump move single redshifts by up to 0.2 mag, but even out between 1 and 2.
    centre = np.array([band.wavelength for band in SDSS])
    power_law = 2.5 * 0.5 * np.log10(centre[1:] / centre[:-1])
    found = [np.median(colours(sky, low, low + 0.1), axis=0) for low in np.arange(1.0, 2.0, 0.1)]
    assert np.abs(np.mean(found, axis=0) - power_law).max() < 0.12
    assert np.abs(found - power_law).max() < 0.35


def test_colours_scatter_like_those_of_sdss(sky: Objects) -> None:
    # The same: indices of -0.5 +- 0.65 (95 %), with a red tail.
    found = [colours(sky, low, low + 0.1)[:, 1:].sum(axis=1) for low in np.arange(1.0, 2.0, 0.1)]
    off = np.concatenate([blue - np.median(blue) for blue in found])
    expected = 2.5 * 0.325 * np.log10(SDSS[4].wavelength / SDSS[1].wavelength)
    low, high = np.percentile(off, [16, 84])
    assert (high - low) / 2 == pytest.approx(expected, rel=0.3)
    assert stats.skew(off) > 0.1


def test_they_have_an_ultraviolet_excess_until_the_forest_takes_it(sky: Objects) -> None:
    # The oldest of selections, u - g < 0.6 below redshift 2.2 (Richards et al. 2002, AJ 123, 2945).
    assert np.mean(colours(sky, 0.6, 2.1)[:, 0] < 0.6) > 0.95
    assert np.mean(colours(sky, 2.9, 3.5)[:, 0] > 0.6) > 0.95
    assert np.median(colours(sky, 3.6, 4.2)[:, 1]) > 0.9


def test_real_spectra_have_these_colours(survey_data: Path) -> None:
    folder = survey_data / "sdss_spectra_110"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there")
    wave = np.load(folder / "wavelength.npy")
    rows = pd.read_parquet(folder / "sdss_spectra_110.parquet")
    rows = rows[(rows["cls"] == "QSO") & (rows["sn"] > 3) & rows["z"].between(0.5, 3.0)]
    spectra, good = np.stack(rows["flux"].to_list()), np.stack(rows["ivar"].to_list()) > 0
    filled = [np.interp(wave, wave[use], one[use]) for one, use in zip(spectra, good, strict=True)]
    gri = SDSS[1:4]
    real = -2.5 * np.log10(band_flux(wave, np.array(filled), transmission(wave, gri)))
    mock = -2.5 * np.log10(quasar_grid(gri).of(rows["z"].to_numpy(), np.ones((len(rows), 3))))
    off = np.diff(mock, axis=1) - np.diff(real, axis=1)
    assert len(rows) > 20
    assert np.abs(np.median(off, axis=0)).max() < 0.1


def test_lyman_alpha_goes_through_the_bands() -> None:
    survey = load_survey("jpas")
    narrow = tuple(band for band in survey.bands if band.width < 200)
    centre = np.array([band.wavelength for band in narrow])
    redshift = np.linspace(2.4, 5.0, 27)
    flux = quasar_grid(narrow).of(redshift, np.ones((len(redshift), 3)))
    # By its contrast with the bands around it: the forest on one side, the continuum on the other.
    contrast = flux[:, 2:-2] / (0.5 * (flux[:, :-4] + flux[:, 4:]))
    line = centre[2:-2][contrast.argmax(axis=1)]
    assert np.abs(line - 1216.0 * (1.0 + redshift)).max() < 150.0


def test_nothing_passes_the_lyman_limit_from_afar() -> None:
    bands = load_survey("jpas").bands[:1]
    red = Band(name="r", wavelength=6250, width=1250)
    flux = quasar_grid((*bands, red)).of(np.array([1.5, 4.6]), np.ones((2, 3)))
    assert flux[0, 0] / flux[0, 1] > 0.5
    assert flux[1, 0] / flux[1, 1] < 0.02


def test_lines_have_their_equivalent_widths() -> None:
    wave = np.arange(1450.0, 5100.0, 0.5)
    parts = quasar_spectrum(wave)
    for part, low, high, expected in ((1, 1500, 1600, 23.78), (3, 4980, 5040, 13.23)):
        near = (wave > low) & (wave < high)
        width = (parts[part] / parts[0])[near].sum() * 0.5
        assert width == pytest.approx(expected, rel=0.02)
    assert np.interp(1450.0, wave, parts[0]) == pytest.approx(1.0)


def test_continuum_has_the_published_indices() -> None:
    for low, high, index in ((1300, 4900, -0.44), (5200, 8000, -2.45), (700, 900, -1.70)):
        continuum = quasar_spectrum(np.array([low, high], float))[0]
        slope = np.log(continuum[1] / continuum[0]) / np.log(high / low)
        assert -2.0 - slope == pytest.approx(index, abs=0.01)


def test_dust_is_that_of_the_small_magellanic_cloud() -> None:
    # Prevot et al. (1984): about 2.9 in V, and 13 where the ultraviolet ends, without a bump.
    assert smc_curve(5500.0) == pytest.approx(2.9, abs=0.1)
    assert 11 < smc_curve(1500.0) < 15
    assert (np.diff(smc_curve(np.arange(912.0, 10_000.0))) < 0).all()


def test_luminosity_function_is_continuous_and_goes_on() -> None:
    absolute = np.arange(-28.0, -23.0)
    jump = np.log10(quasar_density(absolute, 2.2 + 1e-9) / quasar_density(absolute, 2.2 - 1e-9))
    assert np.abs(jump).max() < 0.2
    # At 4.9, where it is extrapolated: McGreer et al. (2013, ApJ 768, 105), Stripe 82.
    measured = {-26.45: -7.84, -25.90: -7.90, -25.35: -7.53, -24.80: -7.36, -24.25: -7.14}
    at_1450 = np.array(list(measured))
    found = np.log10(quasar_density(at_1450 - TO_1450, 4.9))
    assert np.abs(found - list(measured.values())).max() < 0.35


def test_sky_density_is_that_of_sdss() -> None:
    # Richards et al. (2006, AJ 131, 2766): 15,343 quasars in 1622 square degrees, i < 19.1 and,
    # from redshift 3 on, 20.2.
    count = 0.0
    for limit, low, high in ((19.1, 0.0, 3.0), (20.2, 3.0, 9.0)):
        quasars = Quasars(SDSS, 3, (14.0, limit))
        z, _, _ = quasars._candidates(np.random.default_rng(1), 20_000)
        share = np.count_nonzero((z > low) & (z < high)) / 20_000
        count += share * quasars.cumulative[-1] / WHOLE_SKY
    assert count == pytest.approx(15_343 / 1622, rel=0.25)


def test_reference_magnitude_is_that_of_the_luminosity() -> None:
    # Where r observes 1450 A, magnitude and luminosity differ by the distance and 1 + z alone.
    quasars = Quasars((Band(name="x", wavelength=4350.0, width=60.0),), 0, (15.0, 23.0))
    z, absolute = np.array([2.0]), np.array([-26.0])
    apparent = quasars._apparent(z, absolute, np.zeros((1, 3)))
    expected = absolute + TO_1450 + COSMOLOGY.distmod(2.0).value - 2.5 * np.log10(3.0)
    assert apparent == pytest.approx(expected, abs=0.02)


def test_without_quasars_the_sky_is_as_it_was_and_galaxies_come_first() -> None:
    bands, magnitude = load_survey("lsst_dc2").bands, (18.0, 23.0)
    bare, with_quasars = (Population(bands, 3, magnitude, 0.2, share) for share in (0.0, 0.3))
    assert bare.quasars is None
    rng = np.random.default_rng(7)
    drawn = with_quasars.draw(np.random.default_rng(7), 3000)
    rng.random(3000)
    galaxies = with_quasars.galaxies.draw(rng, int((~drawn.is_star & ~drawn.is_qso).sum()))
    assert np.array_equal(drawn.flux[~drawn.is_star & ~drawn.is_qso], galaxies.flux)
    assert not (drawn.is_star & drawn.is_qso).any()
    assert drawn.is_qso.mean() == pytest.approx(0.3, abs=0.05)
    first = bare.draw(np.random.default_rng(7), 3000)
    assert np.array_equal(first.is_star, drawn.is_star) and not first.is_qso.any()


@pytest.fixture(scope="module")
def catalogue() -> tuple[Survey, pa.Table]:
    survey = load_survey("jpas")
    return survey, next(mock_batches(survey, 4000, 2, 4000))


def test_the_same_rows_for_any_batch_size(catalogue: tuple[Survey, pa.Table]) -> None:
    survey, whole = catalogue
    parts = pa.concat_tables(list(mock_batches(survey, 4000, 2, 900)))
    assert parts.combine_chunks().equals(whole)


def test_the_catalogue_tells_them(catalogue: tuple[Survey, pa.Table]) -> None:
    survey, table = catalogue
    found = labels(survey, table)
    counts = np.bincount(found["star"].astype(int), minlength=3)
    assert counts[QSO] == pytest.approx(80, abs=40) and counts.argmax() == GALAXY
    qso, star = found["star"] == QSO, found["star"] == STAR
    assert np.isfinite(found["redshift"][qso]).all()
    for target in ("log_mass", "spectral_type", "abs_mag_b"):
        assert np.isnan(found[target][qso]).all()  # type: ignore[index]
    # As concentrated as stars.
    concentration = table["CLASS_STAR"].to_numpy()
    assert np.median(concentration[qso]) > np.median(concentration[star]) - 0.2
    assert np.median(concentration[found["star"] == GALAXY]) < 0.4


def test_quasars_that_no_label_tells_are_refused() -> None:
    survey = load_survey("alhambra")
    assert survey.mock is not None
    mock = survey.mock.model_copy(update={"qso_fraction": 0.1})
    with pytest.raises(SpecError, match="quasars that no label tells"):
        mock_batches(survey.model_copy(update={"mock": mock}), 10, 1, 10)


def test_magnitudes_without_quasars_are_an_error() -> None:
    with pytest.raises(SpecError, match="hardly a quasar is between"):
        Quasars(SDSS, 2, (1.0, 4.0)).draw(np.random.default_rng(1), 10)
