"""Spectra of single quasars: no composite, whose lines are wider and weaker than any quasar's.

Power law, Balmer continuum, iron, broad lines with velocities of their own, narrow lines, the host
galaxy's stars, troughs of outflows. Equivalent widths have the means of Vanden Berk et al. (2001,
AJ 122, 549, table 2; blends are shared out), and scatter. Lines of high ionisation are shifted to
the blue, the more the weaker they are (Richards et al. 2011, AJ 141, 167; means and scatter after
Shen et al. 2016, ApJ 831, 7, table 2): what redshift a quasar has is uncertain by hundreds of km/s,
and the mock's truth is that of its narrow lines and its stars.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from galbatch.mock.objects import Array
from galbatch.mock.optical import REST, galaxy_spectra, shifted
from galbatch.mock.profiles import LIGHT, Lines
from galbatch.mock.quasars import balmer_continuum, power_law, smc_curve
from galbatch.mock.targets import Targets

# Wavelength in vacuum, Angstrom; equivalent width, Angstrom; velocity and its scatter, km/s; width
# over that of H beta; group (0 high, 1 low ionisation).
_BROAD = {
    "O_VI 1033": (1033.82, 9.8, -400.0, 300.0, 1.0, 0),
    "Ly_alpha": (1215.67, 70.0, -100.0, 300.0, 1.1, 0),
    "N_V 1240": (1240.14, 18.0, -300.0, 300.0, 1.2, 0),
    "O_I 1305": (1304.35, 1.7, 0.0, 150.0, 0.8, 1),
    "C_II 1335": (1335.30, 0.7, 0.0, 150.0, 0.8, 1),
    "Si_IV 1400": (1398.33, 8.1, -350.0, 350.0, 1.0, 0),
    "C_IV 1549": (1549.48, 23.8, -700.0, 550.0, 1.0, 0),
    "He_II 1640": (1640.42, 6.0, -1000.0, 700.0, 1.8, 0),
    "O_III] 1664": (1663.48, 1.5, -300.0, 300.0, 1.0, 0),
    "N_III] 1750": (1750.26, 0.6, -300.0, 300.0, 1.0, 0),
    "Al_III 1857": (1857.40, 2.0, -300.0, 300.0, 1.0, 0),
    "Si_III] 1892": (1892.03, 4.0, -200.0, 250.0, 0.9, 0),
    "C_III] 1909": (1908.73, 17.0, -250.0, 300.0, 1.0, 0),
    "Mg_II 2800": (2799.12, 27.0, -50.0, 200.0, 0.8, 1),
    "H_delta": (4102.89, 6.0, 0.0, 200.0, 1.0, 1),
    "H_gamma": (4341.68, 13.0, 0.0, 200.0, 1.0, 1),
    "He_II 4687": (4687.02, 2.5, -300.0, 400.0, 1.3, 1),
    "H_beta": (4862.68, 42.0, 0.0, 200.0, 1.0, 1),
    "He_I 5877": (5877.29, 5.0, 0.0, 200.0, 1.0, 1),
    "H_alpha": (6564.61, 190.0, 0.0, 150.0, 0.95, 1),
}
# Wavelength, equivalent width.
_NARROW = {
    "[Ne_V] 3347": (3346.8, 0.35),
    "[Ne_V] 3427": (3426.84, 1.1),
    "[O_II] 3728": (3728.6, 1.6),
    "[Ne_III] 3870": (3869.86, 1.4),
    "[Ne_III] 3969": (3968.59, 0.45),
    "H_beta narrow": (4862.68, 1.2),
    "[O_III] 4960": (4960.30, 4.2),
    "[O_III] 5008": (5008.24, 12.6),
    "[O_I] 6302": (6302.05, 0.8),
    "H_alpha narrow": (6564.61, 5.0),
    "[N_II] 6550": (6549.86, 1.3),
    "[N_II] 6585": (6585.27, 4.0),
    "[S_II] 6718": (6718.29, 1.5),
    "[S_II] 6733": (6732.67, 1.5),
}
NAMES = (*_BROAD, *_NARROW)
_WAVE = np.array([row[0] for row in (*_BROAD.values(), *_NARROW.values())])
_WIDTH = np.array([row[1] for row in (*_BROAD.values(), *_NARROW.values())])
_VELOCITY, _VELOCITY_SCATTER, _BROADER = np.array([row[2:5] for row in _BROAD.values()]).T
_HIGH = np.array([row[5] == 0 for row in _BROAD.values()])

CORE, CORE_WIDTH, WING_WIDTH = 0.5, 0.7, 2.0
"""A broad line is two Gaussians: the core's share of the flux, and both widths over the line's."""

# Iron multiplets, Angstrom in vacuum, with rounded relative strengths (the first are Fe III's):
# ultraviolet after Vestergaard & Wilkes (2001, ApJS 134, 1), optical after Veron-Cetty et al.
# (2004, A&A 417, 515).
_IRON_UV = (
    *((wave, 3.5) for wave in (2039.0, 2061.6, 2068.2, 2078.9, 2090.1, 2103.8, 2116.6)),
    *((wave, 4.0) for wave in (2249.9, 2260.8, 2280.6, 2300.0)),
    *((wave, 6.0) for wave in (2328.1, 2333.5, 2338.7, 2344.2, 2349.7, 2360.7, 2365.5, 2374.5)),
    *((wave, 7.0) for wave in (2382.8, 2389.4, 2396.4, 2399.9, 2405.6, 2407.4, 2411.3, 2414.1)),
    *((2430.0 + 8.0 * n, 7.0) for n in range(11)),
    *((wave, 8.0) for wave in (2526.2, 2534.4, 2548.7, 2563.3, 2578.7, 2583.4)),
    *((wave, 6.5) for wave in (2586.7, 2599.1, 2600.2, 2607.9, 2612.7, 2618.4, 2626.5, 2631.8)),
    *((wave, 6.0) for wave in (2684.0, 2693.6, 2714.4, 2730.7, 2737.8, 2740.4, 2747.3, 2756.6)),
    *((wave, 5.0) for wave in (2832.4, 2840.5, 2857.3, 2869.7, 2881.6, 2918.0, 2927.4, 2945.1)),
    *((wave, 5.0) for wave in (2954.6, 2966.0, 2971.4, 2980.2, 2985.7, 3003.5)),
    *((wave, 4.0) for wave in (3155.1, 3168.6, 3178.0, 3187.6, 3194.7, 3211.3, 3214.2, 3228.7)),
)
_IRON_OPTICAL = (
    *((wave, 3.0) for wave in (4129.9, 4174.6, 4180.0, 4234.3, 4259.4, 4274.5, 4297.8, 4304.4)),
    *((wave, 3.0) for wave in (4352.9, 4370.6, 4386.6, 4417.9, 4474.4)),
    *((wave, 5.5) for wave in (4490.4, 4492.7, 4509.5, 4516.6, 4521.5, 4523.9, 4535.4, 4542.8)),
    *((wave, 6.5) for wave in (4550.7, 4557.2, 4577.6, 4584.0, 4585.1, 4621.8, 4630.6)),
    *((wave, 2.0) for wave in (4667.7, 4732.8, 5102.0)),
    *((wave, 8.0) for wave in (4925.3, 5019.8)),
    *((wave, 5.0) for wave in (5170.5, 5199.0, 5236.1, 5256.4, 5265.9, 5277.5, 5285.6, 5318.1)),
    *((wave, 4.0) for wave in (5327.0, 5364.4, 5403.6, 5415.6, 5427.3, 5536.4)),
    *((wave, 0.8) for wave in (5993.0, 6149.5, 6240.1, 6249.3, 6417.9, 6458.0, 6517.9)),
)
_IRON_SIGMA = 250.0
_IRON_UV_WIDTH, _IRON_OPTICAL_WIDTH = 55.0, 55.0
"""Equivalent widths in Angstrom at 2500 and 4600 A: what Vanden Berk et al. have between 2200 and
3100 A outside Mg II less the Balmer continuum, and 18 A from 4434 to 4684 as 1/3 of all."""

_HOSTS = (30, 80, 140, 190)
"""Library galaxies that stand for hosts, from old to star-forming."""
_TROUGHS = (("C_IV 1549", 1.0), ("Si_IV 1400", 0.6), ("N_V 1240", 0.8), ("Ly_alpha", 0.5))
OUTFLOWS = 0.12
"""Share of quasars with broad absorption (Gibson et al. 2009, ApJ 692, 758: 13 % observed)."""


@cache
def _parts() -> NDArray[np.float32]:
    """Power law, Balmer continuum, both irons, (4, REST.points); 1 is the power law at 1450 A."""
    wave = REST.wavelengths
    iron = []
    for table, width, at in (
        (_IRON_UV, _IRON_UV_WIDTH, 2500.0),
        (_IRON_OPTICAL, _IRON_OPTICAL_WIDTH, 4600.0),
    ):
        centre, strength = np.array(table).T
        sigma = _IRON_SIGMA / LIGHT * centre
        height = width * power_law(np.array([at])) * strength / strength.sum()
        height = height / (np.sqrt(2.0 * np.pi) * sigma)
        sum_ = np.zeros(len(wave))
        for one, top, wide in zip(centre, height, sigma, strict=True):
            sum_ += top * np.exp(-0.5 * ((wave - one) / wide) ** 2)
        iron.append(sum_)
    found = np.stack([power_law(wave), balmer_continuum(wave), *iron]).astype(np.float32)
    found.setflags(write=False)
    return found


def light_of_quasars(
    targets: Targets,
    rng: np.random.Generator,
    drawn: tuple[int, NDArray[np.intp]],
    start: Array,
    points: int,
    reference: float,
) -> tuple[NDArray[np.float32], NDArray[np.float32], Lines, Lines]:
    """Continua and lines of quasars, before intergalactic gas.

    Parameters
    ----------
    targets : Targets
        Quasars.
    rng : numpy.random.Generator
    drawn : (int, array of shape (n,))
        For how many objects random numbers are drawn, and which of them these are: so that a
        quasar does not depend on what it is observed with.
    start : array, shape (n,)
        Pixel of `REST` that each spectrum begins at.
    points : int
        Pixels of a spectrum.
    reference : float
        Observed wavelength in Angstrom where the tilt does nothing.

    Returns
    -------
    continuum : array, shape (n, points), float32
        In units of the power law at 1450 Angstrom.
    trough : array, shape (n, points), float32
        What outflows leave of the light.
    emitted, ruled : Lines
        Lines to add, and the same with one Gaussian each, which `NAMES` names.
    """
    total, chosen = drawn
    normal = rng.standard_normal((4, total))[:, chosen]
    uniform = rng.random((5, total))[:, chosen]
    line_noise = rng.standard_normal((3, total, len(NAMES)))[:, chosen]
    # Where a pixel is in the rest frame: of the middle of it, as `shifted` gives it.
    logarithm = REST.first + REST.step * (start[:, None] + np.arange(points))
    wave = (10.0**logarithm).astype(np.float32)
    observed = np.log(wave * (1.0 + targets.redshift[:, None]).astype(np.float32) / reference)

    low = targets.lines[:, 1].astype(np.float64)
    iron = low * 10.0 ** (0.25 * normal[0])
    jump = low * 10.0 ** (0.15 * normal[3])
    each = np.ones((len(targets), 2), np.intp)
    light = np.zeros((len(targets), points), np.float32)
    for rows, weights, sigma in (
        ((0, 1), np.stack([np.ones(len(jump)), jump], axis=1), np.full(len(jump), 0.7)),
        ((2, 3), np.stack([iron, iron], axis=1), np.hypot(targets.dispersion, 100.0) / 69.0),
    ):
        light += shifted(_parts(), each * rows, weights, start, sigma, points)
    light *= _change(targets, wave, observed)
    light += _hosts(targets, uniform[0], start, points)

    emitted, ruled = _lines(targets, line_noise, normal[1:3], reference)
    return light, _troughs(uniform[1:], wave, targets), emitted, ruled


def _change(
    targets: Targets, wave: NDArray[np.float32], observed: NDArray[np.float32]
) -> NDArray[np.float32]:
    """By the quasar's own slope and dust, over the reference wavelength's."""
    tilt, bend = targets.tilt.T[:, :, None]
    faint = tilt * observed + bend * observed**2
    # A curve in wavelength, interpolated in a table: a power for each pixel is dear.
    table = smc_curve(REST.wavelengths).astype(np.float32)
    at = np.rint((np.log10(wave) - REST.first) / REST.step).astype(np.intp)
    np.clip(at, 0, REST.points - 1, out=at)
    faint = faint + targets.ebv[:, None] * table[at]
    return np.asarray(np.exp(np.float32(-0.4 * np.log(10.0)) * faint), np.float32)


def _hosts(targets: Targets, uniform: Array, start: Array, points: int) -> NDArray[np.float32]:
    """Starlight: the wanted share of all at 5100 Angstrom."""
    spectra = galaxy_spectra()
    row = np.array(_HOSTS)[(uniform * len(_HOSTS)).astype(np.intp)]
    at = round((np.log10(5100.0) - REST.first) / REST.step)
    level = np.median(spectra[:, at - 50 : at + 50], axis=1)[row]
    nuclear = float(power_law(np.array([5100.0]))[0])
    share = 10.0**targets.nucleus
    factor = share / (1.0 - share) * nuclear / level
    sigma = np.full(len(row), 170.0 / 69.0)
    return shifted(spectra, row[:, None], factor[:, None], start, sigma, points)


def _lines(targets: Targets, noise: Array, normal: Array, reference: float) -> tuple[Lines, Lines]:
    rows, broad = len(targets), len(_BROAD)
    strength = np.empty((rows, len(NAMES)))
    groups = targets.lines.astype(np.float64)
    strength[:, :broad] = np.where(_HIGH, groups[:, :1], groups[:, 1:2])
    # Narrow lines scatter more than any: the covering by their clouds does.
    strength[:, broad:] = (groups[:, 2] * 10.0 ** (0.25 * normal[0]))[:, None]
    width = _WIDTH * strength * 10.0 ** (0.1 * noise[0])
    rest = (1.0 + targets.redshift)[:, None]
    at = np.log(_WAVE * rest / reference)
    tilt, bend = targets.tilt.T.astype(np.float64)[:, :, None]
    faint = tilt * at + bend * at**2 + targets.ebv[:, None] * smc_curve(_WAVE)
    # Lines have the power law's light, its slope and its dust.
    flux = width * power_law(_WAVE) * 10.0 ** (-0.4 * faint) * rest

    velocity = np.empty((rows, len(NAMES)))
    weak = np.log10(groups[:, :1]) / 0.2
    common = 0.8 * normal[1][:, None] + 0.6 * noise[1, :, :broad]
    velocity[:, :broad] = _VELOCITY * (1.0 - 0.5 * weak * _HIGH) + _VELOCITY_SCATTER * common
    velocity[:, broad:] = 40.0 * normal[1][:, None] + 30.0 * noise[1, :, broad:]
    sigma = np.empty((rows, len(NAMES)))
    sigma[:, :broad] = targets.dispersion[:, None] * _BROADER * 10.0 ** (0.06 * noise[2, :, :broad])
    narrow = 10.0 ** (2.25 + 0.12 * noise[2, :, broad, None])
    sigma[:, broad:] = np.clip(narrow, 70.0, 500.0)
    centre = _WAVE * rest * (1.0 + velocity / LIGHT)
    core, wing = slice(0, broad), slice(broad, None)
    emitted = Lines(
        np.concatenate([centre[:, core], centre[:, core], centre[:, wing]], axis=1),
        np.concatenate(
            [CORE_WIDTH * sigma[:, core], WING_WIDTH * sigma[:, core], sigma[:, wing]], axis=1
        ),
        np.concatenate([CORE * flux[:, core], (1.0 - CORE) * flux[:, core], flux[:, wing]], axis=1),
    )
    return emitted, Lines(centre, sigma, flux)


def _troughs(uniform: Array, wave: NDArray[np.float32], targets: Targets) -> NDArray[np.float32]:
    """Absorption by outflows of up to 0.1 c: a smooth trough to the blue of each line."""
    found = np.ones(wave.shape, np.float32)
    rows = np.flatnonzero((uniform[0] < OUTFLOWS) & (targets.redshift > 1.3))
    if not len(rows):
        return found
    nearest = (1000.0 + 9000.0 * uniform[1, rows] ** 2)[:, None]
    farthest = nearest + (2000.0 + 8000.0 * uniform[2, rows])[:, None]
    deep = (0.25 + 0.65 * uniform[3, rows])[:, None]
    for name, weight in _TROUGHS:
        velocity = LIGHT * (1.0 - wave[rows] / _BROAD[name][0])
        inside = expit((velocity - nearest) / 250.0) * expit((farthest - velocity) / 500.0)
        found[rows] *= (1.0 - weight * deep * inside).astype(np.float32)
    return found
