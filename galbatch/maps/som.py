"""A self-organising map, learned from all rows at once in each pass (Kohonen's batch map).

Kohonen (2013), Neural Networks 37, 52, equations 8 and 9: every cell moves to the mean of the rows
that are nearest to it and to its neighbours on the map, weighted by the neighbourhood. Sums over
rows are all that a pass needs, so that rows may lie in any number of parts, and are never held
together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial, reduce
from operator import add
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

RowPart = Callable[[], Iterable[NDArray[np.floating]]]
"""Gives a part of the rows again, in pieces of shape (n, d), in the same order each time."""
Each = Callable[[Callable[[Any], Any], Iterable[Any]], Iterable[Any]]
"""Does something with each part and gives what came of it, in the order of the parts: `map`, or
that of a pool of threads or processes. What is made of it does not depend on which."""
_WIDE = 1e30
_CHUNK = 8192
"""Rows whose distances to all cells are held at a time."""


@dataclass(frozen=True, eq=False)
class Moments:
    """Mean and scatter of rows, which those of several parts are joined to.

    Chan, Golub & LeVeque (1983), The American Statistician 37, 242: sums about the mean, which keep
    their digits where the mean is far from zero.

    Parameters
    ----------
    count : int
    mean : ndarray, shape (d,)
    products : ndarray, shape (d, d)
        Sum of the products of every two numbers of a row, each less its mean.
    """

    count: int
    mean: NDArray[np.float64]
    products: NDArray[np.float64]

    @classmethod
    def of(cls, pieces: Iterable[NDArray[np.floating]]) -> Moments | None:
        """Of rows in pieces of shape (n, d); None where there is no row."""
        found: Moments | None = None
        for piece in pieces:
            if not len(piece):
                continue
            rows = np.asarray(piece, np.float64)
            mean = rows.mean(axis=0)
            rows = rows - mean
            more = cls(len(rows), mean, rows.T @ rows)
            found = more if found is None else found + more
        return found

    def __add__(self, other: Moments) -> Moments:
        count = self.count + other.count
        apart = other.mean - self.mean
        between = np.outer(apart, apart) * (self.count * other.count / count)
        mean = self.mean + apart * (other.count / count)
        return Moments(count, mean, self.products + other.products + between)

    @property
    def spreads(self) -> NDArray[np.float64]:
        """Standard deviation of each number; 0 where all rows have the same but for rounding."""
        found = np.sqrt(np.diag(self.products) / self.count)
        rounding = 4 * np.finfo(np.float64).eps * np.abs(self.mean)
        return np.asarray(np.where(found > rounding, found, 0.0))

    def scaling(self, most: int | None = None) -> Scaling:
        """The directions with the largest spread, all that have any by default.

        Numbers are brought to one spread first, so that their units do not matter.
        """
        spreads = self.spreads
        used = np.flatnonzero(spreads > 0)
        if not len(used):
            raise ValueError("a map needs rows that differ")
        scale = spreads[used]
        correlation = self.products[np.ix_(used, used)] / self.count / np.outer(scale, scale)
        values, vectors = np.linalg.eigh(correlation)
        order = np.argsort(values)[::-1]
        values, vectors = values[order], vectors[:, order]
        # What rounding alone makes of a direction without spread is no direction.
        kept = int((values > 1e-10 * values[0]).sum())
        kept = min(kept, most or kept)
        # The sign of a direction is nobody's choice: its largest part is positive.
        largest = np.abs(vectors[:, :kept]).argmax(axis=0)
        signs = np.sign(vectors[largest, np.arange(kept)])
        matrix = np.zeros((len(spreads), kept))
        matrix[used] = vectors[:, :kept] * signs / np.sqrt(values[:kept]) / scale[:, None]
        return Scaling(self.mean, matrix)


@dataclass(frozen=True, eq=False)
class Scaling:
    """Rows as the map sees them: without a mean, with the same spread in every direction.

    Parameters
    ----------
    mean : ndarray, shape (d,)
    matrix : ndarray, shape (d, k)
        The first directions of the rows' correlation, each divided by its spread.
    """

    mean: NDArray[np.float64]
    matrix: NDArray[np.float64]

    def __call__(self, rows: NDArray[np.floating]) -> NDArray[np.float32]:
        """Of rows of shape (n, d), shape (n, k).

        In float32 where rows are: what their own digits leave open is as large as what its sums do.
        """
        kind = np.float32 if rows.dtype == np.float32 and self._is_narrow else np.float64
        moved = np.subtract(rows, self.mean.astype(kind), dtype=kind)
        return np.asarray(moved @ self.matrix.astype(kind), np.float32)

    @cached_property
    def _is_narrow(self) -> bool:
        """Whether its numbers are those of float32."""
        largest = max(float(np.abs(self.matrix).max()), float(np.abs(self.mean).max()))
        return largest < _WIDE


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

    def __add__(self, other: SomErrors) -> SomErrors:
        """Of the rows of both."""
        rows = self.rows + other.rows
        mine, its = self.rows / max(rows, 1), other.rows / max(rows, 1)
        return SomErrors(
            rows,
            mine * self.quantisation + its * other.quantisation,
            mine * self.topographic + its * other.topographic,
            self.hits + other.hits,
        )


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
    found = Moments.of(parts)
    if found is None or found.count < 2:
        raise ValueError(f"a map needs rows, got {found.count if found else 0}")
    return found.scaling(most)


def fit_som(
    parts: Sequence[RowPart],
    shape: tuple[int, int],
    *,
    widths: Sequence[float],
    plane: NDArray[np.float64] | None = None,
    each: Each = map,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Som:
    """Learn a map.

    It begins flat, along two directions. The result does not depend on chance, on who does the
    parts, nor on how the rows are cut into parts, but for the last digits of the latter.

    Parameters
    ----------
    parts : sequence of callable
    shape : tuple of int
    widths : sequence of float
        Of the neighbourhood, in cells, in each pass; see `narrowing`.
    plane : ndarray, shape (2, k), optional
        The directions, as long as the spread of the rows along them, of rows whose mean is zero;
        by default those in which the rows spread most. Whitened rows have none of these.
    each : callable
    progress : callable
        Is told (passes done, passes in all).

    Returns
    -------
    Som
    """
    cells = _flat(parts, shape, each) if plane is None else _on_plane(0.0, plane, shape)
    places = np.stack(np.unravel_index(np.arange(len(cells)), shape), axis=1)
    apart = ((places[:, None] - places[None]) ** 2).sum(axis=2)
    for number, width in enumerate(widths):
        sums, counts = np.zeros_like(cells), np.zeros(len(cells))
        for more, rows in each(partial(_sums_of_part, cells=cells), parts):
            sums += more
            counts += rows
        near = np.exp(-apart / (2.0 * width**2))
        weight = near @ counts
        moved = weight > 1e-12 * counts.sum()
        cells = cells.copy()
        cells[moved] = (near @ sums)[moved] / weight[moved, None]
        progress(number + 1, len(widths))
    return Som(shape, cells)


def _sums_of_part(
    part: RowPart, cells: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """`sums_by_cell` of all rows of a part."""
    sums, counts = np.zeros(cells.shape), np.zeros(len(cells))
    for piece in part():
        more, rows = sums_by_cell(piece, cells)
        sums += more
        counts += rows
    return sums, counts


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


def _flat(parts: Sequence[RowPart], shape: tuple[int, int], each: Each) -> NDArray[np.float64]:
    """Cells on the plane of the two directions with the largest spread."""
    moments = [one for one in each(_moments_of_part, parts) if one is not None]
    if not moments:
        raise ValueError("a map needs rows, got 0")
    together = reduce(add, moments)
    values, vectors = np.linalg.eigh(together.products / together.count)
    order = np.argsort(values)[::-1][:2]
    signs = np.sign(vectors[np.abs(vectors[:, order]).argmax(axis=0), order])
    directions = vectors[:, order] * signs * np.sqrt(np.maximum(values[order], 0.0))
    return _on_plane(together.mean, directions.T, shape)


def _moments_of_part(part: RowPart) -> Moments | None:
    return Moments.of(part())


def _on_plane(
    mean: NDArray[np.float64] | float, directions: NDArray[np.float64], shape: tuple[int, int]
) -> NDArray[np.float64]:
    """Cells from -1.5 to 1.5 spreads along each direction, of which there may be one alone."""
    if len(directions) < 2:
        directions = np.concatenate([directions, np.zeros_like(directions)])
    x, y = (np.linspace(-1.5, 1.5, size) if size > 1 else np.zeros(1) for size in shape)
    steps = np.stack(np.meshgrid(x, y, indexing="ij"), axis=-1).reshape(-1, 2)
    return np.asarray(mean + steps @ directions, np.float64)
