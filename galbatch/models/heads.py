"""What the numbers that leave the network stand for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from galbatch.arrays import namespace
from galbatch.models.binned import AT_ONCE, Binned
from galbatch.models.mixture import Mixture
from galbatch.quality.recalibration import UNCALIBRATED, Calibration
from galbatch.values import Target

MARGIN = 3
"""Cells of the redshift beyond the labels at both ends: a label says something of neighbours."""

BODY = (0.1, 99.9)
"""Percentiles of the labels between which the number of cells that a job asks for lies: what a few
labels far off add is as wide as these."""

MOST = 2
"""Times that number of cells, at most; labels beyond count as in the last one."""


def redshift_cells(
    zeta: NDArray[np.floating[Any]], bins: int, old: Head | None = None
) -> tuple[float, float, int]:
    """Even cells for labels.

    Parameters
    ----------
    zeta : ndarray, shape (n,)
        Labels as ln(1 + z), finite, not all the same.
    bins : int
        Cells for most of them.
    old : Head, optional
        Whose cells are to be used where they cover most labels.

    Returns
    -------
    low, high : float
        Ends of the cells.
    count : int
    """
    lower, upper = np.percentile(zeta.astype(np.float64), BODY)
    if old is not None and old.low <= lower and upper <= old.high:
        return old.low, old.high, old.bins
    first, last = float(zeta.min()), float(zeta.max())
    if lower == upper:
        lower, upper = first, last
    cell = (upper - lower) / (bins - 2 * MARGIN)
    low = max(float(lower) - MARGIN * cell, 0.0)
    below = int(np.clip(np.ceil((low - first) / cell), 0, low / cell))
    low -= below * cell
    count = int(np.clip(np.ceil((last - low) / cell) + MARGIN, bins, MOST * bins))
    return low, low + count * cell, count


@dataclass(frozen=True)
class Head:
    """A target's share of the network's outputs.

    Parameters
    ----------
    target : str
    start : int
        Its first output.
    components : int
        Gaussians of its mixture; 0 for the redshift, which has cells, and `star`, which has logits.
    centre, scale : float
        Median and spread of the training labels, in the unit that is learnt: ln(1 + z) for the
        redshift, the target's own otherwise.
    floor : float
        Smallest width of a component, same unit.
    low, high : float
        Range of the training labels, same unit; of the redshift, that of its cells.
    classes : int
        Logits of `star` where quasars are a class too, in the order of `values.CLASSES`; 0 for the
        one logit of star against galaxy.
    bins : int
        Even cells of ln(1 + z) of the redshift, each with a logit.
    asked : int
        Of them, for most labels; see `redshift_cells`.
    """

    target: Target
    start: int
    components: int
    centre: float = 0.0
    scale: float = 1.0
    floor: float = 0.0
    low: float = 0.0
    high: float = 1.0
    classes: int = 0
    bins: int = 0
    asked: int = 0

    @property
    def size(self) -> int:
        """How many outputs it has."""
        return self.bins or 3 * self.components or self.classes or 1

    def of(self, outputs: Any) -> Any:
        """Its share of the outputs.

        Parameters
        ----------
        outputs : array, shape (n, members, outputs)

        Returns
        -------
        array, shape (n, members, size)
        """
        return outputs[..., self.start : self.start + self.size]

    @property
    def edges(self) -> NDArray[np.float32]:
        """Of the redshift's cells, shape (bins + 1,)."""
        return np.linspace(self.low, self.high, self.bins + 1, dtype=np.float32)

    def shares(self, outputs: Any) -> Any:
        """Probabilities of the redshift's cells.

        Parameters
        ----------
        outputs : array, shape (n, members, outputs), float32
            Of the network, of a few rows: it is a large array.

        Returns
        -------
        array, shape (n, members, bins), float32
            Of each member 1 in all.
        """
        xp = namespace(outputs)
        mine = self.of(outputs)
        shares = mine - mine.max(axis=2, keepdims=True)
        xp.exp(shares, out=shares)
        shares /= shares.sum(axis=2, keepdims=True)
        return shares

    def binned(self, outputs: Any, calibration: Calibration = UNCALIBRATED) -> Binned:
        """The ensemble's redshift distribution: the mean of the members'.

        Parameters
        ----------
        outputs : array, shape (n, members, outputs), float32
        calibration : Calibration, optional
            Its correction of redshifts, which moves the cells; the warp is left out.

        Returns
        -------
        Binned
        """
        xp = namespace(outputs)
        edges = calibration.straightening.apply(xp.asarray(self.edges))
        cumulative = xp.empty((len(outputs), self.bins + 1), xp.float32)
        for start in range(0, len(outputs), AT_ONCE):
            part = slice(start, start + AT_ONCE)
            cumulative[part] = Binned.of(self.shares(outputs[part]).mean(axis=1), edges).cumulative
        return Binned(cumulative, edges)

    def mixture(self, outputs: Any, calibration: Calibration = UNCALIBRATED) -> Mixture:
        """The ensemble's distribution: the mean of the members'.

        Parameters
        ----------
        outputs : array, shape (n, members, outputs), float32
            Of the network.
        calibration : Calibration, optional
            Its corrections of means and widths; the warp is not a mixture's to apply.

        Returns
        -------
        Mixture
            n rows of members * components, member by member.
        """
        xp = namespace(outputs)
        mine, k = self._by_output(outputs), self.components
        members, _, n = mine.shape
        share, mean = self._placed(mine)
        share /= xp.float32(members)
        sigma = _softplus(mine[:, 2 * k :])
        sigma *= xp.float32(self.scale)
        sigma += xp.float32(self.floor)
        sigma = calibration.stretch.apply(sigma)
        mean = calibration.straightening.apply(mean)
        return Mixture(*(part.reshape(members * k, n).T for part in (share, mean, sigma)))

    def means(self, outputs: Any) -> Any:
        """Mean of each member's own distribution.

        Parameters
        ----------
        outputs : array, shape (n, members, outputs), float32

        Returns
        -------
        array, shape (n, members)
        """
        if self.bins:
            return self._binned_means(outputs)
        share, mean = self._placed(self._by_output(outputs))
        share *= mean
        return share.sum(axis=1).T

    def centres_of(self, shares: Any) -> Any:
        """Mean of each member's own distribution over the redshift's cells.

        Parameters
        ----------
        shares : array, shape (n, members, bins), float32

        Returns
        -------
        array, shape (n, members)
            ln(1 + z).
        """
        edges = namespace(shares).asarray(self.edges)
        return (shares * ((edges[1:] + edges[:-1]) / 2)).sum(axis=2)

    def _binned_means(self, outputs: Any) -> Any:
        xp = namespace(outputs)
        means = xp.empty(outputs.shape[:2], xp.float32)
        for start in range(0, len(outputs), AT_ONCE):
            part = slice(start, start + AT_ONCE)
            means[part] = self.centres_of(self.shares(outputs[part]))
        return means

    def _by_output(self, outputs: Any) -> Any:
        """Its share of the outputs, (members, size, n): rows next to each other in memory.

        How the statistics of a mixture go through it.
        """
        xp = namespace(outputs)
        return xp.ascontiguousarray(xp.moveaxis(self.of(outputs), 0, 2))

    def _placed(self, mine: Any) -> tuple[Any, Any]:
        """Weights, of each member 1 in all, and means (members, k, n)."""
        xp, k = namespace(mine), self.components
        logit = mine[:, :k]
        share = logit - logit.max(axis=1, keepdims=True)
        xp.exp(share, out=share)
        share /= share.sum(axis=1, keepdims=True)
        return share, xp.float32(self.centre) + xp.float32(self.scale) * mine[:, k : 2 * k]

    def to_json(self) -> dict[str, Any]:
        """As a JSON-ready dictionary."""
        return asdict(self)

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Head:
        """The inverse of `to_json`."""
        return cls(**record)


def _softplus(x: Any) -> Any:
    """log(1 + exp(x)) without overflow, to a few units in the last place.

    What 1 + e rounds away is put back, as Kahan did: logaddexp and log1p, which need no such thing,
    take thirty times as long.
    """
    xp = namespace(x)
    e = xp.exp(-xp.abs(x))
    more = 1 + e
    rounded = more - 1
    part = xp.where(rounded == 0, e, xp.log(more) * (e / xp.where(rounded == 0, 1, rounded)))
    return xp.maximum(x, 0) + part
