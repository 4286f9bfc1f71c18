"""Chi-square at every whole shift: cross-correlations of weights and flux with bases.

At a shift the model is a sum of a basis' vectors and of the polynomials. These are orthonormal
under the weights and out of the flux already (`weighted.Weighted`), so what is left is a system of
the vectors alone: their products under the weights, less what the polynomials share of them.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np

from galbatch.arrays import fft, namespace
from galbatch.spectra.solve import Factors, packed_outer, pairs
from galbatch.spectra.stacks import Stack, transform_length, wrapped
from galbatch.spectra.weighted import Weighted

FEW_SHIFTS = 64
"""Below this, a product for each shift is cheaper than transforms."""


def factors_of(products: Any, shared: Any, stack: Stack) -> Factors:
    """The systems of a stack, ready to be solved.

    Parameters
    ----------
    products : array, shape (n, b, k (k + 1) / 2, s)
        Of two vectors under the weights.
    shared : array, shape (n, b, P, k, s)
        Of the polynomials and vectors under the weights.
    stack : Stack

    Returns
    -------
    Factors
    """
    xp = namespace(products)
    size = stack.size
    places = [pairs(size).index((row, row)) for row in range(size)]
    own = xp.stack([products[..., place, :] for place in places], axis=-2)
    left = products - packed_outer(shared, size) if shared.shape[-3] else products
    return Factors(left, size, own)


class ExactCurves:
    """Chi-square of a stack at all its shifts.

    Parameters
    ----------
    stack : Stack
    xp : module
        NumPy or cupy.
    """

    def __init__(self, stack: Stack, xp: Any) -> None:
        self._stack, self._xp = stack, xp
        self.shifts = np.arange(stack.shifts)
        """Places of the shifts that there are values for."""
        self.slack = 0.0
        """How far it may be off, in parts of a margin."""
        self._by_transforms = stack.shifts >= FEW_SHIFTS

    @cached_property
    def _length(self) -> int:
        return transform_length(self._stack.grid.points, self._stack.shifts)

    @cached_property
    def _transforms(self) -> tuple[Any, Any]:
        """Conjugate, of products and of vectors."""
        stack, xp = self._stack, self._xp
        made = [
            np.conj(np.fft.rfft(wrapped(lines, stack.shifts, self._length)))
            for lines in (stack.products, stack.lines)
        ]
        return xp.asarray(made[0]), xp.asarray(made[1])

    @cached_property
    def _lines(self) -> tuple[Any, Any]:
        return self._xp.asarray(self._stack.products), self._xp.asarray(self._stack.lines)

    def __call__(self, batch: Weighted) -> Any:
        """Chi-square, of shape (n, b, shifts)."""
        products, crossed = self._terms(batch)
        factors = factors_of(products, crossed[:, :, 1:], self._stack)
        return batch.chi2[:, None, None] - factors.gain(crossed[:, :, 0])

    def _terms(self, batch: Weighted) -> tuple[Any, Any]:
        return self._by_transform(batch) if self._by_transforms else self._by_shift(batch)

    def _by_transform(self, batch: Weighted) -> tuple[Any, Any]:
        backend, length, shifts = fft(self._xp), self._length, self._stack.shifts
        products, vectors = self._transforms
        weights = backend.rfft(batch.weights, length)[:, None, None, :]
        rest = backend.rfft(batch.rest, length)[:, None, :, None, :]
        return (
            backend.irfft(weights * products, length)[..., :shifts],
            backend.irfft(rest * vectors[:, None], length)[..., :shifts],
        )

    def _by_shift(self, batch: Weighted) -> tuple[Any, Any]:
        xp, stack = self._xp, self._stack
        products, vectors = self._lines
        flat = products.reshape(-1, products.shape[-1]), vectors.reshape(-1, vectors.shape[-1])
        found: tuple[list[Any], list[Any]] = ([], [])
        for shift in range(stack.shifts):
            start = stack.shifts - 1 - shift
            part = slice(start, start + stack.grid.points)
            found[0].append(batch.weights @ flat[0][:, part].T)
            found[1].append(batch.rest @ flat[1][:, part].T)
        count, bases = len(batch.weights), len(stack.members)
        by_weights, by_rest = (xp.stack(values, axis=-1) for values in found)
        crossed = by_rest.reshape(count, -1, bases, stack.size, stack.shifts)
        return (
            by_weights.reshape(count, bases, -1, stack.shifts),
            xp.moveaxis(crossed, 2, 1),
        )
