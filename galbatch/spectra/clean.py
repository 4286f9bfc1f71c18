"""Which pixels of spectra tell something: masks, for whole batches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from galbatch.arrays import constant, namespace
from galbatch.spectra.grids import LogGrid

SKY_LINES: tuple[tuple[float, float], ...] = ((5577.0, 12.0),)
"""Angstrom, in the observed frame: the middle of a line of the night sky, and how far from it
residuals are taken for such."""
_WINGS = 0.35
"""Of a pixel's height: what a neighbour has at least in a line that is as wide as the instrument
resolves (two to three pixels at full width; 0.5 when the line falls between two pixels)."""


def has_data(flux: Any, ivar: Any) -> Any:
    """Pixels with a flux and an error.

    Parameters
    ----------
    flux, ivar : array, shape (n, m)

    Returns
    -------
    array of bool, shape (n, m)
        False where either is not finite, or the inverse variance is not above 0.
    """
    xp = namespace(flux)
    return xp.isfinite(flux) & xp.isfinite(ivar) & (ivar > 0)


def near_sky_lines(
    grid: LogGrid, lines: Sequence[tuple[float, float]] = SKY_LINES, xp: Any = np
) -> Any:
    """Pixels of the observed frame in which lines of the night sky leave residuals.

    Parameters
    ----------
    grid : LogGrid
    lines : sequence of (middle, distance)
        Angstrom, in vacuum or air: the distance is much longer than they differ by.
    xp : module
        Where the mask shall be: NumPy or cupy.

    Returns
    -------
    array of bool, shape (m,)
    """
    found = grid.wavelengths < 0
    for middle, distance in lines:
        found |= abs(grid.wavelengths - middle) <= distance
    return constant(xp, found, bool)


def spikes(flux: Any, ivar: Any, sigmas: float = 6.0) -> Any:
    """Pixels far above or below both neighbours, and narrower than the instrument resolves.

    A pixel is one when it is away from the line between its neighbours, and from that between the
    pixels two away, by `sigmas` of the noise of it and its neighbours, and neither neighbour
    follows it: each has less than 0.35 of its height above the pixels two away. A line as wide as
    the resolution (two pixels and more at half its height) has a neighbour that follows.

    Parameters
    ----------
    flux, ivar : array, shape (n, m)
        Pixels without data (see `has_data`) are no spikes, and neither are their neighbours.
    sigmas : float

    Returns
    -------
    array of bool, shape (n, m)
    """
    xp = namespace(flux)
    good = has_data(flux, ivar)
    value = xp.where(good, flux, 0.0)
    variance = xp.where(good, 1.0 / xp.where(good, ivar, 1.0), 0.0)
    left, middle, right = value[:, 1:-3], value[:, 2:-2], value[:, 3:-1]
    base = 0.5 * (value[:, :-4] + value[:, 4:])
    height = middle - 0.5 * (left + right)
    noise = variance[:, 2:-2] + 0.25 * (variance[:, 1:-3] + variance[:, 3:-1])
    above = middle - base
    far = xp.minimum(height * height, above * above) > sigmas * sigmas * noise
    sign = xp.where(above > 0, 1.0, -1.0)
    limit = _WINGS * abs(above)
    alone = ((left - base) * sign < limit) & ((right - base) * sign < limit)
    known = good[:, :-4] & good[:, 1:-3] & good[:, 2:-2] & good[:, 3:-1] & good[:, 4:]
    found = xp.zeros(flux.shape, dtype=bool)
    found[:, 2:-2] = far & alone & known
    return found


def cleaned(
    flux: Any,
    ivar: Any,
    grid: LogGrid,
    *,
    lines: Sequence[tuple[float, float]] = SKY_LINES,
    sigmas: float = 6.0,
) -> Any:
    """Inverse variances that are 0 where a pixel tells nothing.

    Parameters
    ----------
    flux, ivar : array, shape (n, m)
        In the observed frame.
    grid : LogGrid
    lines : sequence of (middle, distance)
        See `near_sky_lines`.
    sigmas : float
        See `spikes`.

    Returns
    -------
    array, shape (n, m)
    """
    xp = namespace(flux)
    bad = ~has_data(flux, ivar) | spikes(flux, ivar, sigmas)
    bad = bad | near_sky_lines(grid, lines, xp)
    return xp.where(bad, 0.0, ivar)


def signal_to_noise(flux: NDArray[np.float64], ivar: NDArray[np.float64]) -> NDArray[np.float64]:
    """Median over the pixels with data.

    Parameters
    ----------
    flux, ivar : ndarray, shape (n, m)
        An inverse variance of 0 where there is no data.

    Returns
    -------
    ndarray, shape (n,)
        0 without data.
    """
    known = np.where(ivar > 0, flux * np.sqrt(np.maximum(ivar, 0.0)), np.nan)
    known[~(ivar > 0).any(axis=1), 0] = 0.0
    return np.asarray(np.nanmedian(known, axis=1), np.float64)
