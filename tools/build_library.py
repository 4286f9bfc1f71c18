"""Make ``library.npz``: ``python tools/build_library.py OUT STARS``.

Needs the dependency group ``tools`` and, for the stars, the data inside two wheels, neither of them
imported::

    pip download --no-deps EXOSIMS==3.0.3 splat==1.14
    unzip -j 'EXOSIMS-*.whl' 'EXOSIMS/TargetList/dat_uvk/*' -d STARS
    unzip -j 'splat-*.whl' 'splat/resources/Spectra/Public/SPEX-PRISM/*' -d STARS

**Galaxies** are bagpipes models (Carnall et al. 2018, MNRAS 480, 4379): Bruzual & Charlot (2003)
stellar populations, 2016 version with MILES spectra from 3540 to 7400 A, Kroupa (2002) initial
mass function, and nebular continuum and lines of stars younger than 10 Myr from Cloudy (Byler et
al. 2017, ApJ 840, 44). bagpipes counts mass formed; here everything is per mass that is still in
stars and remnants (`_remnant_fraction`).

**Stars** of types O5 to M6 and classes V, IV and III are observed spectra of Pickles (1998, PASP
110, 863), as distributed by STScI and shipped by EXOSIMS (BSD-3-Clause); in the near infrared
about half of them are smooth curves through mean colours, as that paper says. M7 to T8 dwarfs are
the observed spectral standards of the SpeX Prism Library (Burgasser 2014, ASI Conf. Ser. 11, 7),
shipped by SPLAT (Burgasser & Splat Development Team 2017; MIT). Those have no usable light in the
blue, where they are continued by the Pickles M6 dwarf, tilted: a guess that only matters for
objects all but invisible there. **White dwarfs are not observed spectra**: they are Planck
functions with a Balmer jump and broadened Balmer lines put in by hand (`_white_dwarf`).
Missing: extremely metal-poor halo stars, carbon stars, binaries.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from galbatch.mock.library import (
    ABS_MAG_B_SUN,
    NUV_BAND,
    R_BAND,
    abs_mag_b,
    add_lines,
    spectral_type_of,
)

Array = NDArray[np.float64]

LOG_STEP = 1e-3
"""Pixel width in ln(wavelength): 5 A at 5000 A, 28 pixels across a 140 A filter there."""

GALAXY_RANGE = (912.0, 30000.0)
STAR_RANGE = (3000.0, 24960.0)
"""The atlas ends at 25000 A, but its last five samples fall to zero in many spectra."""

BIRTH_CLOUD_GYR = 0.01
"""Stars younger than this ionise their surroundings; bagpipes' own default."""

LYMAN_ALPHA_ESCAPE = 0.05
"""Cloudy's Lyman alpha has not been scattered: this is the share of it that leaves a galaxy in
the mean (Hayes et al. 2010, Nature 464, 562)."""

LOG_SSFR_FLOOR = -14.0


@dataclass(frozen=True)
class _Recipe:
    """A star-formation history in bagpipes' words, all of one metallicity."""

    components: tuple[tuple[str, dict[str, float]], ...]
    oldest: float
    metallicity: float
    log_u: float


