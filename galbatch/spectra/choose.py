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
    least : ndarray, shape (n,)
        The best score. That of the best may be above: it is the deepest of those around.
    around : ndarray, shape (n, 3)
        Chi-square at the shift before the best, the best, and after; NaN beyond the ends.
    """

    minima: Minima
    best: Places
    second: Places
    least: Array
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
        above = minima.score - self.least[minima.row]
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
    margin : ndarray, shape (stacks, n)
        Minima whose quick scores are this near to the least are found exactly.
    apart, width : int
        In pixels: how far apart two minima of a class are, and how near to each other minima
        hold the same probability, so that the deepest stands for all.
    """

    def __init__(
        self,
        minima: Minima,
        fits: ExactFits,
        stacks: Sequence[Stack],
        penalty: float,
        margin: Array,
        apart: int,
        width: int,
    ) -> None:
        order = np.argsort(minima.row, kind="stable")
        self._minima = minima.part(order)
        self._fits, self._stacks, self._penalty = fits, stacks, penalty
        self._margin = margin[self._minima.stack, self._minima.row]
        self._apart, self._width = apart, width
        self._seen = np.zeros(len(self._minima.row), dtype=bool)
        self._ends = np.searchsorted(self._minima.row, np.arange(margin.shape[1] + 1))

    def chosen(self, exact: bool) -> Chosen:
        """Find the best and the second.

        Parameters
        ----------
        exact : bool
            Whether the scores are exact already, at each whole shift.
        """
        found = self._minima
        best = self._best(exact)
        others = self._others(best)
        if not exact:
            self._look(self._nearest(others))
            # What was looked at for the second may be the best.
            best = self._best(exact)
            others = self._others(best)
        second = [places[found.score[places].argmin()] if len(places) else -1 for places in others]
        least = np.minimum.reduceat(found.score, self._ends[:-1])
        return Chosen(found, best, np.array(second, dtype=np.int64), least, self._around(best))

    def _best(self, exact: bool) -> Places:
        """The best of each row, which is known exactly."""
        found = self._minima
        while True:
            if not exact:
                least = np.minimum.reduceat(found.score, self._ends[:-1])
                self._look(np.flatnonzero(found.score <= least[found.row] + self._margin))
            best = np.array([self._least(rows) for rows in self._rows()], dtype=np.int64)
            if exact or self._seen[best].all():
                return best

    def _others(self, best: Places) -> list[Places]:
        """Of each row those that are apart from the best."""
        found = self._minima
        return [
            rows.start + other_minima(
                found.kind[rows], found.shift[rows], (found.kind[place], found.shift[place]),
                self._apart,
            )
            for rows, place in zip(self._rows(), best, strict=True)
        ]  # fmt: skip

    def _nearest(self, groups: Sequence[Places]) -> Places:
        """Of each row's group those that are within the margin of its least."""
        score = self._minima.score
        near = [
            places[score[places] <= score[places].min() + self._margin[places]]
            for places in groups
            if len(places)
        ]
        return np.concatenate([np.zeros(0, np.int64), *near])

    def _rows(self) -> Iterator[slice]:
        for start, end in zip(self._ends[:-1], self._ends[1:], strict=True):
            yield slice(int(start), int(end))

    def _least(self, rows: slice) -> int:
        """The deepest of the minima around the one with the best score."""
        found = self._minima
        best = rows.start + int(found.score[rows].argmin())
        near = rows.start + np.flatnonzero(
            (found.stack[rows] == found.stack[best])
            & (found.basis[rows] == found.basis[best])
            & (abs(found.shift[rows] - found.shift[best]) <= self._width)
        )
        return int(near[(found.score[near] + found.bonus[near]).argmin()])

    def _look(self, places: Places) -> None:
        """Find some minima exactly, and go down from those that may be the least."""
        places = places[~self._seen[places]]
        self._seen[places] = True
        keys = self._keys(places)
        self._fits.fill(keys)
        self._take(places, keys)
        least = np.full(len(self._ends) - 1, np.inf)
        np.minimum.at(least, self._minima.row[places], self._minima.score[places])
        rows = self._minima.row[places]
        near = places[self._minima.score[places] <= least[rows] + 0.5 * self._margin[places]]
        self._take(near, self._down(self._keys(near)))

    def _keys(self, places: Places) -> list[Key]:
        found = self._minima
        columns = (found.row, found.stack, found.basis, found.place)
        return list(zip(*(column[places].tolist() for column in columns), strict=True))

    def _take(self, places: Places, keys: Sequence[Key]) -> None:
        found = self._minima
        for place, key in zip(places.tolist(), keys, strict=True):
            stack = self._stacks[key[1]]
            before = (*key[:3], int(found.place[place]))
            if key != before:
                # The sum of probabilities stays what it is when the minimum gets deeper.
                deeper = self._fits.known[before] - self._fits.known[key]
                found.bonus[place] = max(found.bonus[place] - deeper, 0.0)
            found.place[place], found.shift[place] = key[3], key[3] + stack.first
            chi2 = self._fits.known[key] + self._penalty * stack.size
            found.score[place] = chi2 - found.bonus[place]

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
