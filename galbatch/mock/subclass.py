"""Subclasses of galaxies and quasars by SDSS's rules, from their emission lines.

As in idlspec2d, ``pro/spec1d/spreduce1d.pro`` ("Classify galaxies and QSO's based upon emission
lines"), and in SDSS's documentation of its spectroscopic catalogues:

- [O III] 5007, H beta, H alpha and [N II] 6583 have areas above 3 sigma each: AGN where
  log [O III]/H beta > 0.22 - 1.2 log [N II]/H alpha, which is 0.7 - 1.2 (log [N II]/H alpha + 0.4);
  else STARBURST where the equivalent width of H alpha is above 50 Angstrom and above 3 sigma; else
  STARFORMING.
- BROADLINE is appended where a line other than Lyman alpha, with an area above 10 sigma, has a
  width that is above 200 km/s by 5 sigma.

(A comment in that file says -0.4 and 500 Angstrom; its code and the documentation, the above.)

SDSS fits Gaussians, all lines at once, ties widths and redshifts, and leaves the spectrograph's
width in. Here a line's area and width are those that fit its own pixels best, to first order in
the noise, with the other lines and the continuum known: so the noise of the very spectrum decides.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from galbatch.mock.objects import Array
from galbatch.mock.profiles import Lines, instrument_sigma, stamp
from galbatch.spectra.grids import LogGrid

DETECTED, BROAD_DETECTED, BROAD_SIGMA, BROAD_BY = 3.0, 10.0, 200.0, 5.0
STARBURST_WIDTH = 50.0
_NARROWEST = 1.0


@dataclass(frozen=True)
class MeasuredLines:
    """Lines with their errors, each of shape (n, k); errors are infinite where nothing is seen.

    Parameters
    ----------
    flux, flux_error : array
        Area of the line.
    sigma, sigma_error : array
        Gaussian width before the spectrograph, km/s.
    width, width_error : array
        Equivalent width in the rest frame, Angstrom.
    """

    flux: Array
    flux_error: Array
    sigma: Array
    sigma_error: Array
    width: Array
    width_error: Array


def measure(
    grid: LogGrid,
    lines: Lines,
    continuum: Array,
    stretch: Array,
    ivar: NDArray[np.float32],
    noise: NDArray[np.float32],
) -> tuple[MeasuredLines, MeasuredLines]:
    """Measure lines whose truth is known.

    Parameters
    ----------
    grid : LogGrid
    lines : Lines
        The true ones.
    continuum : array, shape (n, k)
        Flux per Angstrom beneath each line.
    stretch : array, shape (n,)
        1 + z.
    ivar, noise : array, shape (n, grid.points), float32
        Inverse variance, and measured less true flux.

    Returns
    -------
    true, noisy : MeasuredLines
        The true values with the errors that the noise gives them, and what is measured.
    """
    rows, count = lines.flux.shape
    instrument = instrument_sigma(lines.centre)
    total = np.hypot(lines.sigma, instrument)
    error = np.full((2, rows, count), np.inf)
    off = np.zeros((2, rows, count))
    low, high = grid.wavelengths[0], grid.wavelengths[-1]
    seen = (lines.centre > low) & (lines.centre < high) & (lines.flux > 0)
    for line in range(count):
        for wide in (False, True):
            some = np.flatnonzero(seen[:, line] & ((total[:, line] > 700.0) == wide))
            if not len(some):
                continue
            drawn = stamp(grid, lines.centre[some, line], total[some, line])
            at = (some[:, None], drawn.column)
            weight = np.where(drawn.inside, ivar[at], 0.0)
            shape, widening = drawn.shape, drawn.widening * lines.flux[some, line, None]
            error[:, some, line], off[:, some, line] = _fit(weight, noise[at], shape, widening)
    # What is fitted is the relative change of the width through the spectrograph.
    gain = total**2 / np.maximum(lines.sigma, _NARROWEST)
    error[1] = np.where(np.isfinite(error[1]), error[1] * gain, np.inf)
    squared = (total * (1.0 + off[1])) ** 2 - instrument**2
    sigma = np.sqrt(np.maximum(squared, _NARROWEST))
    per = stretch[:, None] * np.maximum(continuum, 1e-30)
    true = MeasuredLines(
        lines.flux, error[0], lines.sigma, error[1], lines.flux / per, error[0] / per
    )
    flux = lines.flux + off[0]
    return true, MeasuredLines(flux, error[0], sigma, error[1], flux / per, error[0] / per)


def _fit(
    weight: Array, noise: NDArray[np.float32], shape: Array, widening: Array
) -> tuple[Array, Array]:
    """Errors and offsets of flux and relative width, each (2, n): two unknowns, least squares."""
    with np.errstate(divide="ignore", invalid="ignore"):
        one = np.einsum("nw,nw,nw->n", weight, shape, shape)
        two = np.einsum("nw,nw,nw->n", weight, widening, widening)
        both = np.einsum("nw,nw,nw->n", weight, shape, widening)
        first = np.einsum("nw,nw,nw->n", weight, shape, noise)
        second = np.einsum("nw,nw,nw->n", weight, widening, noise)
        power = one * two - both**2
        usable = power > 1e-6 * one * two
        power = np.where(usable, power, np.nan)
        error = np.sqrt(np.stack([two, one]) / power)
        off = np.stack([two * first - both * second, one * second - both * first]) / power
    return np.where(usable, error, np.inf), np.where(usable, off, 0.0)


def subclasses(names: tuple[str, ...], measured: MeasuredLines) -> NDArray[np.str_]:
    """Subclasses of galaxies and quasars.

    Parameters
    ----------
    names : tuple of str
        Of the k lines; ``[O_III] 5008``, ``H_beta``, ``H_alpha`` and ``[N_II] 6585`` among them.
    measured : MeasuredLines

    Returns
    -------
    array, shape (n,), str
        ``AGN``, ``STARFORMING``, ``STARBURST``, nothing, or one of these with ``BROADLINE``.
    """
    diagnostic = ("[O_III] 5008", "H_beta", "H_alpha", "[N_II] 6585")
    oxygen, beta, alpha, nitrogen = (names.index(name) for name in diagnostic)
    all_four = [oxygen, beta, alpha, nitrogen]
    flux, error = measured.flux, measured.flux_error
    good = (flux[:, all_four] > DETECTED * error[:, all_four]).all(axis=1)
    positive = np.maximum(flux, 1e-30)
    height = np.log10(positive[:, oxygen] / positive[:, beta])
    across = np.log10(positive[:, nitrogen] / positive[:, alpha])
    active = height > 0.7 - 1.2 * (across + 0.4)
    width, width_error = measured.width[:, alpha], measured.width_error[:, alpha]
    strong = (width > STARBURST_WIDTH) & (width > DETECTED * width_error)
    forming = np.where(strong, "STARBURST", "STARFORMING")
    by_ratio = np.where(good, np.where(active, "AGN", forming), "")
    counted = np.array([name != "Ly_alpha" for name in names])
    found = (flux > BROAD_DETECTED * error) & np.isfinite(measured.sigma_error) & counted
    surely = measured.sigma - BROAD_BY * np.where(found, measured.sigma_error, 0.0)
    broad = (np.where(found, surely, 0.0) > BROAD_SIGMA).any(axis=1)
    return np.char.strip(np.char.add(by_ratio, np.where(broad, " BROADLINE", "")))
