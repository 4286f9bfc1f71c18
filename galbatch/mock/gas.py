"""Emission lines of galaxies: of young stars, of active nuclei, and of old stars' gas.

H alpha of young stars is the library's. What other lines have of it follows the sequence of
star-forming galaxies in the diagram of Baldwin, Phillips & Terlevich (1981, PASP 93, 5; the
sequence of Kewley et al. 2013, ApJ 774, 100, eq. 3), with the place on it from the metallicity.
Nuclei are Seyferts or low-ionisation ones (Kewley et al. 2006, MNRAS 372, 961), and a galaxy's
lines are the sum. All scatter, and Calzetti's dust of the gas, `STARS_TO_GAS` times the stars',
reddens them. Ratios of other lines are rounded means of SDSS's galaxies, and those of Osterbrock &
Ferland (2006, tables 4.2, 14.1 and 11.5).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from galbatch.mock.attenuation import STARS_TO_GAS, calzetti_curve
from galbatch.mock.library import load_galaxies
from galbatch.mock.objects import Array
from galbatch.mock.optical import REST, galaxy_spectra
from galbatch.mock.profiles import LIGHT, Lines
from galbatch.mock.targets import Targets

# Wavelength in vacuum (NIST), Angstrom; flux over H beta in star-forming galaxies and in nuclei:
# those of [O III] 5008 and [N II] 6585 are placed by the diagram.
_LINES: dict[str, tuple[float, float, float]] = {
    "[O_II] 3727": (3727.092, 1.3, 1.5),
    "[O_II] 3730": (3729.875, 1.7, 1.6),
    "[Ne_III] 3870": (3869.86, 0.16, 0.6),
    "H_8": (3890.166, 0.107, 0.105),
    "[Ne_III] 3969": (3968.59, 0.05, 0.19),
    "H_epsilon": (3971.202, 0.159, 0.159),
    "[S_II] 4070": (4069.75, 0.03, 0.12),
    "H_delta": (4102.892, 0.259, 0.259),
    "H_gamma": (4341.692, 0.468, 0.468),
    "[O_III] 4364": (4364.435, 0.02, 0.12),
    "He_I 4473": (4472.735, 0.04, 0.03),
    "He_II 4687": (4687.02, 0.005, 0.15),
    "H_beta": (4862.691, 1.0, 1.0),
    "[O_III] 4960": (4960.295, 0.3355, 0.3355),
    "[O_III] 5008": (5008.240, 1.0, 1.0),
    "[N_I] 5201": (5201.7, 0.02, 0.12),
    "He_I 5877": (5877.249, 0.12, 0.10),
    "[O_I] 6302": (6302.046, 0.09, 0.6),
    "[S_III] 6314": (6313.8, 0.01, 0.03),
    "[O_I] 6366": (6365.536, 0.03, 0.2),
    "[N_II] 6550": (6549.86, 0.328, 0.328),
    "H_alpha": (6564.632, 2.86, 3.1),
    "[N_II] 6585": (6585.27, 1.0, 1.0),
    "He_I 6680": (6679.995, 0.035, 0.03),
    "[S_II] 6718": (6718.294, 0.55, 0.95),
    "[S_II] 6733": (6732.674, 0.42, 0.85),
    "[Ar_III] 7138": (7137.77, 0.06, 0.15),
    "[O_II] 7322": (7322.0, 0.03, 0.06),
    "[O_II] 7332": (7332.0, 0.03, 0.06),
    "[S_III] 9071": (9071.1, 0.18, 0.3),
    "[S_III] 9533": (9533.2, 0.45, 0.75),
}
NAMES = tuple(_LINES)
WAVELENGTHS = np.array([wave for wave, *_ in _LINES.values()])
BALMER = np.array([name.startswith("H_") for name in NAMES])
RATIO = np.array([ratio for _, *ratio in _LINES.values()]).T
"""Flux over H beta of young stars and of nuclei, shape (2, lines)."""
OXYGEN = [NAMES.index("[O_III] 4960"), NAMES.index("[O_III] 5008")]
_NITROGEN = [NAMES.index("[N_II] 6550"), NAMES.index("[N_II] 6585")]
_LOW = [NAMES.index(n) for n in ("[O_I] 6302", "[O_I] 6366", "[N_I] 5201")]
HIGH = [NAMES.index(n) for n in ("[Ne_III] 3870", "[Ne_III] 3969", "[O_III] 4364", "He_II 4687")]
_ALPHA = NAMES.index("H_alpha")

SEYFERTS = 0.45
"""Share of Seyferts among nuclei; the others are of low ionisation."""
_LINE_SCATTER = 0.08
_REST_AT = np.rint((np.log10(WAVELENGTHS) - REST.first) / REST.step).astype(np.intp)


def lines_of_galaxies(targets: Targets, rng: np.random.Generator, dust: Array) -> Lines:
    """Lines of galaxies, in the library's units.

    Parameters
    ----------
    targets : Targets
        Galaxies. Rows of other kinds may be among them: what comes out for them means nothing.
    rng : numpy.random.Generator
        Draws the same numbers whatever the targets are.
    dust : array, shape (n,)
        E(B-V) of the stars.

    Returns
    -------
    Lines
        In L_sun / M_sun times (1 + z), observed wavelengths, after dust; the lines are `NAMES`.
    """
    rows = len(targets)
    normal = rng.standard_normal((6, rows))
    scatter = 10.0 ** (_LINE_SCATTER * rng.standard_normal((rows, len(NAMES))))
    uniform = rng.random(rows)
    library, spectra = load_galaxies(), galaxy_spectra()
    first, second = targets.pair[:, 0], targets.pair[:, 1]
    # Stars may have shares beyond 1.
    share = np.clip(targets.share.astype(np.float64), 0.0, 1.0)
    mixed = np.stack([1.0 - share, share])

    line = int(np.abs(library.line_wavelength - 6562.8).argmin())
    alpha = library.line_luminosity[:, line].astype(np.float64)
    young = (mixed[0] * alpha[first] + mixed[1] * alpha[second]) * targets.lines[:, 0]
    near = slice(_REST_AT[_ALPHA] - 60, _REST_AT[_ALPHA] + 60)
    level = np.median(spectra[:, near], axis=1)
    continuum = mixed[0] * level[first] + mixed[1] * level[second]

    gas = np.clip(dust / STARS_TO_GAS * 10.0 ** (0.12 * normal[0]), 0.0, 1.5)
    fading = 10.0 ** (-0.4 * gas[:, None] * calzetti_curve(WAVELENGTHS))
    metals = np.log10(
        mixed[0] * library.metallicity[first] + mixed[1] * library.metallicity[second]
    )
    of_stars = _of_young_stars(metals, normal[1:3])
    of_nucleus = _of_nuclei(uniform < SEYFERTS, normal[3:5])
    # A nucleus's equivalent width is what is seen: dust is undone, since it is put on all.
    width = 10.0**targets.nucleus
    seen = continuum * 10.0 ** (-0.4 * dust * calzetti_curve(WAVELENGTHS[_ALPHA]))
    nuclear = width * seen / fading[:, _ALPHA]
    flux = young[:, None] * of_stars + nuclear[:, None] * of_nucleus
    flux = flux * fading * np.where(BALMER, 1.0, scatter)
    # What two lines of one ion have is fixed by their transition probabilities.
    for weak, strong in (OXYGEN, _NITROGEN):
        flux[:, weak] = flux[:, strong] * RATIO[0, weak]

    # Gas moves about as the stars do, forbidden lines of nuclei faster by a third.
    speed = targets.dispersion * 10.0 ** (0.1 * normal[5])
    sigma = np.repeat(np.clip(0.8 * speed, 40.0, 600.0)[:, None], len(NAMES), axis=1)
    offset = 10.0 * rng.standard_normal(rows)
    stretch = 1.0 + targets.redshift[:, None]
    centre = WAVELENGTHS * stretch * (1.0 + offset[:, None] / LIGHT)
    # The continuum is kept per rest-frame Angstrom, lines are as wide as they are seen.
    return Lines(centre, sigma, flux * stretch)


def _of_young_stars(log_metals: Array, normal: NDArray[np.float64]) -> Array:
    """Fluxes over H alpha, (n, k)."""
    # [N II] over H alpha goes with the metals (after Pettini & Pagel 2004, MNRAS 348, L59).
    nitrogen = np.clip(-0.55 + 0.75 * log_metals + 0.12 * normal[0], -1.9, -0.3)
    oxygen = 0.61 / (nitrogen + 0.02) + 1.12 + 0.1 * normal[1]
    return _ratios(0, nitrogen, np.clip(oxygen, -1.2, 0.95), np.ones(len(nitrogen)))


def _of_nuclei(seyfert: NDArray[np.bool_], normal: NDArray[np.float64]) -> Array:
    """Fluxes over H alpha, (n, k)."""
    nitrogen = 0.02 + 0.13 * normal[0]
    oxygen = np.where(seyfert, 0.82 + 0.15 * normal[1], 0.32 + 0.14 * normal[1])
    return _ratios(1, nitrogen, oxygen, np.where(seyfert, 0.5, 1.0))


def _ratios(kind: int, nitrogen: Array, oxygen: Array, low: Array) -> Array:
    ratio = np.repeat(RATIO[kind][None, :], len(nitrogen), axis=0)
    # High ionisation: weak lines go with [O III]; low ionisation is weaker in Seyferts.
    ratio[:, HIGH] *= (10.0**oxygen)[:, None] / (1.0, 5.0)[kind]
    ratio[:, _LOW] *= low[:, None]
    ratio /= ratio[:, _ALPHA, None]
    alpha = RATIO[kind, _ALPHA]
    for line in OXYGEN:
        ratio[:, line] = RATIO[kind, line] * 10.0**oxygen / alpha
    for line in _NITROGEN:
        ratio[:, line] = RATIO[kind, line] * 10.0**nitrogen
    return np.asarray(ratio)
