"""A number with its interval: a mixture of Gaussians."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from galbatch.arrays import namespace
from galbatch.models.heads.base import DecodeSettings, Head, HeadSettings
from galbatch.models.mixture import Mixture, cdf, quantiles
from galbatch.quality.calibration import fit_pit_scale
from galbatch.quality.recalibration import UNCALIBRATED, Calibration, fit_straightening, fit_warp
from galbatch.values import PredictedColumn, Target

_COMPONENTS = 3
# Narrowest component, in units of the spread of the labels.
_FLOOR = 0.02
# Chance that a label is simply wrong: keeps a single one from dominating the likelihood.
_WRONG_LABEL = 0.005
_HALF_LOG_TWO_PI = 0.5 * math.log(2 * math.pi)
# Lower end, value and upper end.
_LEVELS = (0.16, 0.5, 0.84)


@dataclass(frozen=True)
class PointHead(Head):
    """A regression with its uncertainty.

    Parameters
    ----------
    target : Target
    start : int
    components : int
        Gaussians of its mixture.
    centre, scale : float
        Median and spread of the training labels, in the target's unit.
    floor : float
        Smallest width of a component, same unit.
    low, high : float
        Range of the training labels, same unit.
    """

    kind = "point"

    components: int = _COMPONENTS
    centre: float = 0.0
    scale: float = 1.0
    floor: float = 0.0
    low: float = 0.0
    high: float = 1.0

    @classmethod
    def learn(
        cls, target: Target, start: int, labels: NDArray[np.float32], settings: HeadSettings
    ) -> Self:
        """In units of the labels' spread; see `Head.learn`."""
        found = labels[np.isfinite(labels)].astype(np.float64)
        below, middle, above = np.percentile(found, [16, 50, 84])
        scale = float((above - below) / 2 or np.std(found))
        return cls(
            target,
            start,
            _COMPONENTS,
            centre=float(middle),
            scale=scale,
            floor=_FLOOR * scale,
            low=float(found.min()),
            high=float(found.max()),
        )

    @property
    def size(self) -> int:
        """Weight, mean and width of each component."""
        return 3 * self.components

    def columns(self, settings: DecodeSettings) -> tuple[PredictedColumn, ...]:
        """The median, and the ends of its 68 % interval."""
        name, unit, ucd = self.target, self.record.unit, self.record.ucd
        return (
            PredictedColumn(name, "float32", unit, ucd, f"{self.record.description}, median"),
            *(
                PredictedColumn(
                    f"{name}_{end}68", "float32", unit, f"stat.error;{ucd}",
                    f"{side} end of the 68 % interval of {name}",
                )
                for end, side in (("low", "Lower"), ("high", "Upper"))
            ),
        )  # fmt: skip

    @property
    def scattered(self) -> tuple[PredictedColumn, ...]:
        """The mean of a network's distribution."""
        record = self.record
        return (PredictedColumn(record.name, "float32", record.unit, record.ucd, record.name),)

    def first_bias(self) -> NDArray[np.float32]:
        """Components side by side over the labels' range; see `Head.first_bias`."""
        k = self.components
        ends = ((self.low - self.centre) / self.scale, (self.high - self.centre) / self.scale)
        bias = np.zeros(self.size, np.float32)
        bias[k : 2 * k] = np.clip(np.linspace(-1.5, 1.5, k) if k > 1 else 0.0, *ends)
        bias[2 * k :] = math.log(math.expm1(0.5))
        return bias

    def loss(self, labels: Any, outputs: Any) -> Any:
        """In units of the head's scale; see `Head.loss`."""
        from keras import ops

        k = self.components
        logit, mean = outputs[..., :k], outputs[..., k : 2 * k]
        sigma = ops.softplus(outputs[..., 2 * k :]) + self.floor / self.scale
        away = (((labels - self.centre) / self.scale)[..., None] - mean) / sigma
        each = logit - 0.5 * ops.square(away) - ops.log(sigma)
        right = ops.logsumexp(each, -1) - ops.logsumexp(logit, -1) - _HALF_LOG_TWO_PI
        span = max((self.high - self.low) / self.scale, 1.0)
        wrong = ops.full_like(right, math.log(_WRONG_LABEL / span))
        return -ops.logaddexp(right + math.log1p(-_WRONG_LABEL), wrong)

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
        share, mean = self._placed(self._by_output(outputs))
        share *= mean
        return share.sum(axis=1).T

    def members(self, outputs: Any, calibration: Mapping[str, Any]) -> dict[str, Any]:
        """Each network's mean; see `Head.members`."""
        corrections = Calibration.from_json(calibration[self.target])
        return {self.target: corrections.straightening.apply(self.means(outputs))}

    @classmethod
    def decode(
        cls,
        heads: Sequence[Self],
        outputs: Any,
        calibration: Mapping[str, Any],
        magnitude: Any,
        settings: DecodeSettings,
    ) -> dict[str, Any]:
        """Medians and intervals; see `Head.decode`."""
        xp = namespace(outputs)
        values: dict[str, Any] = {}
        alike: dict[int, dict[Target, tuple[Mixture, Any]]] = {}
        for head in heads:
            corrections = Calibration.from_json(calibration[head.target])
            levels = corrections.warp.levels(_LEVELS, magnitude)
            mixture = head.mixture(outputs, corrections)
            alike.setdefault(head.components, {})[head.target] = (mixture, levels)
        for parts in alike.values():
            # Few levels make short work, most of it in calling NumPy: all at once.
            mixtures, levels = zip(*parts.values(), strict=True)
            ends = quantiles(Mixture.joined(mixtures), xp.concatenate(levels, axis=1))
            for target, of_target in zip(parts, xp.split(ends, len(parts)), strict=True):
                values[f"{target}_low68"], values[target], values[f"{target}_high68"] = of_target.T
        return values

    def calibrate(
        self,
        outputs: NDArray[np.float32],
        labels: NDArray[np.float32],
        magnitude: NDArray[np.float32],
    ) -> dict[str, Any]:
        """A `Calibration`, each part fitted on top of those before it; see `Head.calibrate`."""
        middle = quantiles(self.mixture(outputs), (0.5,))[:, 0]
        straight = fit_straightening(middle, labels)
        mixture = self.mixture(outputs, Calibration(straight))

        def pit(scale: float) -> NDArray[np.float32]:
            wider = Mixture(mixture.weight, mixture.mean, mixture.sigma * np.float32(scale))
            reached: NDArray[np.float32] = cdf(wider, labels[:, None])[:, 0]
            return reached

        stretch = fit_pit_scale(pit)
        return Calibration(straight, stretch, fit_warp(pit(stretch.scale), magnitude)).to_json()

    def unlike(self, old: Head, survey: str) -> str:
        """Another number of components; see `Head.unlike`."""
        if self.size == old.size:
            return ""
        return f"{old.size} outputs in {survey}, {self.size} here"

    def carried(self, old: Head) -> Self:
        """With the old centre, scale and floor; see `Head.carried`."""
        assert isinstance(old, PointHead)
        return replace(self, centre=old.centre, scale=old.scale, floor=old.floor)

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
