"""Exact fits of single hypotheses: one basis at one whole shift of one spectrum."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from galbatch.spectra.curves import factors_of
from galbatch.spectra.solve import Factors, pairs
from galbatch.spectra.stacks import Stack
from galbatch.spectra.weighted import Weighted

Array = NDArray[np.float64]
Key = tuple[int, int, int, int]
"""Row, stack, basis of the stack, place among its shifts."""


class ExactFits:
    """Chi-square of hypotheses of a batch, each found once.

    Parameters
    ----------
    batch : Weighted
        Of NumPy.
    stacks : sequence of Stack
    """

    def __init__(self, batch: Weighted, stacks: Sequence[Stack]) -> None:
        self._batch, self._stacks = batch, stacks
        self.known: dict[Key, float] = {}
        """Chi-square."""

    def fill(self, wanted: Iterable[Key]) -> None:
        """Find what is not known yet."""
        for number, keys in self._by_stack(set(wanted) - self.known.keys()).items():
            factors, _, right = self._systems(number, keys)
            gains = factors.gain(right)[0, 0]
            rows = [key[0] for key in keys]
            values = (self._batch.chi2[rows] - gains).tolist()
            self.known.update(zip(keys, values, strict=True))

    def coefficients(self, wanted: Sequence[Key]) -> list[tuple[Array, Array]]:
        """Of the vectors as the bases have them, and of Legendre's polynomials."""
        found: dict[Key, tuple[Array, Array]] = {}
        for number, keys in self._by_stack(set(wanted)).items():
            factors, shared, right = self._systems(number, keys)
            solved = factors.solution(right)[0, 0]
            for place, key in enumerate(keys):
                own = solved[:, place]
                left = self._batch.moments[key[0]] - shared[0, 0, :, :, place] @ own
                scales = self._stacks[number].scales[key[2]]
                found[key] = own / scales, left @ self._batch.lower[key[0]]
        return [found[key] for key in wanted]

    def window(self, key: Key) -> Array:
        """What a spectrum meets of a basis at a shift, as its stack has it: of shape (k, m)."""
        _, number, basis, spot = key
        stack = self._stacks[number]
        return stack.window(stack.lines, basis, stack.first + spot)

    def _by_stack(self, keys: Iterable[Key]) -> dict[int, list[Key]]:
        groups: dict[int, list[Key]] = {}
        for key in sorted(keys):
            groups.setdefault(key[1], []).append(key)
        return groups

    def _systems(self, number: int, keys: Sequence[Key]) -> tuple[Factors, Array, Array]:
        """Systems along the last axis, what they share with polynomials, and right sides."""
        stack, batch = self._stacks[number], self._batch
        size, count = stack.size, batch.rest.shape[1]
        found = np.empty((len(keys), count + size, size))
        # The row's own below, and the vectors under its weights: one product for both.
        against, held = np.empty((count + size, stack.grid.points)), -1
        for place, (row, _, basis, spot) in enumerate(keys):
            window = self.window((row, number, basis, spot))
            if row != held:
                against[:count], held = batch.rest[row], row
            np.multiply(window, batch.weights[row], out=against[count:])
            np.matmul(against, window.T, out=found[place])
        products = found[:, count:]
        packed = np.stack([products[:, row, column] for row, column in pairs(size)])[None, None]
        along = np.moveaxis(found[:, :count], 0, -1)[None, None]
        shared, right = along[:, :, 1:], along[:, :, 0]
        return factors_of(packed, shared, stack), shared, right
