"""Quantiles of several levels made honest on rows that are known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from galbatch.quality.calibration import FEWEST_ROWS, HIGHEST_SCALE, LOWEST_SCALE

Array = NDArray[np.float64]


@dataclass(frozen=True)
class QuantileScale:
    """A factor for the distance of each quantile from the median, for each quantity.

    With it the share of the known values beyond a quantile is what its level says, over the rows
    it was fitted on (conformalised quantiles: Romano et al. 2019, arXiv:1905.03222, with the
    factor of Sesia & Candes 2020, arXiv:1909.05433, for their shift). It depends on another number
    of the row, such as its noise: straight between some of its values.

    Parameters
    ----------
    at : tuple of float
        Values of that number, which rise.
    factors : tuple
        At each of them for each quantity one for each level; 1 at the median.
    """

    at: tuple[float, ...]
    factors: tuple[tuple[tuple[float, ...], ...], ...]

    def apply(self, quantiles: Array, at: Array) -> Array:
        """Corrected quantiles, which rise with the level.

        Parameters
        ----------
        quantiles : ndarray, shape (n, quantities, levels)
            The median is the middle one.
        at : ndarray, shape (n,)
            Held within `self.at`.
        """
        factors = np.array(self.factors)
        middle = quantiles[:, :, factors.shape[2] // 2, None]
        place = np.interp(at, self.at, np.arange(len(self.at)))
        below = np.floor(place).astype(np.intp)
        above = np.minimum(below + 1, len(self.at) - 1)
        share = (place - below)[:, None, None]
        factor = (1.0 - share) * factors[below] + share * factors[above]
        return np.sort(middle + factor * (quantiles - middle), axis=2)

    def to_json(self) -> dict[str, Any]:
        """As a JSON-ready dictionary."""
        return {"at": list(self.at), "factors": np.array(self.factors).tolist()}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> QuantileScale:
        """The inverse of `to_json`."""
        factors = tuple(
            tuple(tuple(float(one) for one in levels) for levels in quantities)
            for quantities in record["factors"]
        )
        return cls(tuple(float(one) for one in record["at"]), factors)


def quantile_factors(
    quantiles: Array, known: Array, levels: Sequence[float]
) -> tuple[tuple[float, ...], ...]:
    """The factors that some known values ask for.

    Parameters
    ----------
    quantiles : ndarray, shape (n, quantities, levels)
    known : ndarray, shape (n, quantities)
        NaN where there is none.
    levels : sequence of float
        Rising and odd in number, the middle one 0.5.

    Returns
    -------
    tuple of tuple of float
        For each quantity one for each level: 1 where fewer than 20 values are known.
    """
    middle = len(levels) // 2
    found = np.ones((known.shape[1], len(levels)))
    for quantity in range(known.shape[1]):
        centre = quantiles[:, quantity, middle]
        off = known[:, quantity] - centre
        for place, level in enumerate(levels):
            reach = quantiles[:, quantity, place] - centre
            usable = np.isfinite(off) & np.isfinite(reach) & (reach != 0)
            if place == middle or usable.sum() < FEWEST_ROWS:
                continue
            inside = max(level, 1.0 - level)
            factor = float(np.quantile(off[usable] / reach[usable], inside))
            found[quantity, place] = np.clip(factor, LOWEST_SCALE, HIGHEST_SCALE)
    return tuple(tuple(one) for one in found.tolist())
