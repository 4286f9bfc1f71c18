"""The rows that a page shows of a model: those that suit its roles best, of all partitions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pandas.util import hash_array

from galbatch.columns import to_numpy
from galbatch.shown import Role
from galbatch.values import Partition

MOST = 6
"""Rows that are shown, at most."""
_DRAWN = 4096
"""Rows that a median is taken of, at most."""


@dataclass(frozen=True)
class RowPlace:
    """Where a row is.

    Parameters
    ----------
    partition : Partition
    place : int
        In the partition.
    """

    partition: Partition
    place: int


class BestRows:
    """The rows that suit a role best; memory does not grow with the survey.

    Parameters
    ----------
    role : Role
    """

    def __init__(self, role: Role) -> None:
        self.role = role
        self._kept: list[tuple[float, float, RowPlace]] = []

    def add(self, partition: Partition, predictions: pa.Table) -> None:
        """One more partition's rows."""
        role = self.role
        values = np.asarray(to_numpy(predictions[role.column]), np.float64)
        fits = np.isfinite(values)
        if role.only is not None:
            column, word = role.only
            fits &= pc.fill_null(pc.equal(predictions[column], word), False).to_numpy()
        if role.least is not None:
            fits &= values >= role.least
        places = np.flatnonzero(fits)
        values = values[places]
        order = self._order(partition, places, values)
        most = _DRAWN if role.order == "median" else MOST
        first = np.argsort(order, kind="stable")[:most]
        self._kept += [
            (float(order[one]), float(values[one]), RowPlace(partition, int(places[one])))
            for one in first
        ]
        self._kept = sorted(self._kept, key=lambda one: one[0])[:most]

    def _order(
        self, partition: Partition, places: NDArray[np.intp], values: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """What rows are sorted by; for a median drawn at random, by where they are."""
        if self.role.order == "smallest":
            return values
        if self.role.order == "largest":
            return -values
        of = hash_array(np.array([partition.name], object), categorize=False)
        return hash_array(places.astype(np.uint64) ^ of, categorize=False) / 2.0**64

    def best(self) -> tuple[RowPlace, ...]:
        """A few rows, those that suit best first."""
        kept = self._kept
        if self.role.order == "median" and kept:
            middle = float(np.median([value for _, value, _ in kept]))
            kept = sorted(kept, key=lambda one: abs(one[1] - middle))
        return tuple(place for _, _, place in kept[:MOST])


def rows_to_show(rankings: Sequence[BestRows]) -> dict[RowPlace, str]:
    """Which rows are shown, and why.

    Parameters
    ----------
    rankings : sequence of BestRows

    Returns
    -------
    dict of RowPlace to str
        `MOST` at most. A role whose best row is there already shows the next one.
    """
    chosen: dict[RowPlace, list[str]] = {}
    for ranking in rankings:
        best, why = ranking.best(), ranking.role.why
        if best and best[0] in chosen:
            chosen[best[0]].append(why)
        others = [place for place in best if place not in chosen]
        if others and len(chosen) < MOST:
            chosen[others[0]] = [why if others[0] == best[0] else f"after that one, {why}"]
    return {place: "; ".join(reasons) for place, reasons in chosen.items()}
