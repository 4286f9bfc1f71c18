"""Spectra of any wavelengths brought onto one axis, a batch at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import median_filter

from galbatch.spectra.resample import Resampler, edges_of, resampler

_WHOLE = 0.01
"""Of a pixel: grids that are apart by so much less than whole pixels are the same grid."""
_EVEN = 1e-3
"""Of a pixel: how far the wavelengths of an even grid may be from evenness."""
_GAP = 1.8
"""Of the steps around it: a longer step has pixels missing in it."""
_BESIDE = 0.1
"""Of pixels that are beside each other, at least, in a grid with missing ones."""
_AROUND = 31
_LONGEST = 50_000
"""Pixels of a gap; in a longer one only the two at its ends stand."""


@dataclass(frozen=True, eq=False)
class ToAxis:
    """How spectra come from their wavelengths onto an axis.

    Parameters
    ----------
    points, pixels : int
        Of the axis, and of the spectra.
    shift : int or None
        Where both are the same grid: the place that the first pixel goes to, which may be outside.
    resampler : Resampler or None
        Otherwise.
    falling : bool
        Whether the spectra come from the longest wavelength to the shortest: who uses this turns
        them round before.
    places : ndarray of int, shape (pixels,), or None
        Where pixels are missing between theirs: the places of theirs in the grid without gaps that
        `shift` and `resampler` are of.
    """

    points: int
    pixels: int
    shift: int | None
    resampler: Resampler | None
    falling: bool
    places: NDArray[np.intp] | None = None

    @property
    def covered(self) -> int:
        """How many pixels of the axis get something."""
        if self.resampler is not None:
            return int(self.resampler.covered.sum())
        to, _ = self._places
        return int(to.stop - to.start)

    def spectra(self, flux: NDArray[Any], ivar: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        """Flux densities and their inverse variances on the axis.

        On the same grid each number stays what it is. On another one the flux is conserved; a pixel
        that takes from one without data has an inverse variance of 0, and the inverse variances may
        be added up: see `Resampler.independent`.

        Parameters
        ----------
        flux, ivar : ndarray, shape (n, pixels)
            From the shortest wavelength to the longest; integers become float64.

        Returns
        -------
        tuple of ndarray, shape (n, points)
            NaN and 0 where the spectra do not reach, and in their gaps.
        """
        flux, ivar = (
            self._whole(_floats(one), empty) for one, empty in ((flux, np.nan), (ivar, 0))
        )
        if self.resampler is None:
            return self._placed(flux, np.nan), self._placed(ivar, 0.0)
        moved, inverse = self.resampler.independent(flux, ivar)
        return np.where(self.resampler.covered, moved, np.nan), inverse

    def flags(self, mask: NDArray[Any]) -> NDArray[np.int64]:
        """Flags on the axis: all those of the pixels that a pixel takes from."""
        values = self._whole(np.asarray(mask).astype(np.int64), 0)
        if self.resampler is None:
            return self._placed(values, 0)
        found = np.zeros((len(values), self.points), np.int64)
        for bit in range(63):
            one = (values >> bit) & 1
            if one.any():
                found |= (self.resampler.flux(one) > 0).astype(np.int64) << bit
        return found

    @cached_property
    def _places(self) -> tuple[slice, slice]:
        """The pixels of the axis that come from these of the spectra."""
        assert self.shift is not None
        first = max(self.shift, 0)
        pixels = self.pixels if self.places is None else int(self.places[-1]) + 1
        last = max(first, min(self.shift + pixels, self.points))
        return slice(first, last), slice(first - self.shift, last - self.shift)

    def _whole(self, values: NDArray[Any], empty: float) -> NDArray[Any]:
        """With the pixels that are missing between theirs."""
        if self.places is None:
            return values
        found = np.full((len(values), int(self.places[-1]) + 1), empty, values.dtype)
        found[:, self.places] = values
        return found

    def _placed(self, values: NDArray[Any], empty: float) -> NDArray[Any]:
        found = np.full((len(values), self.points), empty, values.dtype)
        to, of = self._places
        found[:, to] = values[:, of]
        return found


def to_axis(wavelengths: NDArray[np.float64], axis: NDArray[np.float64]) -> ToAxis:
    """How spectra come from some wavelengths onto others.

    Grids that are even in the same scale with the same step, and apart by whole pixels, are one
    grid: nothing is interpolated there.

    Parameters
    ----------
    wavelengths : ndarray, shape (pixels,)
        Rising or falling, of the centres of the pixels.
    axis : ndarray, shape (points,)
        Rising.

    Returns
    -------
    ToAxis
    """
    falling = bool(wavelengths[0] > wavelengths[-1])
    rising = wavelengths[::-1] if falling else wavelengths
    own = _places_on(rising, axis)
    if own is not None:
        return ToAxis(len(axis), len(wavelengths), int(own[0]), None, falling, own - own[0])
    rising, places = _without_gaps(rising)
    shift = _whole_shift(rising, axis)
    between = None if shift is not None else resampler(edges_of(rising), edges_of(axis))
    return ToAxis(len(axis), len(wavelengths), shift, between, falling, places)


def _places_on(
    wavelengths: NDArray[np.float64], axis: NDArray[np.float64]
) -> NDArray[np.intp] | None:
    """The pixels of an even axis that wavelengths are, however many between them are missing.

    They may lie outside of it. None where they are others.
    """
    for scale in (np.log10, np.asarray):
        given, wanted = scale(wavelengths), scale(axis)
        step = (wanted[-1] - wanted[0]) / (len(wanted) - 1)
        even = np.abs(wanted - wanted[0] - step * np.arange(len(wanted))).max() < _EVEN * step
        found = (given - wanted[0]) / step
        places = np.rint(found)
        apart = np.diff(places)
        # A grid of wider pixels may lie on those of the axis too: none of its steps is one pixel.
        some = (apart > 0).all() and (apart == 1).mean() > _BESIDE
        if even and some and np.abs(found - places).max() < _WHOLE:
            return np.asarray(places, np.intp)
    return None


def _floats(values: NDArray[Any]) -> NDArray[Any]:
    return values if values.dtype.kind == "f" else values.astype(np.float64)


_Scale = Callable[[NDArray[np.float64]], NDArray[np.float64]]


def _power(logarithms: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.power(10.0, logarithms))


_SCALES: tuple[tuple[_Scale, _Scale], ...] = ((np.log10, _power), (np.asarray, np.asarray))


def _missing(
    wavelengths: NDArray[np.float64], there: _Scale, back: _Scale
) -> tuple[float, NDArray[np.int64], _Scale, _Scale]:
    """How uneven a grid is in a scale, how many pixels are missing in each step, and the scale."""
    steps = np.diff(there(wavelengths))
    usual = median_filter(steps, _AROUND, mode="nearest")
    missing = np.where(steps > _GAP * usual, np.rint(steps / usual) - 1, 0).astype(np.int64)
    sound = steps[missing == 0]
    uneven = float(sound.std() / sound.mean()) if len(sound) else np.inf
    return uneven, missing, there, back


def _without_gaps(
    wavelengths: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.intp] | None]:
    """A grid with the pixels that are missing in it, and the places of those it has.

    A pixel reaches half way to its neighbour: over a gap that would be far beyond itself.
    """
    if len(wavelengths) < 3:
        return wavelengths, None
    _, missing, there, back = min(
        (_missing(wavelengths, *scale) for scale in _SCALES), key=lambda one: one[0]
    )
    if not missing.any():
        return wavelengths, None
    values, parts = there(wavelengths), []
    for place in np.flatnonzero(missing):
        low, high, many = values[place], values[place + 1], int(missing[place])
        between = np.linspace(low, high, many + 2)[1:-1]
        parts.append(between if many <= _LONGEST else between[[0, -1]])
    added = dict(zip(np.flatnonzero(missing).tolist(), parts, strict=True))
    counts = np.array([len(added.get(place, ())) for place in range(len(missing))])
    places = np.concatenate([[0], np.cumsum(1 + counts)])
    whole = np.empty(int(places[-1]) + 1)
    whole[places] = wavelengths
    rest = np.ones(len(whole), bool)
    rest[places] = False
    whole[rest] = back(np.concatenate(parts))
    return whole, places.astype(np.intp)


def _whole_shift(wavelengths: NDArray[np.float64], axis: NDArray[np.float64]) -> int | None:
    """By how many pixels one grid lies behind the start of another, if both are the same grid."""
    for scale in (np.log10, np.asarray):
        given, wanted = scale(wavelengths), scale(axis)
        step = (wanted[-1] - wanted[0]) / (len(wanted) - 1)
        places = (given - wanted[0]) / step
        shift = round(float(places[0]))
        off = np.abs(places - shift - np.arange(len(places)))
        even = np.abs(wanted - wanted[0] - step * np.arange(len(wanted))).max() < _EVEN * step
        if even and off.max() < _WHOLE:
            return shift
    return None
