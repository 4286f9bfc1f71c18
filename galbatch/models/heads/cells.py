"""A redshift as a distribution over even cells of zeta = ln(1 + z): a logit for each cell."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from galbatch.arrays import constant, namespace, parts
from galbatch.models import binned
from galbatch.models.binned import AT_ONCE, Binned, density, redshift_statistics
from galbatch.models.flags import Quality
from galbatch.models.heads.base import DecodeSettings, Head, HeadSettings
from galbatch.models.pdf import QUANTILES
from galbatch.quality.recalibration import UNCALIBRATED, Calibration, fit_straightening, fit_warp
from galbatch.spec.survey import Band, Survey
from galbatch.targets import RECORDS
from galbatch.values import Coordinate, PredictedColumn, Target

MARGIN = 3
"""Cells beyond the labels at both ends: a label says something of neighbours."""

BODY = (0.1, 99.9)
"""Percentiles of the labels between which the number of cells that a job asks for lies: what a few
labels far off add is as wide as these."""

MOST = 2
"""Times that number of cells, at most; labels beyond count as in the last one."""

DENSITY = "pz"
"""Column of the density on a grid of redshifts."""

# A cell's share of a usual band's width: lines are placed to a fraction of a band.
_OF_A_BAND = 0.1
_FEWEST_CELLS, _MOST_CELLS = 300, 900
# Standard deviation, in cells, of what a label says of its neighbours.
_SMOOTHING = 1.0
# Scatter of ln(1 + z) between the networks that is worth a flag.
_DISAGREEMENT = 0.05
_AT_ONCE_CALIBRATING = 8192

_Z = RECORDS["redshift"].ucd
_Z_ERROR = f"stat.error;{_Z}"
_LEVELS_TEXT = ", ".join(f"{level:g}" for level in QUANTILES)
_COLUMNS = (
    PredictedColumn("z_mode", "float32", "", f"{_Z};meta.main", "Redshift, highest density"),
    PredictedColumn("z_median", "float32", "", f"{_Z};stat.median", "Redshift, median"),
    PredictedColumn("z_mean", "float32", "", f"{_Z};stat.mean", "Redshift, mean"),
    *(
        PredictedColumn(
            f"z_err{percent}_{end}", "float32", "", f"{_Z_ERROR};stat.{extreme}",
            f"{side} end, as a redshift, of the central {percent} % interval",
        )
        for percent in (68, 95)
        for end, extreme, side in (("low", "min", "Lower"), ("high", "max", "Upper"))
    ),
    PredictedColumn(
        "odds", "float32", "", f"stat.probability;{_Z}",
        "Probability of a redshift near z_mode, within the survey's odds_width (1 + z_mode)",
    ),
    PredictedColumn(
        "z_quantiles", "float32", "", f"stat.pdf;{_Z}",
        f"Redshift where its cumulative probability reaches {_LEVELS_TEXT}",
        (len(QUANTILES),), ("quantile",),
    ),
)  # fmt: skip


def fitting_bins(zeta: NDArray[np.floating[Any]], bands: Sequence[Band]) -> int:
    """Cells of the redshift that a survey's bands can tell apart.

    Parameters
    ----------
    zeta : ndarray, shape (n,)
        Labels as ln(1 + z), finite.
    bands : sequence of Band

    Returns
    -------
    int
        For most labels, as the setting `bins` of a job.
    """
    lower, upper = np.percentile(zeta.astype(np.float64), BODY)
    # A relative shift in wavelength is the same step in ln(1 + z).
    width = float(np.median([band.width / band.wavelength for band in bands]))
    wanted = math.ceil(float(upper - lower) / (_OF_A_BAND * width))
    return min(max(wanted, _FEWEST_CELLS), _MOST_CELLS)


def redshift_cells(
    zeta: NDArray[np.floating[Any]], bins: int, old: CellsHead | None = None
) -> tuple[float, float, int]:
    """Even cells for labels.

    Parameters
    ----------
    zeta : ndarray, shape (n,)
        Labels as ln(1 + z), finite, not all the same.
    bins : int
        Cells for most of them.
    old : CellsHead, optional
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
class CellsHead(Head):
    """The distribution of a redshift.

    Parameters
    ----------
    target : Target
    start : int
    low, high : float
        Ends of the cells, ln(1 + z).
    bins : int
        Even cells, each with a logit.
    asked : int
        Of them, for most labels; see `redshift_cells`.
    """

    kind = "cells"

    low: float = 0.0
    high: float = 1.0
    bins: int = 0
    asked: int = 0

    @classmethod
    def learn(
        cls, target: Target, start: int, labels: NDArray[np.float32], settings: HeadSettings
    ) -> Self:
        """Cells for most labels, or those of the old head; see `Head.learn`."""
        zeta = labels[np.isfinite(labels)]
        old = settings.old.get(target)
        # Its cells are kept where the job asks for no other number of them.
        if not isinstance(old, CellsHead) or settings.bins not in (None, old.asked):
            old = None
        asked = settings.bins or fitting_bins(zeta, settings.bands)
        low, high, count = redshift_cells(zeta, asked, old)
        if old is not None and (low, high, count) == (old.low, old.high, old.bins):
            asked = old.asked
        return cls(target, start, low, high, count, asked)

    @property
    def size(self) -> int:
        """An output for each cell."""
        return self.bins

    def columns(self, settings: DecodeSettings) -> tuple[PredictedColumn, ...]:
        """Point values, intervals, odds, quantiles; the density on a grid, if one is given."""
        if not settings.redshifts:
            return _COLUMNS
        grid = Coordinate("z", settings.redshifts, "", _Z, "redshift")
        density_column = PredictedColumn(
            DENSITY, "float32", "", f"stat.probability;{_Z}", "probability density in redshift",
            (len(settings.redshifts),), ("z",), (grid,),
        )  # fmt: skip
        return (*_COLUMNS, density_column)

    @property
    def scattered(self) -> tuple[PredictedColumn, ...]:
        """The mean of a network's distribution."""
        return (PredictedColumn("z", "float32", "", _Z, "the mean redshift"),)

    def step(self, learnt: Any) -> Any:
        """1 + z; see `Head.step`."""
        return namespace(learnt).exp(learnt)

    def loss(self, labels: Any, outputs: Any) -> Any:
        """Cross entropy with a Gaussian around the label; see `Head.loss`.

        A cell's neighbours are nearly right: without that, each cell has to learn from its own few
        rows.
        """
        from keras import ops

        place = (labels - self.low) * (self.bins / (self.high - self.low)) - 0.5
        away = ops.arange(self.bins, dtype="float32") - place
        right = ops.softmax(ops.square(away) * (-0.5 / _SMOOTHING**2), -1)[:, None, :]
        return ops.logsumexp(outputs, -1) - ops.sum(right * outputs, -1)

    @property
    def edges(self) -> NDArray[np.float32]:
        """Of the cells, shape (bins + 1,), ln(1 + z)."""
        return np.linspace(self.low, self.high, self.bins + 1, dtype=np.float32)

    def shares(self, outputs: Any) -> Any:
        """Probabilities of the cells.

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
        edges = calibration.straightening.apply(constant(xp, self.edges, xp.float32))
        cumulative = xp.empty((len(outputs), self.bins + 1), xp.float32)
        for part in parts(xp, len(outputs), AT_ONCE):
            cumulative[part] = Binned.of(self.shares(outputs[part]).mean(axis=1), edges).cumulative
        return Binned(cumulative, edges)

    def centres_of(self, shares: Any) -> Any:
        """Mean of each member's own distribution.

        Parameters
        ----------
        shares : array, shape (n, members, bins), float32

        Returns
        -------
        array, shape (n, members)
            ln(1 + z).
        """
        edges = constant(namespace(shares), self.edges, np.float32)
        return (shares * ((edges[1:] + edges[:-1]) / 2)).sum(axis=2)

    def means(self, outputs: Any) -> Any:
        """Mean of each member's own distribution.

        Parameters
        ----------
        outputs : array, shape (n, members, outputs), float32

        Returns
        -------
        array, shape (n, members)
            ln(1 + z).
        """
        xp = namespace(outputs)
        means = xp.empty(outputs.shape[:2], xp.float32)
        for part in parts(xp, len(outputs), AT_ONCE):
            means[part] = self.centres_of(self.shares(outputs[part]))
        return means

    def members(self, outputs: Any, calibration: Mapping[str, Any]) -> dict[str, Any]:
        """Each network's mean ln(1 + z); see `Head.members`."""
        corrections = Calibration.from_json(calibration[self.target])
        return {"z": corrections.straightening.apply(self.means(outputs))}

    @classmethod
    def decode(
        cls,
        heads: Sequence[Self],
        outputs: Any,
        calibration: Mapping[str, Any],
        magnitude: Any,
        settings: DecodeSettings,
    ) -> dict[str, Any]:
        """Columns of the redshift, and ``z_apart``; see `Head.decode`.

        That is the standard deviation of ln(1 + z) between the networks, 0 of one.
        """
        found: dict[str, Any] = {}
        for head in heads:
            corrections = Calibration.from_json(calibration[head.target])
            found |= head._statistics(outputs, corrections, settings.odds_width, magnitude)
            if settings.redshifts:
                warp = corrections.warp if corrections.warp.changes else None
                rows = head.binned(outputs, corrections)
                found[DENSITY] = density(rows, settings.redshifts, warp, magnitude)
        return found

    def _statistics(
        self, outputs: Any, calibration: Calibration, odds_width: float, magnitude: Any
    ) -> dict[str, Any]:
        """Some rows at a time: their cells stay in a core's cache."""
        xp = namespace(outputs)
        edges = calibration.straightening.apply(constant(xp, self.edges, xp.float32))
        warp = calibration.warp if calibration.warp.changes else None
        n = len(outputs)
        found = {name: xp.empty(n, xp.float32) for name in ("z_mode", "z_mean", "odds", "z_apart")}
        table = xp.empty((n, len(QUANTILES)), xp.float32)
        for part in parts(xp, n, AT_ONCE):
            shares = self.shares(outputs[part])
            z = redshift_statistics(
                Binned.of(shares.mean(axis=1), edges), odds_width, warp, magnitude[part]
            )
            found["z_mode"][part], found["z_mean"][part] = z.mode, z.mean
            found["odds"][part], table[part] = z.odds, z.quantiles
            found["z_apart"][part] = _scatter(self.centres_of(shares))
        found |= {"z_median": table[:, QUANTILES.index(0.5)], "z_quantiles": table}
        for percent, low, high in ((68, 0.16, 0.84), (95, 0.025, 0.975)):
            found[f"z_err{percent}_low"] = table[:, QUANTILES.index(low)]
            found[f"z_err{percent}_high"] = table[:, QUANTILES.index(high)]
        return found

    def calibrate(
        self,
        outputs: NDArray[np.float32],
        labels: NDArray[np.float32],
        magnitude: NDArray[np.float32],
    ) -> dict[str, Any]:
        """A `Calibration`; cells have no widths to stretch. See `Head.calibrate`."""
        half = np.full(1, 0.5, np.float32)
        # Some rows at a time: each takes several times its cells.
        size = _AT_ONCE_CALIBRATING
        steps = [slice(i, i + size) for i in range(0, max(len(labels), 1), size)]
        middle = [binned.quantiles(self.binned(outputs[some]), half)[:, 0] for some in steps]
        straightened = Calibration(fit_straightening(np.concatenate(middle), labels))
        pit = [
            binned.transform(self.binned(outputs[some], straightened), labels[some])
            for some in steps
        ]
        return replace(straightened, warp=fit_warp(np.concatenate(pit), magnitude)).to_json()

    def flags(self, values: Mapping[str, Any]) -> dict[Quality, Any]:
        """Whether the networks disagree."""
        return {Quality.ENSEMBLE_DISAGREES: values["z_apart"] > _DISAGREEMENT}

    def expected(self, bins: int | None, survey: Survey) -> Self:
        """Its cells, where the job asks for no others: then labels alone tell; `Head.expected`."""
        return self if bins in (None, self.asked) else replace(self, bins=bins or 0, low=np.nan)

    def unlike(self, old: Head, survey: str) -> str:
        """Other cells; see `Head.unlike`."""
        if not isinstance(old, CellsHead):
            return f"{old.size} outputs in {survey}, {self.size} cells here"
        if np.isnan(self.low):
            return f"{old.asked} cells asked for in {survey}, {self.bins} here"
        if (old.low, old.high, old.bins) == (self.low, self.high, self.bins):
            return ""
        then, now = (
            f"{head.bins} cells from {np.expm1(head.low):.2f} to {np.expm1(head.high):.2f}"
            for head in (old, self)
        )
        return f"{then} in {survey}, {now} here"


def _scatter(each: Any) -> Any:
    """Standard deviation that the members (n, m) are a sample of."""
    members = each.shape[1]
    return each.std(axis=1, ddof=1 if members > 1 else 0)
