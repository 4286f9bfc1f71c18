"""Emission lines on a logarithmic grid: Gaussians in velocity, integrated over each pixel."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from galbatch.mock.objects import Array
from galbatch.spectra.grids import LogGrid

LIGHT = 299_792.458
"""Speed of light in km/s."""

REACH = 5.0
"""Widths on each side that a line is drawn to."""

INSTRUMENT = ((3800.0, 1500.0), (9000.0, 2500.0))
"""Wavelength and resolving power (FWHM) of SDSS's spectrographs at both ends (Smee et al. 2013, AJ
146, 32, fig. 33), linear between and held beyond."""


def instrument_sigma(wavelength: Array) -> Array:
    """Gaussian width of the spectrograph in km/s, at observed wavelengths in Angstrom."""
    at, power = zip(*INSTRUMENT, strict=True)
    return np.asarray(LIGHT / (2.3548 * np.interp(wavelength, at, power)))


@dataclass(frozen=True)
class Lines:
    """Emission lines of several objects, each object with the same lines.

    Parameters
    ----------
    centre : array, shape (n, k)
        Observed wavelength in vacuum, Angstrom.
    sigma : array, shape (n, k)
        Gaussian width in km/s before the spectrograph.
    flux : array, shape (n, k)
        Integrated over the line, in units of the spectrum's flux times Angstrom.
    """

    centre: Array
    sigma: Array
    flux: Array

    def taken(self, rows: NDArray[np.intp], factor: Array | float = 1.0) -> Lines:
        """Those of some objects, their fluxes times a factor of shape (n,)."""
        times = np.broadcast_to(np.asarray(factor, np.float64), (len(rows),))
        return Lines(self.centre[rows], self.sigma[rows], self.flux[rows] * times[:, None])


@dataclass(frozen=True)
class Stamp:
    """A line's pixels in each of several spectra.

    Parameters
    ----------
    column : array, shape (n, width), int
        Pixels of the spectrum, held at its ends.
    inside : array, shape (n, width), bool
        Whether the pixel is in the spectrum, and the line reaches it.
    edge : array, shape (n, width + 1)
        Lower edges of the pixels, and the last's upper, in widths from the line's centre.
    per_angstrom : array, shape (n, width)
        1 over the pixel's width in Angstrom.
    """

    column: NDArray[np.intp]
    inside: NDArray[np.bool_]
    edge: Array
    per_angstrom: Array

    @property
    def shape(self) -> Array:
        """The line of flux 1, per Angstrom, (n, width)."""
        return np.asarray(np.diff(ndtr(self.edge), axis=1) * self.per_angstrom)

    @property
    def widening(self) -> Array:
        """What the line of flux 1 gains for each relative gain of its width, (n, width)."""
        bell = np.exp(-0.5 * self.edge**2) / np.sqrt(2.0 * np.pi)
        return np.asarray(np.diff(-self.edge * bell, axis=1) * self.per_angstrom)


def stamp(grid: LogGrid, centre: Array, sigma: Array) -> Stamp:
    """Pixels of one line in each of several spectra.

    Parameters
    ----------
    grid : LogGrid
    centre : array, shape (n,)
        Angstrom.
    sigma : array, shape (n,)
        km/s, the spectrograph's included.

    Returns
    -------
    Stamp
        As wide as the widest of them needs.
    """
    at = (np.log10(centre) - grid.first) / grid.step
    # Far from the grid a line has no pixels there: where exactly it is does not matter.
    at = np.clip(at, -1e4, grid.points + 1e4)
    width = sigma / (LIGHT * np.log(10.0) * grid.step)
    half = int(np.ceil(REACH * float(width.max(initial=1.0)))) + 1
    column = np.rint(at).astype(np.intp)[:, None] + np.arange(-half, half + 1)
    inside = (column >= 0) & (column < grid.points)
    offset = np.arange(-half, half + 2) - 0.5
    edge = (np.rint(at)[:, None] + offset - at[:, None]) / width[:, None]
    # No line reaches further because another is wider: a row does not depend on the others.
    inside &= (edge[:, 1:] > -REACH) & (edge[:, :-1] < REACH)
    held = np.clip(column, 0, grid.points - 1)
    spread = 2.0 * np.sinh(0.5 * np.log(10.0) * grid.step)
    return Stamp(held, inside, edge, 1.0 / (grid.wavelengths[held] * spread))


def add_emission(spectra: NDArray[np.float32], grid: LogGrid, lines: Lines) -> None:
    """Add lines to spectra in place, through the spectrograph.

    Parameters
    ----------
    spectra : array, shape (n, grid.points), float32
    grid : LogGrid
    lines : Lines
    """
    width = np.hypot(lines.sigma, instrument_sigma(lines.centre))
    low, high = grid.wavelengths[0], grid.wavelengths[-1]
    reach = 1.0 + REACH * width / LIGHT
    seen = (lines.flux != 0.0) & (lines.centre * reach > low) & (lines.centre < high * reach)
    for line in range(lines.centre.shape[1]):
        rows = np.flatnonzero(seen[:, line])
        if not len(rows):
            continue
        # Narrow and broad ones apart: a stamp is as wide as the widest needs.
        for wide in (False, True):
            some = rows[(width[rows, line] > 700.0) == wide]
            if not len(some):
                continue
            drawn = stamp(grid, lines.centre[some, line], width[some, line])
            value = drawn.shape * lines.flux[some, line, None] * drawn.inside
            # Pixels outside are held at the ends with no flux: they may come twice.
            at = (np.repeat(some, drawn.column.shape[1]), drawn.column.ravel())
            np.add.at(spectra, at, value.ravel().astype(np.float32))
