"""What the rows of each cell or cluster are like: median and spread of other columns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

_QUANTILES = np.array([0.16, 0.5, 0.84])


@dataclass(frozen=True, eq=False)
class Properties:
    """Of groups of rows.

    Parameters
    ----------
    rows : ndarray of int64, shape (groups,)
        Rows of each group, with properties or without.
    median, spread : mapping of str to ndarray, shape (groups,)
        Of each property: its median, and half the distance from its 16th to its 84th percentile;
        NaN where no row of the group has it.
    """

    rows: NDArray[np.int64]
    median: Mapping[str, NDArray[np.float64]]
    spread: Mapping[str, NDArray[np.float64]]

    def to_json(self) -> dict[str, Any]:
        """As a JSON-ready dictionary; None stands for NaN."""
        return {
            "rows": self.rows.tolist(),
            "median": {name: _or_none(values) for name, values in self.median.items()},
            "spread": {name: _or_none(values) for name, values in self.spread.items()},
        }


def properties_of(
    groups: NDArray[np.integer], many: int, values: Mapping[str, NDArray[np.floating]]
) -> Properties:
    """Median and spread of properties in each group.

    Parameters
    ----------
    groups : ndarray, shape (n,)
        Of each row, from 0; rows with a negative one belong to none.
    many : int
        How many groups there are.
    values : mapping of str to ndarray, shape (n,)
        What is not finite is not counted.

    Returns
    -------
    Properties
    """
    inside = groups >= 0
    rows = np.bincount(groups[inside], minlength=many)
    found = {name: _quantiles(groups, many, column) for name, column in values.items()}
    return Properties(
        rows,
        {name: levels[1] for name, levels in found.items()},
        {name: (levels[2] - levels[0]) / 2 for name, levels in found.items()},
    )


def _quantiles(
    groups: NDArray[np.integer], many: int, column: NDArray[np.floating]
) -> NDArray[np.float64]:
    """Percentiles of a column in each group, shape (3, groups), as `numpy.quantile` has them."""
    used = (groups >= 0) & np.isfinite(column)
    group, values = groups[used], np.asarray(column[used], np.float64)
    values = values[np.lexsort((values, group))]
    counts = np.bincount(group, minlength=many)
    first = np.concatenate([[0], np.cumsum(counts)[:-1]])
    found = np.full((len(_QUANTILES), many), np.nan)
    there = counts > 0
    at = _QUANTILES[:, None] * (counts[there] - 1)
    below = np.floor(at).astype(np.int64)
    above = np.minimum(below + 1, counts[there] - 1)
    low, high = values[first[there] + below], values[first[there] + above]
    found[:, there] = low + (high - low) * (at - below)
    return found


def _or_none(values: NDArray[np.float64]) -> list[float | None]:
    return [float(value) if np.isfinite(value) else None for value in values]
