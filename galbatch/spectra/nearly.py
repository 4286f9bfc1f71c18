"""Chi-square at every shift, nearly: what tells where the exact one is worth its time.

Spectra are resolved to two pixels and more, so that correlations of weights with products of
vectors have next to nothing at more than a quarter of a cycle a pixel: their transforms are cut
there, and give each second shift. Where shifts are few, pixels are taken by twos and fours instead.
All is done in single precision; no decision is made by it alone.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from galbatch.spectra.curves import FEW_SHIFTS, factors_of
from galbatch.spectra.stacks import Stack, wrapped
from galbatch.spectra.weighted import Weighted, polynomials

Array = NDArray[np.float64]
_STEP = 2
"""Pixels from one shift to the next."""
_GROUP = 4
"""Pixels of a coarse pixel, and of a group of shifts that share what changes slowly."""
_KIND = np.float32
_SLACK = 0.3
_ROWS_BY_TRANSFORM, _ROWS_BY_SHIFT = 4, 64


class NearCurves:
    """Chi-square of a stack at each second of its shifts, of NumPy arrays.

    Parameters
    ----------
    stack : Stack
    degree : int
        Of the polynomial that spectra were made ready with.
    """

    def __init__(self, stack: Stack, degree: int) -> None:
        few = stack.shifts < FEW_SHIFTS
        self.shifts = np.arange(0, stack.shifts, _STEP if few else 1)
        """Places of the shifts that there are values for."""
        self.slack = 1.0 if few else _SLACK
        """How far it may be off, in parts of a margin."""
        # So that all that is made of them at a time stays in a core's cache.
        self._rows = _ROWS_BY_SHIFT if few else _ROWS_BY_TRANSFORM
        self._way: Any = _ByShift(stack, degree) if few else _ByTransform(stack)

    def __call__(self, batch: Weighted) -> Array:
        """Chi-square, of shape (n, b, len(self.shifts))."""
        scale = np.sqrt(batch.weights.mean(axis=1))
        # Rows without data have curves of nothing.
        scale = np.where(scale > 0, scale, 1.0)
        weights = (batch.weights / (scale * scale)[:, None]).astype(_KIND)
        rest = (batch.rest / scale[:, None, None]).astype(_KIND)
        parts = [
            self._way(*(values[start : start + self._rows] for values in (weights, rest)))
            for start in range(0, len(weights), self._rows)
        ]
        gain = np.concatenate(parts)
        found: Array = batch.chi2[:, None, None] - gain[..., : len(self.shifts)]
        return found


class _ByTransform:
    """For many shifts.

    The flux is correlated with the vectors at each. What changes more slowly, the vectors' products
    and what the polynomials share of them, is found at each second; between two of these the mean
    of what both would say is taken.
    """

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        pixels = stack.grid.points + stack.shifts - 1
        # Half of it is even, and a length that is quick.
        self._half = 2 * int(scipy.fft.next_fast_len(-(-pixels // 4), real=True))
        self._shifts = len(range(0, stack.shifts, _STEP))

    @cached_property
    def _transforms(self) -> tuple[Any, Any]:
        """Conjugate, of products and of vectors."""
        stack = self._stack
        own = self._set_apart()
        found = [
            np.conj(scipy.fft.rfft(wrapped(lines, stack.shifts, 2 * self._half)))
            for lines in (stack.products_of(own), own)
        ]
        # The inverse of half the length divides by half as much.
        products, vectors = (0.5 * values.astype(np.complex64) for values in found)
        return np.ascontiguousarray(self._cut(products)), vectors

    def _set_apart(self) -> Array:
        """Sums of the vectors that have nothing in common along all pixels.

        Fits with them are the same, and single precision does not lose what vectors that are
        nearly alike differ by. The sign of a vector that is alone goes by it as it is.
        """
        lines = self._stack.lines
        if self._stack.size == 1:
            return lines
        apart = np.linalg.qr(lines.transpose(0, 2, 1))[0].transpose(0, 2, 1)
        found: Array = apart * np.sqrt(lines.shape[-1])
        return found

    def _cut(self, values: Any) -> Any:
        return values[..., : self._half // 2 + 1]

    def __call__(self, weights: Any, rest: Any) -> Any:
        """By how much chi-square is lower than without a basis."""
        products, vectors = self._transforms
        first = self._cut(scipy.fft.rfft(weights, 2 * self._half))[:, None, None, :]
        second = scipy.fft.rfft(rest, 2 * self._half)[:, None, :, None, :]
        by_weights = scipy.fft.irfft(first * products, self._half)[..., : self._shifts]
        shared = self._cut(second[:, :, 1:]) * self._cut(vectors)[:, None]
        shared = scipy.fft.irfft(shared, self._half)[..., : self._shifts]
        factors = factors_of(by_weights, shared, self._stack)
        right = scipy.fft.irfft(second[:, :, 0] * (2 * vectors), 2 * self._half)
        even, odd = (right[..., start : 2 * self._shifts : 2] for start in (0, 1))
        found = np.empty((*right.shape[:2], 2 * self._shifts), right.dtype)
        found[..., ::2] = factors.gain(even)
        found[..., 1::2] = factors.gain(odd)
        later = factors.part(slice(1, None)).gain(odd[..., :-1])
        found[..., 1:-1:2] += later
        found[..., 1:-1:2] *= 0.5
        return found


class _ByShift:
    """For few shifts.

    What changes slowly with the shift, the vectors' products and what the polynomials share of
    them, is taken from coarse pixels and is the same for a group of shifts.
    """

    def __init__(self, stack: Stack, degree: int) -> None:
        self._stack, self._degree = stack, degree
        self._coarse = -(-stack.shifts // _GROUP)
        self._fine = self._coarse * (_GROUP // _STEP)

    def __call__(self, weights: Any, rest: Any) -> Any:
        """By how much chi-square is lower than without a basis."""
        groups = _GROUP // _STEP
        vectors, slow_products, slow_vectors = self._lines
        right = _by_shift(_binned(rest[:, :1], _STEP), vectors, self._fine)[:, :, 0]
        products = _by_shift(_binned(weights, _GROUP)[:, None], slow_products, self._coarse)
        shared = _by_shift(_binned(rest[:, 1:], _GROUP), slow_vectors, self._coarse)
        factors = factors_of(products[:, :, 0], shared, self._stack)
        found = np.empty((*right.shape[:2], self._fine), right.dtype)
        for place in range(groups):
            found[..., place::groups] = factors.gain(right[..., place::groups])
        return found

    @cached_property
    def _lines(self) -> tuple[Any, Any, Any]:
        """Vectors, and slowly changing products and vectors."""
        lines = self._detrended()
        products = self._stack.products_of(lines)
        groups = _GROUP // _STEP
        vectors, slow_products, slow_vectors = (
            self._coarsened(*given).astype(_KIND)
            for given in (
                (lines, _STEP, self._fine, 1),
                (products, _GROUP, self._coarse, groups),
                (lines, _GROUP, self._coarse, groups),
            )
        )
        return vectors, slow_products, slow_vectors

    def _detrended(self) -> Array:
        """Vectors without polynomials, which every fit has anyway, at whatever shift.

        What is left is small beside the vectors, and so are the errors of its products. A vector
        that ends within the pixels is none of those.
        """
        lines = self._stack.lines
        if self._degree < 0 or not self._stack.fully_covered:
            return lines
        table = polynomials(lines.shape[-1], self._degree)
        weights = np.linalg.lstsq(table.T, lines.reshape(-1, lines.shape[-1]).T, rcond=None)[0]
        left: Array = lines - (weights.T @ table).reshape(lines.shape)
        return left

    def _coarsened(self, lines: Array, width: int, shifts: int, averaged: int) -> Array:
        """Means over `width` pixels, and over `averaged` shifts of a step each.

        Of shape (..., shifts - 1 + coarse pixels); beyond the ends, lines go on as they end.
        """
        pixels = -(-self._stack.grid.points // width)
        places = np.arange(-(shifts - 1) * width, pixels * width)
        total: Any = 0.0
        for shift in range(averaged):
            meets = places - shift * _STEP + self._stack.shifts - 1
            total = total + lines[..., np.clip(meets, 0, lines.shape[-1] - 1)]
        return np.asarray(
            (total / averaged).reshape(*lines.shape[:-1], shifts - 1 + pixels, width).mean(axis=-1)
        )


def _binned(values: Any, width: int) -> Any:
    """Sums of `width` pixels; the last has what is left."""
    whole = values.shape[-1] // width * width
    found = values[..., 0:whole:width].copy()
    for place in range(1, width):
        found += values[..., place:whole:width]
    if whole == values.shape[-1]:
        return found
    return np.concatenate([found, values[..., whole:].sum(axis=-1, keepdims=True)], axis=-1)


def _by_shift(values: Any, lines: Any, shifts: int) -> Any:
    """Products at each shift: of (n, p, m) and (b, k, shifts - 1 + m), (n, b, p, k, shifts)."""
    count, rows, pixels = values.shape
    bases, size, length = lines.shape
    flat, left = lines.reshape(-1, length), values.reshape(-1, pixels)
    found = np.empty((shifts, count * rows, bases * size), values.dtype)
    for shift in range(shifts):
        start = shifts - 1 - shift
        np.matmul(left, flat[:, start : start + pixels].T, out=found[shift])
    shaped = found.reshape(shifts, count, rows, bases, size)
    return np.ascontiguousarray(shaped.transpose(1, 3, 2, 4, 0))
