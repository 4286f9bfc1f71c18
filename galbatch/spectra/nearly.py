"""Chi-square at every shift, nearly: what tells where the exact one is worth its time.

The flux is correlated with the vectors at each pixel (or each second one). What changes slowly
with the shift, the vectors' products and what the polynomials share of them, is taken from coarse
pixels at coarse shifts, and is the same for all shifts of a group.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from galbatch.spectra.curves import constants_of, factors_of
from galbatch.spectra.stacks import Stack, transform_length, wrapped
from galbatch.spectra.weighted import Weighted

_FEW_SHIFTS = 64
Array = NDArray[np.float64]


class NearCurves:
    """Chi-square of a stack, of NumPy arrays.

    Parameters
    ----------
    stack : Stack
    step : int, optional
        Pixels from one shift to the next; each second pixel where shifts are few.
    group : int
        Pixels of a coarse pixel, a multiple of `step`.
    """

    def __init__(self, stack: Stack, step: int | None = None, group: int = 8) -> None:
        self._stack = stack
        self._by_transforms = stack.shifts >= _FEW_SHIFTS
        self.step = step or (1 if self._by_transforms else 2)
        self._group = group
        self._coarse = -(-stack.shifts // group)
        self._fine = self._coarse * (group // self.step)
        self.shifts = np.arange(0, stack.shifts, self.step)
        """Places of the shifts that there are values for."""

    def __call__(self, batch: Weighted) -> Array:
        """Chi-square, of shape (n, b, len(self.shifts))."""
        stack, groups = self._stack, self._group // self.step
        right = self._flux_terms(_binned(batch.rest[:, :1], self.step))[:, :, 0]
        products, shared = self._slow_terms(
            _binned(batch.weights, self._group), _binned(batch.rest[:, 1:], self._group)
        )
        factors = factors_of(products, shared, constants_of(batch), stack)
        found = np.empty((len(right), len(stack.members), self._fine))
        for place in range(groups):
            found[..., place::groups] = factors.gain(right[..., place::groups])
        return batch.chi2[:, None, None] - found[..., : len(self.shifts)]

    def _flux_terms(self, rest: Array) -> Array:
        """Of shape (n, b, 1, k, fine shifts)."""
        if not self._by_transforms:
            return _by_shift(rest, self._lines, self._fine)
        length = self._length(self._fine, self.step)
        forward = scipy.fft.rfft(rest, length)[:, None, :, None, :]
        found: Array = scipy.fft.irfft(forward * self._transform[:, None], length)
        return found[..., : self._fine]

    def _slow_terms(self, weights: Array, polynomials: Array) -> tuple[Array, Array]:
        """Of shapes (n, b, k (k + 1) / 2, coarse shifts) and (n, b, P, k, coarse shifts)."""
        products, vectors = self._slow_lines
        if not self._by_transforms:
            by_weights = _by_shift(weights[:, None], products, self._coarse)[:, :, 0]
            return by_weights, _by_shift(polynomials, vectors, self._coarse)
        length = self._length(self._coarse, self._group)
        products, vectors = self._slow_transforms
        first = scipy.fft.rfft(weights, length)[:, None, None, :]
        rest = scipy.fft.rfft(polynomials, length)[:, None, :, None, :]
        return (
            scipy.fft.irfft(first * products, length)[..., : self._coarse],
            scipy.fft.irfft(rest * vectors[:, None], length)[..., : self._coarse],
        )

    def _length(self, shifts: int, width: int) -> int:
        return transform_length(-(-self._stack.grid.points // width), shifts)

    @cached_property
    def _lines(self) -> Array:
        return self._coarsened(self._stack.lines, self.step, self._fine, 1)

    @cached_property
    def _slow_lines(self) -> tuple[Array, Array]:
        stack = self._stack
        products, vectors = (
            self._coarsened(lines, self._group, self._coarse, self._group // self.step)
            for lines in (stack.products, stack.lines)
        )
        return products, vectors

    @cached_property
    def _transform(self) -> Any:
        length = self._length(self._fine, self.step)
        return np.conj(scipy.fft.rfft(wrapped(self._lines, self._fine, length)))

    @cached_property
    def _slow_transforms(self) -> tuple[Any, Any]:
        length = self._length(self._coarse, self._group)
        products, vectors = (
            np.conj(scipy.fft.rfft(wrapped(lines, self._coarse, length)))
            for lines in self._slow_lines
        )
        return products, vectors

    def _coarsened(self, lines: Array, width: int, shifts: int, averaged: int) -> Array:
        """Means over `width` pixels, and over `averaged` shifts of a step each.

        Of shape (..., shifts - 1 + coarse pixels); beyond the ends, lines go on as they end.
        """
        pixels = -(-self._stack.grid.points // width)
        places = np.arange(-(shifts - 1) * width, pixels * width)
        total: Any = 0.0
        for shift in range(averaged):
            meets = places - shift * self.step + self._stack.shifts - 1
            total = total + lines[..., np.clip(meets, 0, lines.shape[-1] - 1)]
        return np.asarray(
            (total / averaged).reshape(*lines.shape[:-1], shifts - 1 + pixels, width).mean(axis=-1)
        )


def _binned(values: Array, width: int) -> Array:
    """Sums of `width` pixels; the last has what is left."""
    if width == 1:
        return values
    whole = values.shape[-1] // width * width
    found = values[..., :whole].reshape(*values.shape[:-1], -1, width).sum(axis=-1)
    if whole == values.shape[-1]:
        return found
    return np.concatenate([found, values[..., whole:].sum(axis=-1, keepdims=True)], axis=-1)


def _by_shift(values: Array, lines: Array, shifts: int) -> Array:
    """Products at each shift: of (n, p, m) and (b, k, shifts - 1 + m), (n, b, p, k, shifts)."""
    count, rows, pixels = values.shape
    bases, size, length = lines.shape
    flat, left = lines.reshape(-1, length), values.reshape(-1, pixels)
    found = np.empty((shifts, count * rows, bases * size))
    for shift in range(shifts):
        start = shifts - 1 - shift
        np.matmul(left, flat[:, start : start + pixels].T, out=found[shift])
    shaped = found.reshape(shifts, count, rows, bases, size)
    return np.ascontiguousarray(shaped.transpose(1, 3, 2, 4, 0))
