"""What the numbers that leave the network stand for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from galbatch.arrays import namespace
from galbatch.models.mixture import Mixture
from galbatch.values import Target


@dataclass(frozen=True)
class Head:
    """A target's share of the network's outputs.

    Parameters
    ----------
    target : str
    start : int
        Its first output.
    components : int
        Gaussians of its mixture; 0 for `star`, which has one logit.
    centre, scale : float
        Median and spread of the training labels, in the unit that is learnt: ln(1 + z) for the
        redshift, the target's own otherwise.
    floor : float
        Smallest width of a component, same unit.
    low, high : float
        Range of the training labels, same unit.
    """

    target: Target
    start: int
    components: int
    centre: float = 0.0
    scale: float = 1.0
    floor: float = 0.0
    low: float = 0.0
    high: float = 1.0

    @property
    def size(self) -> int:
        """How many outputs it has."""
        return 3 * self.components or 1

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

    def mixture(self, outputs: Any, stretch: float = 1.0) -> Mixture:
        """The ensemble's distribution: the mean of the members'.

        Parameters
        ----------
        outputs : array, shape (n, members, outputs), float32
            Of the network.
        stretch : float, default 1
            Calibrated factor on the widths.

        Returns
        -------
        Mixture
            n rows of members * components, member by member.
        """
        xp = namespace(outputs)
        mine, k = self.of(outputs), self.components
        n, members = mine.shape[:2]
        logit = mine[..., :k]
        share = xp.exp(logit - logit.max(axis=2, keepdims=True))
        share /= share.sum(axis=2, keepdims=True) * xp.float32(members)
        mean = xp.float32(self.centre) + xp.float32(self.scale) * mine[..., k : 2 * k]
        # logaddexp(0, x) is softplus without overflow.
        width = xp.logaddexp(xp.float32(0), mine[..., 2 * k :])
        sigma = (xp.float32(self.floor) + xp.float32(self.scale) * width) * xp.float32(stretch)
        return Mixture(*(part.reshape(n, members * k) for part in (share, mean, sigma)))

    def to_json(self) -> dict[str, Any]:
        """As a JSON-ready dictionary."""
        return asdict(self)

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Head:
        """The inverse of `to_json`."""
        return cls(**record)
