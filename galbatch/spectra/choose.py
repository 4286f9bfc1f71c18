"""The best hypothesis of each spectrum, and the second that is apart from it, found exactly."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from galbatch.spectra.exact import ExactFits, Key
from galbatch.spectra.minima import Minima, Places, other_minima
from galbatch.spectra.stacks import Stack

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Chosen:
    """Of the n rows of a batch.

    Parameters
    ----------
    minima : Minima
        With exact scores near the best.
    best, second : ndarray of int64, shape (n,)
        Places among the minima; -1 where there is no second.
    around : ndarray, shape (n, 3)
        Scores at the shift before the best, the best, and after; NaN beyond the ends.
    """

    minima: Minima
    best: Places
    second: Places
    around: Array

    def weights(self, soften: Array, kinds: int) -> Array:
        """Sums of exp(-score / 2) of each class' minima, relative to the best.

        Parameters
        ----------
        soften : ndarray, shape (n,)
            Scores are divided by it.
        kinds : int

        Returns
        -------
        ndarray, shape (n, kinds)
        """
        minima = self.minima
        above = minima.score - minima.score[self.best][minima.row]
        found = np.zeros((len(self.best), kinds))
        np.add.at(found, (minima.row, minima.kind), np.exp(-0.5 * above / soften[minima.row]))
        return found


class Chooser:
    """Looks exactly where a quick chi-square is near the least.

    Parameters
    ----------
    minima : Minima
        Of n rows; every row has one.
    fits : ExactFits
    stacks : sequence of Stack
    penalty : float
        For each vector.
    margin : ndarray, shape (n,)
        Minima whose quick scores are this near to the least are found exactly.
    apart : int
        In pixels.
    """

    def __init__(
        self,
        minima: Minima,
        fits: ExactFits,
        stacks: Sequence[Stack],
        penalty: float,
        margin: Array,
        apart: int,
    ) -> None:
        order = np.argsort(minima.row, kind="stable")
        self._minima = minima.part(order)
        self._fits, self._stacks, self._penalty = fits, stacks, penalty
        self._margin, self._apart = margin, apart
        self._ends = np.searchsorted(self._minima.row, np.arange(len(margin) + 1))

    def chosen(self, exact: bool) -> Chosen:
        """Find the best and the second.

        Parameters
        ----------
        exact : bool
            Whether the scores are exact already, at each whole shift.
        """
        found = self._minima
        if not exact:
            least = np.minimum.reduceat(found.score, self._ends[:-1])
            self._look(np.flatnonzero(found.score <= (least + self._margin)[found.row]))
        best = np.array([self._least(rows) for rows in self._rows()], dtype=np.int64)
        others = [
            rows.start + other_minima(
                found.kind[rows], found.shift[rows], (found.kind[place], found.shift[place]),
                self._apart,
            )
            for rows, place in zip(self._rows(), best, strict=True)
        ]  # fmt: skip
        if not exact:
            near = [
                places[found.score[places] <= found.score[places].min() + self._margin[row]]
                for row, places in enumerate(others)
                if len(places)
            ]
            self._look(np.concatenate([np.zeros(0, np.int64), *near]))
        second = [places[found.score[places].argmin()] if len(places) else -1 for places in others]
        return Chosen(found, best, np.array(second, dtype=np.int64), self._around(best))

    def _rows(self) -> Iterator[slice]:
        for start, end in zip(self._ends[:-1], self._ends[1:], strict=True):
            yield slice(int(start), int(end))

    def _least(self, rows: slice) -> int:
        return int(rows.start + self._minima.score[rows].argmin())

    def _look(self, places: Places) -> None:
        """Find some minima exactly, and go down from those that may be the least."""
        keys = self._keys(places)
        self._fits.fill(keys)
        self._take(places, keys)
        least = np.full(len(self._margin), np.inf)
        np.minimum.at(least, self._minima.row[places], self._minima.score[places])
        rows = self._minima.row[places]
        near = places[self._minima.score[places] <= least[rows] + 0.5 * self._margin[rows]]
        self._take(near, self._down(self._keys(near)))

    def _keys(self, places: Places) -> list[Key]:
        found = self._minima
        columns = (found.row, found.stack, found.basis, found.place)
        return list(zip(*(column[places].tolist() for column in columns), strict=True))

    def _take(self, places: Places, keys: Sequence[Key]) -> None:
        found = self._minima
        for place, key in zip(places.tolist(), keys, strict=True):
            stack = self._stacks[key[1]]
            found.place[place], found.shift[place] = key[3], key[3] + stack.first
            found.score[place] = self._fits.known[key] + self._penalty * stack.size

    def _down(self, keys: list[Key]) -> list[Key]:
        """The whole shifts at which chi-square is lower than at both neighbours."""
        moving = list(range(len(keys)))
        while moving:
            near = [self._neighbours(keys[place]) for place in moving]
            self._fits.fill(key for group in near for key in group)
            lowest = [min(group, key=self._fits.known.__getitem__) for group in near]
            moved = [(place, key) for place, key in zip(moving, lowest, strict=True)
                     if self._fits.known[key] < self._fits.known[keys[place]]]  # fmt: skip
            for place, key in moved:
                keys[place] = key
            moving = [place for place, _ in moved]
        return keys

    def _neighbours(self, key: Key) -> list[Key]:
        last = self._stacks[key[1]].shifts - 1
        return [(*key[:3], at) for at in range(max(key[3] - 1, 0), min(key[3] + 1, last) + 1)]

    def _around(self, best: Places) -> Array:
        keys = self._keys(best)
        self._fits.fill(key for middle in keys for key in self._neighbours(middle))
        made = np.full((len(keys), 3), np.nan)
        for row, key in enumerate(keys):
            for near in self._neighbours(key):
                made[row, near[3] - key[3] + 1] = self._fits.known[near]
        return made