def main() -> None:
    """Build the library from the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("out", type=Path, help="the .npz file to write")
    parser.add_argument("stars", type=Path, help="folder with the FITS files of the stars")
    arguments = parser.parse_args()
    galaxies = {f"galaxy_{key}": value for key, value in build_galaxies().items()}
    stars = {f"star_{key}": value for key, value in build_stars(arguments.stars).items()}
    # numpy types the keyword arguments as its own options.
    np.savez_compressed(arguments.out, **galaxies, **stars)  # type: ignore[arg-type]


def build_galaxies() -> dict[str, NDArray[Any]]:
    """Columns of the galaxy library, sorted from the reddest to the bluest spectrum.

    Returns
    -------
    dict of str to array
        The fields of `galbatch.mock.library.GalaxyLibrary`, the continuum as float16 of unit
        scale with ``continuum_scale`` beside it.
    """
    from bagpipes import config
    from bagpipes.models.nebular_model import nebular
    from bagpipes.models.star_formation_history import star_formation_history
    from bagpipes.models.stellar_model import stellar

    native = config.wavelengths[
        (config.wavelengths > GALAXY_RANGE[0]) & (config.wavelengths < 1.05 * GALAXY_RANGE[1])
    ]
    stars, gas = stellar(native), nebular(native, 0.0)
    live_fraction = np.array(
        [
            np.interp(config.age_sampling, config.raw_stellar_ages, column)
            for column in config.live_frac.T
        ]
    )
    remnants = _remnant_fraction(live_fraction)
    edges = _pixel_edges(GALAXY_RANGE)
    wave = np.sqrt(edges[1:] * edges[:-1])
    kept = (config.line_wavs > edges[0]) & (config.line_wavs < edges[-1])

    rows: list[dict[str, Any]] = []
    for recipe in _recipes():
        history = star_formation_history(
            {
                name: {**shape, "metallicity": recipe.metallicity}
                for name, shape in recipe.components
            }
            | {"redshift": 0.0}
        )
        living = float(np.sum((live_fraction + remnants) * history.ceh.grid))
        with np.errstate(divide="ignore"):
            log_ssfr = max(float(np.log10(history.sfr / living)), LOG_SSFR_FLOOR)
        young, old = stars.spectrum(history.ceh.grid, BIRTH_CLOUD_GYR)
        lines = gas.line_fluxes(history.ceh.grid, BIRTH_CLOUD_GYR, recipe.log_u)
        nebular_light = gas.spectrum(history.ceh.grid, BIRTH_CLOUD_GYR, recipe.log_u)
        continuum = young + old + _without_lines(nebular_light, native, config.line_wavs, lines)
        lines[np.isclose(config.line_wavs, 1215.67)] *= LYMAN_ALPHA_ESCAPE
        rows.append(
            {
                "continuum": _rebin(native, continuum / living, edges),
                "line_luminosity": lines[kept] / living,
                "formed_to_living": 10.0**history.formed_mass / living,
                "log_ssfr": log_ssfr,
                "age": history.mass_weighted_age,
                "oldest": recipe.oldest,
                "metallicity": recipe.metallicity,
                "log_u": recipe.log_u if log_ssfr > LOG_SSFR_FLOOR else np.nan,
            }
        )
    table: dict[str, NDArray[Any]] = {
        key: np.array([row[key] for row in rows], np.float32) for key in rows[0]
    }
    total = add_lines(
        wave, table["continuum"], config.line_wavs[kept], table["line_luminosity"]
    ).astype(np.float64)
    table["abs_mag_b"] = abs_mag_b(wave, total)
    table["mass_to_light_b"] = 10.0 ** (0.4 * (table["abs_mag_b"] - ABS_MAG_B_SUN))
    table["nuv_r"] = _top_hat_mag(wave, total, NUV_BAND) - _top_hat_mag(wave, total, R_BAND)
    table["spectral_type"] = spectral_type_of(table["nuv_r"])

    order = np.argsort(-table["nuv_r"], kind="stable")
    columns: dict[str, NDArray[Any]] = {
        key: value[order].astype(np.float32) for key, value in table.items()
    }
    columns["continuum"], columns["continuum_scale"] = _half(columns["continuum"])
    return columns | {"wavelength": wave, "line_wavelength": config.line_wavs[kept]}


def _recipes() -> Iterator[_Recipe]:
    """Histories from old and passive to a burst on top of nothing."""
    # The plane of delayed exponentials. The ionisation parameter falls with metallicity, as it is
    # observed to (Carton et al. 2017, MNRAS 468, 2140).
    ages = (0.25, 0.5, 1.0, 2.0, 3.5, 6.0, 9.0, 12.5)
    for age, tau, (metallicity, log_u) in product(
        ages,
        (0.1, 0.3, 1.0, 2.5, 6.0, 20.0),
        ((0.2, -2.4), (0.5, -2.8), (1.0, -3.2), (1.8, -3.5)),
    ):
        shape = {"massformed": 0.0, "age": age, "tau": tau}
        yield _Recipe((("delayed", shape),), age, metallicity, log_u)

    # Young galaxies at constant rate: the bluest spectra and the strongest lines.
    for age, metallicity, log_u in product(
        (0.005, 0.02, 0.06, 0.15), (0.1, 0.3, 0.7), (-2.0, -2.7)
    ):
        shape = {"massformed": 0.0, "age_min": 0.0, "age_max": age}
        yield _Recipe((("constant", shape),), age, metallicity, log_u)

    # Old galaxies with a little star formation: the green valley.
    for age, metallicity, fraction in product(
        (5.0, 10.0), (1.0, 1.8), (0.002, 0.004, 0.008, 0.015, 0.03)
    ):
        base = {"massformed": np.log10(1.0 - fraction), "age": age, "tau": 0.5}
        late = {"massformed": np.log10(fraction), "age_min": 0.0, "age_max": 1.0}
        yield _Recipe((("delayed", base), ("constant", late)), age, metallicity, -3.3)

    # A burst that still goes on, or is over and leaves strong Balmer absorption.
    for age, tau, metallicity, fraction, (start, stop) in product(
        (3.0, 9.0),
        (0.5, 3.0),
        (0.4, 1.0),
        (0.01, 0.1),
        ((0.03, 0.0), (0.5, 0.3), (1.2, 0.9)),
    ):
        base = {"massformed": np.log10(1.0 - fraction), "age": age, "tau": tau}
        burst = {"massformed": np.log10(fraction), "age_min": stop, "age_max": start}
        log_u = -2.5 if metallicity < 0.5 else -3.0
        yield _Recipe((("delayed", base), ("constant", burst)), age, metallicity, log_u)


def _remnant_fraction(live_fraction: Array) -> Array:
    """Mass in remnants per mass formed, of a population with this share of it in living stars.

    bagpipes reports living stars only. What is dead began above the mass below which the initial
    mass function holds the living share; Renzini & Ciotti (1993, ApJ 416, L49) say what it left.
    """
    mass = np.geomspace(0.1, 100.0, 20001)
    number = np.where(mass < 0.5, mass**-1.3, 0.5 * mass**-2.3)
    left = np.where(mass < 8.5, 0.077 * mass + 0.48, np.where(mass < 40.0, 1.4, 0.5 * mass))
    formed = _cumulative(mass, mass * number)
    below = _cumulative(mass, left * number)
    alive = live_fraction * formed[-1]
    return np.asarray((below[-1] - np.interp(alive, formed, below)) / formed[-1])


def _without_lines(light: Array, wave: Array, line_wave: Array, lines: Array) -> Array:
    """Undo the line pixels that bagpipes writes into its nebular spectra."""
    continuum = light.copy()
    for line, luminosity in zip(line_wave, lines, strict=True):
        nearest = int(np.abs(wave - line).argmin())
        if 0 < nearest < len(wave) - 1:
            continuum[nearest] -= 2.0 * luminosity / (wave[nearest + 1] - wave[nearest - 1])
    return continuum


# Effective temperatures by spectral type: Cox (2000), Allen's Astrophysical Quantities, table 15.7.
# The position of a type is 10 per letter from O, so A5 is 25.
_TEFF = {
    "V": {
        5: 42000, 9: 34000, 10: 30000, 12: 20900, 15: 15200, 18: 11400, 20: 9790, 22: 9000,
        25: 8180, 30: 7300, 32: 7000, 35: 6650, 38: 6250, 40: 5940, 42: 5790, 45: 5560,
        48: 5310, 50: 5150, 52: 4830, 55: 4410, 60: 3840, 62: 3520, 65: 3170,
        # Stephens et al. (2009), ApJ 702, 154, from M6 to T8, rounded.
        67: 2800, 68: 2600, 69: 2400, 70: 2300, 75: 1700, 79: 1400, 84: 1200, 88: 750,
    },
    "III": {
        8: 34000, 10: 29000, 15: 15000, 20: 10100, 30: 7150, 40: 5700, 45: 5050, 48: 4800,
        50: 4660, 52: 4390, 55: 4050, 60: 3690, 62: 3540, 65: 3380, 66: 3240, 70: 2700,
    },
}  # fmt: skip

# Table 3 of Pickles (1998) gives a metallicity per type; these are round means of the two groups.
_METALLICITY = {"w": -0.5, "r": 0.2, "": 0.0}

_ULTRACOOL = {
    "M7": "10822_11283", "M8": "10824_11423", "M9": "10821_11058", "L0": "10107_10315",
    "L1": "11072_11527", "L2": "10600_10957", "L3": "10592_11111", "L4": "10675_11572",
    "L5": "10351_10583", "L6": "10375_10696", "L8": "10115_11254", "T0": "10771_10871",
    "T2": "10017_10945", "T5": "10021_11106", "T8": "10126_10349",
}  # fmt: skip
"""SpeX Prism standards (splat's STANDARDS_DWARF_SPEX-PRISM.csv), source and spectrum number."""

_WHITE_DWARF_TEFF = (5000.0, 6500.0, 8000.0, 10000.0, 12000.0, 15000.0, 20000.0, 30000.0)


def build_stars(folder: Path) -> dict[str, NDArray[Any]]:
    """Columns of the star library.

    Parameters
    ----------
    folder : Path
        With ``pickles_uk*.fits`` and the SpeX files of `_ULTRACOOL`.

    Returns
    -------
    dict of str to array
        The fields of `galbatch.mock.library.StarLibrary`, the flux as float16 of unit scale with
        ``flux_scale`` beside it.
    """
    edges = _pixel_edges(STAR_RANGE)
    wave = np.sqrt(edges[1:] * edges[:-1])
    flux: list[Array] = []
    labels: list[tuple[str, float, str, float]] = []

    index = fits.getdata(folder / "pickles_uk.fits")
    for file, pickles_type in zip(index["FILENAME"], index["SPTYPE"], strict=True):
        match = re.fullmatch(r"([wr]?)([OBAFGKM])([\d.]+)(V|IV|III)", pickles_type.strip())
        # Supergiants and bright giants are not seen at the depth and latitude of deep surveys.
        if match is None:
            continue
        group, letter, digits, luminosity_class = match.groups()
        table = fits.getdata(folder / f"{file.strip()}.fits")
        spectrum = _rebin(table["WAVELENGTH"].astype(float), table["FLUX"].astype(float), edges)
        flux.append(spectrum)
        teff = _teff(letter, _subtype(digits), luminosity_class)
        labels.append((pickles_type.strip(), teff, luminosity_class, _METALLICITY[group]))

    coolest = flux[[name for name, *_ in labels].index("M6V")]
    for name, number in _ULTRACOOL.items():
        [path] = folder.glob(f"{number}.fits*")
        flux.append(_ultracool(path, wave, edges, coolest, name))
        labels.append((f"{name}V", _teff(name[0], float(name[1:]), "V"), "V", 0.0))

    for teff in _WHITE_DWARF_TEFF:
        flux.append(_white_dwarf(wave, teff))
        labels.append((f"{'DA' if teff > 6000.0 else 'DC'} {teff:.0f} K", teff, "WD", 0.0))

    red = (wave > 7000.0) & (wave < 9000.0)
    scaled = np.array([spectrum / spectrum[red].mean() for spectrum in flux])
    half, scale = _half(scaled)
    names, teffs, classes, metallicities = zip(*labels, strict=True)
    return {
        "wavelength": wave,
        "flux": half,
        "flux_scale": scale,
        "name": np.array(names),
        "teff": np.array(teffs, np.float32),
        "luminosity_class": np.array(classes),
        "metallicity": np.array(metallicities, np.float32),
    }


def _subtype(digits: str) -> float:
    """Pickles' ``57`` in B57V means B5 to B7; ``10`` is M10."""
    if len(digits) == 2 and digits != "10":
        return (int(digits[0]) + int(digits[1])) / 2.0
    return float(digits)


def _teff(letter: str, subtype: float, luminosity_class: str) -> float:
    scale = _TEFF["III" if luminosity_class == "III" else "V"]
    position = 10.0 * "OBAFGKMLT".index(letter) + subtype
    return float(np.exp(np.interp(position, list(scale), np.log(list(scale.values())))))


def _ultracool(path: Path, wave: Array, edges: Array, coolest: Array, name: str) -> Array:
    """A SpeX spectrum where it has signal, and below that the M6 dwarf, tilted and joined on."""
    micron, measured, _ = fits.getdata(path)
    good = np.isfinite(measured)
    spectrum = _rebin(1e4 * micron[good].astype(float), measured[good].astype(float), edges)
    # Where a 0.65-2.5 micrometre prism spectrum of this type rises out of its noise.
    join = 7800.0 if name in ("M7", "M8", "M9", "L0", "L1", "L2", "L3") else 8600.0
    joint = np.abs(wave / join - 1.0) < 0.01
    # Steeper from L on, where the wings of sodium and potassium reach through the optical.
    tilt = coolest * (wave / join) ** (1.0 if name.startswith("M") else 3.0)
    blue = tilt * spectrum[joint].mean() / tilt[joint].mean()
    # The bottoms of the methane and water bands of T dwarfs scatter below zero.
    return np.where(wave < join, blue, np.maximum(spectrum, 0.0))


# Balmer lines of DA white dwarfs: wavelength in Angstrom, depth and half width in Angstrom of a
# Lorentzian at the temperature where they are strongest, read off published spectra near 12000 K
# (e.g. Wesemael et al. 1993, PASP 105, 761, fig. 1).
_BALMER = (
    (6562.8, 0.40, 28.0),
    (4861.3, 0.55, 32.0),
    (4340.5, 0.57, 30.0),
    (4101.7, 0.50, 26.0),
    (3970.1, 0.35, 20.0),
    (3889.1, 0.20, 15.0),
)


def _white_dwarf(wave: Array, teff: float) -> Array:
    """Planck function times hydrogen features that peak at 12000 K and vanish below 6000 K.

    Hydrogen absorbs more at long wavelengths up to each series limit, so that the Paschen continuum
    is bluer than a black body: a Planck function of 1.25 times the temperature has about the g-r
    of the models of Holberg & Bergeron (2006, AJ 132, 1221).
    """
    hydrogen = teff > 6000.0
    colour_temperature = 1.25 * teff if hydrogen else teff
    flux = wave**-5.0 / np.expm1(1.43877688e8 / (wave * colour_temperature))
    if not hydrogen:
        return np.asarray(flux)
    strength = np.exp(-0.5 * (np.log(teff / 12000.0) / 0.45) ** 2)
    for line, depth, half_width in _BALMER:
        flux *= 1.0 - depth * strength / (1.0 + ((wave - line) / half_width) ** 2)
    # Pressure ionisation washes the series limit out over some 100 A.
    edge = 1.0 / (1.0 + np.exp((wave - 3780.0) / 40.0))
    return np.asarray(flux * (1.0 - 0.45 * strength * edge))


def _pixel_edges(limits: tuple[float, float]) -> Array:
    count = int(np.log(limits[1] / limits[0]) / LOG_STEP)
    return np.asarray(limits[0] * np.exp(LOG_STEP * np.arange(count + 1)))


def _rebin(wave: Array, flux: Array, edges: Array) -> Array:
    """Mean over each pixel, so that the integral is kept."""
    return np.asarray(np.diff(np.interp(edges, wave, _cumulative(wave, flux))) / np.diff(edges))


def _cumulative(x: Array, y: Array) -> Array:
    return np.concatenate([[0.0], np.cumsum(0.5 * (y[1:] + y[:-1]) * np.diff(x))])


def _top_hat_mag(wave: Array, luminosity: Array, band: tuple[float, float]) -> Array:
    """AB magnitude of arbitrary zero point, the same for every band."""
    inside = (wave > band[0]) & (wave < band[1])
    photons = np.trapezoid(luminosity[:, inside] * wave[inside], wave[inside])
    return np.asarray(-2.5 * np.log10(photons / np.log(band[1] / band[0])))


def _half(spectra: NDArray[Any]) -> tuple[NDArray[np.float16], NDArray[np.float32]]:
    """float16 keeps 3 digits over 9 decades, if the brightest pixel is put near its upper end."""
    scale = (spectra.max(axis=1) / 1e4).astype(np.float32)
    return (spectra / scale[:, None]).astype(np.float16), scale


if __name__ == "__main__":
    main()
