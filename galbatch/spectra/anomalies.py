"""How strange spectra are, among simulated ones of the same class and signal to noise.

Three numbers of a fit tell of something that no template knows: a large reduced chi-square, a small
D (another class or redshift is nearly as good), and pixels side by side that are off together.
What is large depends on how much the noise lets be seen, so that each is compared with simulated
spectra of the class that are seen as well. The strangest of the three counts, and again by how
often the strangest of a simulated spectrum's three is as strange: the result is a share between 0
and 1, which for spectra like the simulated ones is as often below any limit as the limit says.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from galbatch.spectra.scan import ScanResult

Array = NDArray[np.float64]

_HUGE = 1e9
FEWEST = 50
"""Simulated spectra of a class, without which nothing is said of it."""
_GROUP = 400
"""Of a class that are compared at least, in one range of signal to noise."""
_RANGES = 5
_LEVELS = (1.0, 0.9, 0.75, 0.5, 0.3, 0.2, 0.1, 0.05, 0.03, 0.02, 0.01, 5e-3, 3e-3, 2e-3, 1e-3, 3e-4)


@dataclass(frozen=True)
class Shares:
    """What simulated spectra of a range of signal to noise have.

    Parameters
    ----------
    above : float
        Where the range begins.
    values : tuple of tuple of float
        For each number, what the shares of `levels` have at least; then for the least share.
    levels : tuple of float
    """

    above: float
    values: tuple[tuple[float, ...], ...]
    levels: tuple[float, ...]

    def of(self, numbers: Array) -> Array:
        """The share of simulated spectra that are as strange, of numbers of shape (3, n)."""
        least = _least(numbers, self.values[:-1], self.levels)
        return _share(least, self.values[-1], self.levels)


def _share(own: Array, at: Sequence[float], levels: Sequence[float]) -> Array:
    return np.asarray(np.exp(np.interp(own, at, np.log(levels))), np.float64)


def _least(numbers: Array, values: Sequence[Sequence[float]], levels: Sequence[float]) -> Array:
    """Minus the logarithm of the least share of the numbers."""
    each = [_share(own, at, levels) for own, at in zip(numbers, values, strict=True)]
    return np.asarray(-np.log(np.min(each, axis=0)), np.float64)


Strangeness = Mapping[str, tuple[Shares, ...]]
"""Of each class, by signal to noise."""


def numbers_of(found: ScanResult) -> Array:
    """What makes fits strange, more where it is larger: of shape (3, n)."""
    with np.errstate(divide="ignore", invalid="ignore"):
        reduced = np.where(found.dof > 0, found.chi2 / found.dof, np.nan)
    # Without a second minimum there is no doubt.
    near = np.where(found.d_score >= 0, -found.d_score, -np.inf)
    numbers = np.stack([reduced, near, found.residual])
    return np.asarray(np.clip(np.nan_to_num(numbers, nan=-_HUGE), -_HUGE, _HUGE), np.float64)


def learn_strangeness(kind: NDArray[np.str_], seen: Array, numbers: Array) -> Strangeness:
    """What is usual, from simulated spectra.

    Parameters
    ----------
    kind : ndarray of str, shape (n,)
        The class that the scan finds.
    seen : ndarray, shape (n,)
        `clean.signal_to_noise`.
    numbers : ndarray, shape (3, n)
        See `numbers_of`.

    Returns
    -------
    mapping of str to tuple of Shares
    """
    found = {}
    for one in sorted(set(kind.tolist()) - {""}):
        rows = np.flatnonzero(kind == one)
        if len(rows) < FEWEST:
            continue
        ranges = int(np.clip(len(rows) // _GROUP, 1, _RANGES))
        groups = np.array_split(rows[np.argsort(seen[rows], kind="stable")], ranges)
        found[one] = tuple(_shares(float(seen[group[0]]), numbers[:, group]) for group in groups)
    return found


def _shares(above: float, numbers: Array) -> Shares:
    levels = tuple(level for level in _LEVELS if level >= 1.0 / numbers.shape[1])
    at = 1.0 - np.array(levels)
    values = [tuple(np.quantile(own, at).tolist()) for own in numbers]
    least = np.quantile(_least(numbers, values, levels), at)
    return Shares(above, (*values, tuple(least.tolist())), levels)


def strangeness(model: Strangeness, kind: NDArray[np.str_], seen: Array, numbers: Array) -> Array:
    """The share of simulated spectra that are as strange; NaN of a class that is not known.

    Parameters
    ----------
    model : mapping
        Of `learn_strangeness`.
    kind, seen, numbers
        As there.

    Returns
    -------
    ndarray, shape (n,)
        Not below what so many simulated spectra can tell.
    """
    made = np.full(len(kind), np.nan)
    for one, shares in model.items():
        edges = np.array([own.above for own in shares[1:]])
        place = np.searchsorted(edges, seen, side="right")
        for number, own in enumerate(shares):
            rows = (kind == one) & (place == number)
            made[rows] = own.of(numbers[:, rows])
    return made


def to_json(model: Strangeness) -> dict[str, list[dict[str, Any]]]:
    """As a JSON-ready dictionary."""
    return {kind: [asdict(one) for one in shares] for kind, shares in model.items()}


def from_json(record: Mapping[str, Any]) -> Strangeness:
    """The inverse of `to_json`."""
    return {
        kind: tuple(
            Shares(one["above"], tuple(map(tuple, one["values"])), tuple(one["levels"]))
            for one in shares
        )
        for kind, shares in record.items()
    }
