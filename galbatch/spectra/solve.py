"""Small positive definite systems, one for each spectrum, basis and shift, without a loop of them.

Matrices of k rows are packed by lower triangles, row after row, along the axis before the last:
(..., k (k + 1) / 2, s). All is done by element, so NumPy and cupy do it alike.
"""

from __future__ import annotations

from copy import copy
from typing import Any

from galbatch.arrays import namespace

_SINGULAR = {"f8": 1e-10, "f4": 1e-5}
"""Of a vector's own square: what rounding leaves of one that the others make up."""


def pairs(size: int) -> list[tuple[int, int]]:
    """Rows and columns of a packed matrix, in order."""
    return [(row, column) for row in range(size) for column in range(row + 1)]


def _at(row: int, column: int) -> int:
    return row * (row + 1) // 2 + column


class Factors:
    """A = L D L^T, of packed matrices.

    Parameters
    ----------
    matrices : array, shape (..., k (k + 1) / 2, s)
        A vector that others make up has no part in the solution: its pivot is taken for infinite.
    size : int
        k.
    scales : array, shape (..., k, s), optional
        Squares that the pivots are compared with; those of the diagonal if not given.
    """

    def __init__(self, matrices: Any, size: int, scales: Any = None) -> None:
        xp = namespace(matrices)
        self.size = size
        least = _SINGULAR[matrices.dtype.str[1:]]
        self.lower: dict[tuple[int, int], Any] = {}
        self.inverse: list[Any] = []
        for row in range(size):
            given = matrices[..., _at(row, row), :]
            pivot = given
            scaled: list[Any] = []
            for column in range(row):
                value = matrices[..., _at(row, column), :]
                for place, factor in enumerate(scaled):
                    value = value - factor * self.lower[column, place]
                scaled.append(value)
                self.lower[row, column] = value * self.inverse[column]
                pivot = pivot - value * self.lower[row, column]
            own = given if scales is None else scales[..., row, :]
            sound = pivot > least * own
            self.inverse.append(xp.where(sound, 1.0 / xp.where(sound, pivot, 1.0), 0.0))

    def gain(self, right: Any) -> Any:
        """By how much a fit lowers chi-square: b^T A^-1 b.

        Parameters
        ----------
        right : array, shape (..., k, s)
            b. A single vector has no part where its amplitude would be below 0.

        Returns
        -------
        array, shape (..., s)
        """
        total: Any = 0.0
        for value, inverse in zip(self._forward(right), self.inverse, strict=True):
            total = total + value * value * inverse
        return total

    def part(self, chosen: slice) -> Factors:
        """Those of some places of the last axis."""
        found = copy(self)
        found.lower = {place: values[..., chosen] for place, values in self.lower.items()}
        found.inverse = [values[..., chosen] for values in self.inverse]
        return found

    def _forward(self, right: Any) -> list[Any]:
        xp = namespace(right)
        done: list[Any] = []
        for row in range(self.size):
            value = right[..., row, :]
            for column in range(row):
                value = value - self.lower[row, column] * done[column]
            done.append(value)
        return [xp.maximum(done[0], 0.0)] if self.size == 1 else done

    def solution(self, right: Any) -> Any:
        """A^-1 b, of shape (..., k, s); see `gain`."""
        forward = self._forward(right)
        found = [value * inverse for value, inverse in zip(forward, self.inverse, strict=True)]
        for row in reversed(range(self.size)):
            for below in range(row + 1, self.size):
                found[row] = found[row] - self.lower[below, row] * found[below]
        return namespace(right).stack(found, axis=-2)


def packed_outer(left: Any, size: int) -> Any:
    """Sums over p of c_jp c_lp, packed.

    Parameters
    ----------
    left : array, shape (..., p, k, s)
    size : int
        k.

    Returns
    -------
    array, shape (..., k (k + 1) / 2, s)
    """
    xp = namespace(left)
    made = []
    for row, column in pairs(size):
        total: Any = 0.0
        for place in range(left.shape[-3]):
            total = total + left[..., place, row, :] * left[..., place, column, :]
        made.append(total)
    return xp.stack(made, axis=-2)
