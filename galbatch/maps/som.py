"""A self-organising map, learned from all rows at once in each pass (Kohonen's batch map).

Kohonen (2013), Neural Networks 37, 52, equations 8 and 9: every cell moves to the mean of the rows
that are nearest to it and to its neighbours on the map, weighted by the neighbourhood. Sums over
rows are all that a pass needs, so that rows may lie in any number of parts, and are never held
together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

RowParts = Callable[[], Iterable[NDArray[np.floating]]]
"""Gives the rows again, in parts of shape (n, d), in the same order each time."""
_CHUNK = 8192
"""Rows whose distances to all cells are held at a time."""


@dataclass(frozen=True, eq=False)
class Scaling:
    """Rows as the map sees them: without a mean, with the same spread in every direction.

    Parameters
    ----------
    mean : ndarray, shape (d,)
    matrix : ndarray, shape (d, k)
        The first directions of the rows' covariance, each divided by its spread.
    """

    mean: NDArray[np.float64]
    matrix: NDArray[np.float64]

    def __call__(self, rows: NDArray[np.floating]) -> NDArray[np.float32]:
        """Of rows of shape (n, d), shape (n, k)."""
        return np.asarray((rows - self.mean) @ self.matrix, np.float32)


@dataclass(frozen=True, eq=False)
class Som:
    """A map of cells in rows and columns.

    Parameters
    ----------
    shape : tuple of int
        Cells along x and y, two or more in all.
    cells : ndarray of float64, shape (x * y, k)
        Where each cell is among the rows; that of (x, y) has the place x * shape[1] + y.
    """

    shape: tuple[int, int]
    cells: NDArray[np.float64]

    def nearest(
        self, rows: NDArray[np.floating]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
        """The two nearest cells of rows, and the distance to the first.

        Parameters
        ----------
        rows : ndarray, shape (n, k)

        Returns
        -------
        tuple of ndarray, shape (n,)
        """
        first = np.empty(len(rows), np.int64)
        second = np.empty(len(rows), np.int64)
        distance = np.empty(len(rows))
        for part, near in _in_chunks(rows, self.cells):
            order = np.argpartition(near, 1, axis=1)[:, :2]
            values = np.take_along_axis(near, order, axis=1)
            swap = values[:, 0] > values[:, 1]
            order[swap] = order[swap, ::-1]
            first[part], second[part] = order[:, 0], order[:, 1]
            # Of the difference itself: that of squares has lost the digits of near cells.
            away = rows[part].astype(np.float64) - self.cells[order[:, 0]]
            distance[part] = np.sqrt(np.einsum("nk,nk->n", away, away))
        return first, second, distance

    def places(self, cells: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The columns x and rows y of cells."""
        return cells // self.shape[1], cells % self.shape[1]

    def errors(self, parts: Iterable[NDArray[np.floating]]) -> SomErrors:
        """How well the map stands for rows."""
        rows = apart = 0
        total = 0.0
        hits = np.zeros(len(self.cells), np.int64)
        for part in parts:
            first, second, distance = self.nearest(part)
            total += float(distance.sum())
            apart += int((~self._touch(first, second)).sum())
            hits += np.bincount(first, minlength=len(hits))
            rows += len(part)
        return SomErrors(rows, total / max(rows, 1), apart / max(rows, 1), hits)

    def u_matrix(self) -> NDArray[np.float64]:
        """The mean distance of each cell to those that touch it, shape (x, y)."""
        places = np.arange(len(self.cells))
        found = np.zeros(self.shape)
        for place in places:
            touching = self._touch(np.full(len(places), place), places) & (places != place)
            away = np.linalg.norm(self.cells[touching] - self.cells[place], axis=1)
            found[np.unravel_index(place, self.shape)] = away.mean() if touching.any() else 0.0
        return found

    def _touch(self, one: NDArray[np.int64], other: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Whether cells are side by side, or corner to corner."""
        (x, y), (u, v) = self.places(one), self.places(other)
        touch: NDArray[np.bool_] = (np.abs(x - u) <= 1) & (np.abs(y - v) <= 1)
        return touch


@dataclass(frozen=True, eq=False)
class SomErrors:
    """How well a map stands for rows.

    Parameters
    ----------
    rows : int
    quantisation : float
        Mean distance of a row to its cell.
    topographic : float
        Share of the rows whose two nearest cells do not touch each other.
    hits : ndarray of int64
        Rows of each cell.
    """

    rows: int
    quantisation: float
    topographic: float
    hits: NDArray[np.int64]


def scaling_of(parts: Iterable[NDArray[np.floating]], most: int | None = None) -> Scaling:
    """Directions and spreads of rows.

    Parameters
    ----------
    parts : iterable of ndarray, shape (n, d)
    most : int, optional
        Directions to keep, those with the largest spread; by default all that have any.

    Returns
    -------
    Scaling
    """
    count = 0
    total = squares = None
    for part in parts:
        rows = np.asarray(part, np.float64)
        count += len(rows)
        total = rows.sum(axis=0) if total is None else total + rows.sum(axis=0)
        product = rows.T @ rows
        squares = product if squares is None else squares + product
    if total is None or squares is None or count < 2:
        raise ValueError(f"a map needs rows, got {count}")
    mean = total / count
    values, vectors = np.linalg.eigh(squares / count - np.outer(mean, mean))
    order = np.argsort(values)[::-1]
    values, vectors = values[order], vectors[:, order]
    # What rounding alone makes of a direction without spread is no direction.
    kept = int((values > 1e-10 * values[0]).sum())
    kept = min(kept, most or kept)
    # The sign of a direction is nobody's choice: its largest part is positive.
    largest = np.abs(vectors[:, :kept]).argmax(axis=0)
    signs = np.sign(vectors[largest, np.arange(kept)])
    return Scaling(mean, vectors[:, :kept] * signs / np.sqrt(values[:kept]))


def fit_som(
    parts: RowParts,
    shape: tuple[int, int],
    *,
    widths: Sequence[float],
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Som:
    """Learn a map.

    It begins flat, along the two directions in which the rows spread most. The result does not
    depend on chance, nor on how the rows are cut into parts, but for the last digits.

    Parameters
    ----------
    parts : callable
    shape : tuple of int
    widths : sequence of float
        Of the neighbourhood, in cells, in each pass; see `narrowing`.
    progress : callable
        Is told (passes done, passes in all).

    Returns
    -------
    Som
    """
    cells = _flat(parts, shape)
    places = np.stack(np.unravel_index(np.arange(len(cells)), shape), axis=1)
    apart = ((places[:, None] - places[None]) ** 2).sum(axis=2)
    for number, width in enumerate(widths):
        sums, counts = np.zeros_like(cells), np.zeros(len(cells))
        for part in parts():
            more, rows = sums_by_cell(part, cells)
            sums += more
            counts += rows
        near = np.exp(-apart / (2.0 * width**2))
        weight = near @ counts
        moved = weight > 1e-12 * counts.sum()
        cells[moved] = (near @ sums)[moved] / weight[moved, None]
        progress(number + 1, len(widths))
    return Som(shape, cells)


def narrowing(first: float, last: float, passes: int) -> NDArray[np.float64]:
    """Widths of the neighbourhood from wide to narrow, by the same factor from pass to pass."""
    return np.geomspace(first, last, passes)


def sums_by_cell(
    rows: NDArray[np.floating], cells: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The sum of the rows that are nearest to each cell, and how many these are.

    Parameters
    ----------
    rows : ndarray, shape (n, k)
    cells : ndarray, shape (c, k)

    Returns
    -------
    tuple of ndarray, shapes (c, k) and (c,)
    """
    sums, counts = np.zeros(cells.shape), np.zeros(len(cells))
    for part, near in _in_chunks(rows, cells):
        first = near.argmin(axis=1)
        ones = np.ones(len(first), np.float32)
        which = sparse.csr_array((ones, first, np.arange(len(first) + 1)), (len(first), len(cells)))
        sums += which.T @ np.asarray(rows[part], np.float32)
        counts += np.bincount(first, minlength=len(cells))
    return sums, counts


def _in_chunks(
    rows: NDArray[np.floating], cells: NDArray[np.float64]
) -> Iterator[tuple[slice, NDArray[np.float32]]]:
    """Squared distances to all cells, less that of the row to the origin, shape (n, c)."""
    narrow = cells.astype(np.float32)
    half = (0.5 * (cells**2).sum(axis=1)).astype(np.float32)
    for start in range(0, len(rows), _CHUNK):
        part = slice(start, min(start + _CHUNK, len(rows)))
        products = np.asarray(rows[part], np.float32) @ narrow.T
        yield part, np.subtract(half, products, out=products)


def _flat(parts: RowParts, shape: tuple[int, int]) -> NDArray[np.float64]:
    """Cells on the plane of the two directions with the largest spread."""
    plane = scaling_of(parts(), 2)
    spreads = 1.0 / np.linalg.norm(plane.matrix, axis=0)
    directions = plane.matrix * spreads**2
    if directions.shape[1] < 2:
        directions = np.concatenate([directions, np.zeros_like(directions)], axis=1)
    x, y = (np.linspace(-1.5, 1.5, size) if size > 1 else np.zeros(1) for size in shape)
    steps = np.stack(np.meshgrid(x, y, indexing="ij"), axis=-1).reshape(-1, 2)
    return np.asarray(plane.mean + steps @ directions.T, np.float64)
