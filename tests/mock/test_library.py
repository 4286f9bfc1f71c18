"""The galaxy and star spectra behind the simulated sky are physical."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from galbatch.mock.library import (
    NUV_BAND,
    R_BAND,
    GalaxyLibrary,
    StarLibrary,
    abs_mag_b,
    load_galaxies,
    load_stars,
    spectral_type_of,
)

Array = NDArray[np.float64]

DATA = Path(os.environ.get("GALBATCH_DATA", Path(__file__).parents[2] / ".." / "shared" / "data"))


@pytest.fixture(scope="module")
def galaxies() -> GalaxyLibrary:
    return load_galaxies()


@pytest.fixture(scope="module")
def stars() -> StarLibrary:
    return load_stars()


def top_hat_mag(wave: Array, spectra: NDArray[np.float32], band: tuple[float, float]) -> Array:
    inside = (wave > band[0]) & (wave < band[1])
    photons = np.trapezoid(spectra[:, inside] * wave[inside], wave[inside])
    return np.asarray(-2.5 * np.log10(photons / np.log(band[1] / band[0])))


def break_4000(library: GalaxyLibrary) -> Array:
    """D_n(4000) of Balogh et al. (1999), from mean f_nu."""
    f_nu = library.luminosity * library.wavelength**2
    red = (library.wavelength > 4000.0) & (library.wavelength < 4100.0)
    blue = (library.wavelength > 3850.0) & (library.wavelength < 3950.0)
    return np.asarray(f_nu[:, red].mean(axis=1) / f_nu[:, blue].mean(axis=1))


def line(library: GalaxyLibrary, wavelength: float) -> NDArray[np.float32]:
    nearest = int(np.abs(library.line_wavelength - wavelength).argmin())
    assert abs(library.line_wavelength[nearest] - wavelength) < 2.0
    return np.asarray(library.line_luminosity[:, nearest])


def test_loads_fast_and_always_the_same() -> None:
    first: list[GalaxyLibrary | StarLibrary] = [load_galaxies(), load_stars()]
    load_galaxies.cache_clear()
    load_stars.cache_clear()
    start = time.perf_counter()
    second: list[GalaxyLibrary | StarLibrary] = [load_galaxies(), load_stars()]
    assert time.perf_counter() - start < 0.5
    for before, after in zip(first, second, strict=True):
        for name in before.__dataclass_fields__:
            np.testing.assert_array_equal(getattr(before, name), getattr(after, name))
    assert load_galaxies() is second[0]


@pytest.mark.parametrize("load", [load_galaxies, load_stars])
def test_arrays_are_read_only(load: Callable[[], GalaxyLibrary | StarLibrary]) -> None:
    library = load()
    for name in library.__dataclass_fields__:
        with pytest.raises(ValueError, match="read-only"):
            getattr(library, name)[0] = getattr(library, name)[0]


def test_spectra_are_positive_on_a_logarithmic_grid(
    galaxies: GalaxyLibrary, stars: StarLibrary
) -> None:
    for library, spectra in ((galaxies, galaxies.continuum), (stars, stars.flux)):
        steps = np.diff(np.log(library.wavelength))
        np.testing.assert_allclose(steps, steps[0], rtol=1e-9)
        assert np.isfinite(spectra).all()
        assert (spectra >= 0.0).all()
    assert (galaxies.continuum > 0.0).all()
    assert galaxies.wavelength[0] < 915.0
    assert galaxies.wavelength[-1] > 24000.0
    at_5000 = np.searchsorted(galaxies.wavelength, 5000.0)
    assert np.diff(galaxies.wavelength)[at_5000] < 6.0


def test_lines_are_added_without_loss(galaxies: GalaxyLibrary) -> None:
    width = galaxies.wavelength * 2.0 * np.sinh(np.diff(np.log(galaxies.wavelength))[0] / 2.0)
    added = ((galaxies.luminosity.astype(float) - galaxies.continuum) * width).sum(axis=1)
    total = galaxies.line_luminosity.sum(axis=1)
    emitting = galaxies.log_ssfr > -11.0
    np.testing.assert_allclose(added[emitting], total[emitting], rtol=1e-3)


def test_spectral_type_is_ordered_by_colour_and_spans_the_scale(galaxies: GalaxyLibrary) -> None:
    colour = top_hat_mag(galaxies.wavelength, galaxies.luminosity, NUV_BAND) - top_hat_mag(
        galaxies.wavelength, galaxies.luminosity, R_BAND
    )
    np.testing.assert_allclose(galaxies.nuv_r, colour, atol=2e-3)
    np.testing.assert_allclose(galaxies.spectral_type, spectral_type_of(galaxies.nuv_r), atol=1e-4)
    assert (np.diff(galaxies.spectral_type) >= 0.0).all()
    assert galaxies.spectral_type[0] == 1.0
    assert galaxies.spectral_type[-1] == 11.0
    assert np.histogram(galaxies.spectral_type, np.arange(1, 12))[0].min() >= 5


def test_colours_span_red_sequence_and_blue_cloud(galaxies: GalaxyLibrary) -> None:
    u_r = top_hat_mag(galaxies.wavelength, galaxies.luminosity, (3100.0, 3900.0)) - top_hat_mag(
        galaxies.wavelength, galaxies.luminosity, R_BAND
    )
    passive = galaxies.log_ssfr < -12.0
    forming = galaxies.log_ssfr > -10.0
    coeval = galaxies.oldest - galaxies.age < 0.7
    old = passive & coeval & (galaxies.age > 3.0) & (galaxies.metallicity >= 1.0)
    # Strateva et al. (2001) split the two at u-r = 2.22, dust included.
    assert (u_r[old] > 2.2).all()
    assert u_r[old].max() < 3.2
    assert (u_r[forming] < 1.8).all()
    assert u_r.min() > -0.3
    # Wyder et al. (2007): red sequence at NUV-r of 5 to 6.5, dust-free blue cloud below 3.
    assert (galaxies.nuv_r[old] > 4.9).all()
    assert galaxies.nuv_r.max() < 6.8
    assert (galaxies.nuv_r[forming] < 3.0).all()
    assert galaxies.nuv_r.min() > -0.8


def test_4000_angstrom_break_grows_with_age(galaxies: GalaxyLibrary) -> None:
    break_ = break_4000(galaxies)
    for metallicity in (0.5, 1.0):
        # The shortest timescale: the mean age is 0.2 Gyr below that of the first star.
        coeval = np.isclose(galaxies.metallicity, metallicity)
        coeval &= (galaxies.oldest - galaxies.age < 0.25) & (galaxies.oldest > 0.4)
        ages, values = galaxies.age[coeval], break_[coeval]
        assert len(ages) >= 6
        assert (np.diff(values[np.argsort(ages)]) > 0.0).all()
    assert 1.7 < break_[galaxies.log_ssfr < -12.0].max() < 2.4
    assert break_[galaxies.log_ssfr > -9.0].max() < 1.3


def test_emission_lines_are_those_of_star_forming_regions(galaxies: GalaxyLibrary) -> None:
    halpha, hbeta = line(galaxies, 6562.8), line(galaxies, 4861.3)
    around = (galaxies.wavelength > 6500.0) & (galaxies.wavelength < 6620.0)
    width = halpha / galaxies.continuum[:, around].mean(axis=1)
    # The star-forming sequence, dust-free; its upper tail is bursts on top of old populations.
    sequence = (galaxies.log_ssfr > -10.3) & (galaxies.log_ssfr < -8.8) & (galaxies.age > 0.5)
    low, middle, high = np.percentile(width[sequence], [2.0, 50.0, 90.0])
    assert low > 15.0
    assert 40.0 < middle < 200.0
    assert high < 300.0
    assert width[galaxies.log_ssfr < -12.0].max() < 1.0

    emitting = galaxies.log_ssfr > -11.0
    # Osterbrock & Ferland (2006), case B at 10000 K.
    np.testing.assert_allclose(halpha[emitting] / hbeta[emitting], 2.86, atol=0.12)
    metal_poor = emitting & (galaxies.metallicity < 0.6)
    metal_rich = emitting & (galaxies.metallicity > 0.9)
    oxygen = line(galaxies, 5006.84) / np.maximum(hbeta, 1e-20)
    assert np.median(oxygen[metal_poor]) > 2.0
    assert np.median(oxygen[metal_rich]) < 1.5
    # Kennicutt & Evans (2012): log SFR = log L(Halpha) - 41.27, for solar metallicity.
    steady = metal_rich & (galaxies.age > 1.0) & (galaxies.log_ssfr > -10.5)
    ratio = np.log10(halpha[steady] * 3.828e33) - 41.27 - galaxies.log_ssfr[steady]
    assert abs(np.median(ratio)) < 0.2


def test_mass_to_light_ratios(galaxies: GalaxyLibrary) -> None:
    old = (galaxies.age > 8.0) & (galaxies.log_ssfr < -12.0) & (galaxies.metallicity >= 1.0)
    assert 4.0 < np.median(galaxies.mass_to_light_b[old]) < 8.0
    young = galaxies.age < 0.1
    assert np.median(galaxies.mass_to_light_b[young]) < 0.1
    np.testing.assert_allclose(
        galaxies.abs_mag_b, abs_mag_b(galaxies.wavelength, galaxies.luminosity), atol=2e-3
    )
    # A Kroupa initial mass function returns about 40 % of its mass in 10 Gyr.
    assert 1.0 <= galaxies.formed_to_living.min() < 1.1
    assert 1.6 < galaxies.formed_to_living[old].max() < 1.85
    assert (galaxies.age < galaxies.oldest).all()


def test_stars_cover_the_types(stars: StarLibrary) -> None:
    assert len(set(stars.name.tolist())) == len(stars)
    assert set(stars.luminosity_class.tolist()) == {"V", "IV", "III", "WD"}
    letters = {re.sub("^[wr]", "", name)[0] for name in stars.name.tolist()}
    assert letters == set("OBAFGKMLTD")
    assert stars.teff.min() < 1000.0
    assert stars.teff.max() > 35000.0
    red = (stars.wavelength > 7000.0) & (stars.wavelength < 9000.0)
    np.testing.assert_allclose(stars.flux[:, red].mean(axis=1), 1.0, rtol=1e-3)


needs_data = pytest.mark.skipif(
    not (DATA / "spectral_templates").is_dir(),
    reason=f"no SDSS templates and filter curves in {DATA} (set GALBATCH_DATA)",
)


def filter_curves(system: str, names: list[str] | None = None) -> list[tuple[Array, Array]]:
    """Wavelength in Angstrom and transmission of each band, in order of wavelength."""
    curves = pd.read_parquet(DATA / "filter_curves" / "filter_curves.parquet")
    curves = curves[curves["system"] == system].sort_values("mean_wave")
    if names is not None:
        curves = curves[curves["name"].isin(names)]
    return list(zip(curves["wave"], curves["trans"], strict=True))


def colours(wave: Array, spectra: NDArray[np.floating], curves: list[tuple[Array, Array]]) -> Array:
    """AB colours of neighbouring bands, shape (n, n_band - 1)."""
    mags = []
    for filter_wave, transmission in curves:
        response = np.interp(wave, filter_wave, transmission, left=0.0, right=0.0)
        photons = np.trapezoid(spectra * response * wave, wave)
        mags.append(-2.5 * np.log10(photons / np.trapezoid(response / wave, wave)))
    return np.diff(np.stack(mags, axis=-1), axis=1)


def nearest_star(observed: Array, library: Array) -> tuple[NDArray[np.intp], Array]:
    """The library star closest in colours to each observed one, and the absolute residuals."""
    distance = np.abs(observed[:, None, :] - library[None]).mean(axis=2)
    nearest = distance.argmin(axis=1)
    return nearest, np.abs(observed - library[nearest])


SDSS = [f"{band}_SDSS.lowres" for band in "ugriz"]


@needs_data
@pytest.mark.parametrize(
    ("types", "system", "bands", "limit", "typical"),
    [
        ("FGK", "ALHAMBRA", None, 0.1, 0.02),
        ("FGK", "COSMOS(LePHARE)", SDSS, 0.1, 0.03),
        ("M", "ALHAMBRA", None, 0.3, 0.06),
        # Mira-like giants differ in u from star to star.
        ("M", "COSMOS(LePHARE)", SDSS[1:], 0.3, 0.1),
    ],
)
def test_stars_match_sdss_templates(
    stars: StarLibrary,
    types: str,
    system: str,
    bands: list[str] | None,
    limit: float,
    typical: float,
) -> None:
    """Each template of a dwarf or giant has a library star of its colours and of its type.

    For F, G and K the two agree so well, type by type, that the templates' flux calibration must
    rest on the same atlas: this tests the construction. The test on observed stars is independent.
    """
    curves = filter_curves(system, bands)
    templates = pd.read_parquet(DATA / "spectral_templates" / "sdss_star_templates_123.parquet")
    # No supergiants, which the library lacks, and no M7 to M8 giants, which are Mira variables.
    mk_type = templates["name"].str.match(rf"[{types}]\d(\.\d)?:?(V|IV|III)")
    chosen = templates[mk_type & ~templates["name"].str.match("M[78]")]
    wave = np.load(DATA / "spectral_templates" / "sdss_star_templates_wavelength.npy")
    observed = colours(wave.astype(float), np.array(chosen["flux"].tolist()), curves)
    nearest, residual = nearest_star(observed, colours(stars.wavelength, stars.flux, curves))
    assert len(observed) >= (25 if types == "FGK" else 5)
    assert np.percentile(residual, 95.0) < limit
    assert np.median(residual) < typical
    order = "OBAFGKML"
    for name, match in zip(chosen["name"], stars.name[nearest], strict=True):
        assert abs(order.index(name[0]) - order.index(match.lstrip("wr")[0])) <= 1, (name, match)


@needs_data
def test_stars_match_observed_sdss_stars(stars: StarLibrary) -> None:
    """Stars of types A to K as observed, with their noise and reddening, lie on the locus."""
    table = pd.read_parquet(DATA / "sdss_spectra_110" / "sdss_spectra_110.parquet")
    table = table[(table["cls"] == "STAR") & (table["sn"] > 15.0)]
    wave = np.load(DATA / "sdss_spectra_110" / "wavelength.npy").astype(float)
    spectra = np.array(
        [
            np.interp(wave, wave[ivar > 0.0], flux[ivar > 0.0])
            for flux, ivar in zip(table["flux"], table["ivar"], strict=True)
        ]
    )
    # F396W to F861W lie inside the observed range.
    curves = [
        curve
        for curve in filter_curves("ALHAMBRA")
        if 3900.0 < np.average(curve[0], weights=curve[1]) < 8800.0
    ]
    observed = colours(wave, spectra, curves)
    _, residual = nearest_star(observed, colours(stars.wavelength, stars.flux, curves))
    assert len(observed) > 20
    assert np.median(residual) < 0.02
    assert residual.mean(axis=1).max() < 0.05
    assert residual.max() < 0.2
