from __future__ import annotations

import numpy as np
import pytest

from galbatch.mock.attenuation import dust_transmission, igm_transmission
from galbatch.mock.library import L_SUN, PARSEC, add_lines, load_galaxies, load_stars
from galbatch.mock.photometry import (
    STARS_TO_GAS,
    band_flux,
    galaxy_grid,
    star_fluxes,
    transmission,
)
from galbatch.spec.survey import Band

NARROW = Band(name="n", wavelength=6600.0, width=145.0)
BROAD = Band(name="i", wavelength=7600.0, width=1500.0)
BLUE = Band(name="u", wavelength=3700.0, width=600.0)
BANDS = (BLUE, NARROW, BROAD)


def test_a_band_has_its_centre_and_width() -> None:
    wave = np.arange(2000.0, 12000.0, 1.0)
    response = transmission(wave, BANDS)
    for index, band in enumerate(BANDS):
        inside = wave[response[:, index] > 0.5]
        assert inside[-1] - inside[0] == pytest.approx(band.width, abs=2.0)
        mean = np.average(wave, weights=response[:, index])
        assert mean == pytest.approx(band.wavelength, abs=1.0)


def test_a_flat_spectrum_has_its_flux_in_every_band() -> None:
    wave = np.exp(np.arange(np.log(2500.0), np.log(12000.0), 1e-3))
    flat = 2.99792458e18 * 1e-29 / wave**2
    flux = band_flux(wave, flat[None, :], transmission(wave, BANDS))
    assert flux == pytest.approx(np.ones((1, 3)), rel=1e-6)


@pytest.mark.parametrize("redshift", [0.0, 0.37, 1.2, 2.4])
@pytest.mark.parametrize("ebv", [0.0, 0.3])
def test_the_grid_is_the_integral_over_the_spectrum(redshift: float, ebv: float) -> None:
    """Against pixel by pixel dust, gas and intergalactic medium, without the grid's short cuts."""
    library = load_galaxies()
    sed = np.arange(0, len(library), 7)
    wave = library.wavelength
    observed = wave * (1.0 + redshift)
    line_wave = library.line_wavelength
    lines = library.line_luminosity[sed] * dust_transmission(line_wave, ebv / STARS_TO_GAS)
    stars = library.continuum[sed] * dust_transmission(wave, ebv)
    spectrum = add_lines(wave, stars.astype("f4"), line_wave, lines.astype("f4"))
    spectrum = spectrum * igm_transmission(observed, redshift) / (1.0 + redshift)
    spectrum *= L_SUN / (4.0 * np.pi * (10.0 * PARSEC) ** 2)
    exact = band_flux(observed, spectrum, transmission(observed, BANDS))
    ones = np.ones(len(sed), np.float32)
    quick = galaxy_grid(BANDS).of(
        np.stack([sed, sed], axis=1),
        0.0 * ones,
        np.full(len(sed), redshift),
        np.float32(ebv) * ones,
        ones,
    )
    ratio = -2.5 * np.log10(quick / exact)
    # Broad bands have one attenuation for the whole band, and lines move across pixels.
    assert np.median(np.abs(ratio)) < 0.01
    assert np.abs(ratio[:, [0, 2]]).max() < 0.08
    assert np.percentile(np.abs(ratio[:, 1]), 90) < 0.05


def test_stars_keep_their_colours() -> None:
    flux = star_fluxes((BLUE, BROAD))
    colour = -2.5 * np.log10(flux[:, 0] / flux[:, 1])
    library = load_stars()
    dwarfs = np.flatnonzero(
        (library.luminosity_class == "V") & (library.metallicity == 0) & (library.teff > 3600)
    )
    hot_first = dwarfs[np.argsort(-library.teff[dwarfs])]
    assert np.corrcoef(np.arange(len(hot_first)), colour[hot_first])[0, 1] > 0.9
    sun = list(library.name).index("G2V")
    # Willmer (2018): the Sun has u - i = 2.0 in AB.
    assert colour[sun] == pytest.approx(1.75, abs=0.35)


def test_the_grid_is_made_once() -> None:
    assert galaxy_grid(BANDS) is galaxy_grid(tuple(BANDS))
    assert not galaxy_grid(BANDS).flux.flags.writeable
