"""What may be wrong with the best fits of a batch; see `flags.SpecFlag`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from galbatch.spectra.flags import SpecFlag
from galbatch.spectra.grids import LogGrid
from galbatch.spectra.weighted import Weighted

Array = NDArray[np.float64]

BROAD_LINES = (1549.06, 1908.73, 2799.12, 4862.68, 6564.61)
"""Angstrom in vacuum: C IV, C III], Mg II, H beta, H alpha, as SDSS has them for this flag."""
_HALF, _SIDE = 0.008, 0.016
"""Of log10(wavelength): half of a broad line, and as far as its continuum is taken from."""
_COVERED = 0.18
_SMALL = 0.01
_OUTLIERS, _FAR = 0.05, 5.0
_QUIET, _LOUD = 1 / 10**2, 50.0**2
"""Of the variance that inverse variances say: errors that are 10 times too large, or 50 times too
small. Sharp lines of bright stars alone may look like ten; pixels of a grid that is finer than what
was measured scatter by some times less than their errors."""
_MEDIAN = 0.4549
"""Of chi-square with one degree of freedom."""
_NEAR = 5e-4
_SEEN = 5.0
"""Sigmas of the mean flux."""
_BY_CHANCE = 30.0
"""Chi-square that the best of some ten thousand hypotheses of four vectors gains of noise alone."""

_NOTHING = 1e-6
"""Of the largest weight of a spectrum."""
WINDOWS = (5, 25)
"""Pixels side by side; 350 and 1,700 km/s on SDSS's grid: narrow and broad lines."""


@dataclass(frozen=True, eq=False)
class Fits:
    """The best fits of n rows.

    Parameters
    ----------
    models : ndarray, shape (n, m)
    covered : ndarray of bool, shape (n, m)
        Pixels that the best basis has at its shift.
    kind : ndarray of str, shape (n,)
    z, chi2, dof, delta_chi2 : ndarray, shape (n,)
    at_end : ndarray of bool, shape (n,)
        The minimum is at an end of the redshifts.
    """

    models: Array
    covered: NDArray[np.bool_]
    kind: NDArray[np.str_]
    z: Array
    chi2: Array
    dof: NDArray[np.int64]
    delta_chi2: Array
    at_end: NDArray[np.bool_]


def doubts(fits: Fits, batch: Weighted, grid: LogGrid) -> NDArray[np.int64]:
    """Flags of fits, of shape (n,).

    Parameters
    ----------
    fits : Fits
    batch : Weighted
        Of NumPy: the same rows.
    grid : LogGrid

    Returns
    -------
    ndarray of int64
    """
    weights = batch.weights
    far = weights * (batch.flux - fits.models) ** 2 > _FAR**2
    seen = ((weights > 0) & fits.covered).sum(axis=1) * grid.step
    mean = (weights * fits.models).sum(axis=1)
    faint = abs((weights * batch.flux).sum(axis=1)) < _SEEN * np.sqrt(weights.sum(axis=1))
    absorbed = np.zeros(len(weights), dtype=bool)
    for row in np.flatnonzero(fits.kind == "QSO"):
        absorbed[row] = _has_negative_line(fits.models[row], weights[row], fits.z[row], grid)
    found = {
        SpecFlag.SKY: faint & (batch.none - fits.chi2 < _BY_CHANCE),
        SpecFlag.LITTLE_COVERAGE: seen < _COVERED,
        SpecFlag.SMALL_DELTA_CHI2: fits.delta_chi2 < _SMALL * fits.dof,
        SpecFlag.NEGATIVE_MODEL: (mean < 0) & (fits.kind != "GALAXY"),
        SpecFlag.MANY_OUTLIERS: far.sum(axis=1) > _OUTLIERS * batch.pixels,
        SpecFlag.Z_FITLIMIT: fits.at_end,
        SpecFlag.NEGATIVE_EMISSION: absorbed,
        SpecFlag.BAD_IVAR: (fits.chi2 < _QUIET * fits.dof)
        | (fits.chi2 > _LOUD * fits.dof)
        | (_unrest(batch) > _LOUD),
        SpecFlag.AT_REST: (fits.kind != "STAR") & (abs(fits.z) < _NEAR),
    }
    flags = np.zeros(len(weights), dtype=np.int64)
    for flag, rows in found.items():
        flags[rows] |= int(flag)
    return flags


def residual_peaks(left: Array, weights: Array) -> Array:
    """The largest mean of what a fit leaves over neighbouring pixels, in its own errors.

    Parameters
    ----------
    left : ndarray, shape (n, m)
        Flux less model.
    weights : ndarray, shape (n, m)
        Inverse variances, 0 where there is no data.

    Returns
    -------
    ndarray, shape (n,)
        Of each number of pixels in `WINDOWS`, whatever the sign; noise alone has about 4.
    """
    sums = np.cumsum(np.stack([weights * left, weights]), axis=-1)
    largest = np.zeros(len(left))
    for width in WINDOWS:
        if width >= left.shape[1]:
            continue
        total, weight = sums[:, :, width:] - sums[:, :, :-width]
        # A difference of sums has rounding where there is no data.
        known = weight > _NOTHING * weight.max(axis=1, keepdims=True)
        root = np.sqrt(np.where(known, weight, 1.0))
        own = np.where(known, np.abs(total) / root, 0.0)
        largest = np.maximum(largest, own.max(axis=1))
    return largest


def _unrest(batch: Weighted) -> Array:
    """How much more neighbouring pixels differ than their errors say, as a ratio of variances.

    Of second differences, by their median: a slope and a few lines do not count.
    """
    (left, middle, right), weights = _threes(batch.flux), _threes(batch.weights)
    known = np.logical_and.reduce([one > 0 for one in weights])
    variances = [np.divide(1.0, one, out=np.zeros(one.shape), where=known) for one in weights]
    expected = variances[0] + 4 * variances[1] + variances[2]
    squares = (left - 2 * middle + right) ** 2
    ratio = np.divide(squares, expected, out=np.full(known.shape, np.inf), where=known)
    ratio.sort(axis=1)
    middle_one = np.maximum(known.sum(axis=1) - 1, 0) // 2
    found = np.take_along_axis(ratio, middle_one[:, None], axis=1)[:, 0]
    # Without three neighbours nothing is known.
    return np.asarray(np.where(np.isfinite(found), found, 0.0) / _MEDIAN)


def _threes(values: Array) -> tuple[Array, Array, Array]:
    """Neighbouring pixels, of every fourth three."""
    return values[:, :-2:4], values[:, 1:-1:4], values[:, 2::4]


def _has_negative_line(model: Array, weights: Array, redshift: float, grid: LogGrid) -> bool:
    """Whether any broad line of a model is below its continuum by three errors of the data."""
    for line in BROAD_LINES:
        middle = round((np.log10(line * (1 + redshift)) - grid.first) / grid.step)
        half, side = round(_HALF / grid.step), round(_SIDE / grid.step)
        if middle - side < 0 or middle + side >= grid.points:
            continue
        left, right = middle - half, middle + half
        blue = float(model[middle - side : left].mean())
        red = float(model[right + 1 : middle + side + 1].mean())
        own, weight = model[left : right + 1], weights[left : right + 1]
        good = weight > 0
        above = own - np.linspace(blue, red, len(own))
        variance = np.divide(1.0, weight, where=good, out=np.zeros_like(weight))
        if above[good].sum() + 3 * np.sqrt(variance.sum()) < 0:
            return True
    return False
