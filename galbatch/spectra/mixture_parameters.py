"""What a mixture of stellar populations is made of, as numbers that networks learn.

Of the eight parameters of each component two are one: a redshift and a radial velocity shift a
spectrum alike, so the redshift is given and the velocity is what is left of it. Weight, age and
metallicity are each component's own. Velocity, dispersion, extinction and gas are the galaxy's, or
by choice each component's own too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

OF_STARS = ("log_age", "metallicity")
"""log10 of Gyr, and of the Sun's: of each component."""
OF_GALAXY = ("velocity", "dispersion", "extinction", "log_gas")
"""km/s, km/s, E(B-V) in magnitudes, log10 of the equivalent width of H beta in Angstrom."""
KINDS = ("weight", *OF_STARS, *OF_GALAXY)
LEVELS = (0.025, 0.1587, 0.5, 0.8413, 0.975)
"""Of the quantiles that are predicted."""
LIGHT_WEIGHTED = ("light_log_age", "light_metallicity")

_EDGE = 1e-4
"""Of a range: numbers are held this far from its ends, where their logit is infinite."""
_WEAKEST = 0.01
"""Of the first component's weight, about: what a component without weight has instead."""
_SPREAD = 0.3


@dataclass(frozen=True, eq=False)
class Mixtures:
    """Mixtures of at most c components, by falling weight.

    Parameters
    ----------
    weight : ndarray, shape (n, c)
        Share of the light of the library's whole range before dust; 0 for none, 1 in all.
    log_age, metallicity : ndarray, shape (n, c)
        NaN where a component has no weight.
    velocity, dispersion, extinction, log_gas : ndarray, shape (n, 1) or (n, c)
        The velocity is that beside the redshift.
    redshift : ndarray, shape (n,)
    """

    weight: Array
    log_age: Array
    metallicity: Array
    velocity: Array
    dispersion: Array
    extinction: Array
    log_gas: Array
    redshift: Array

    def __len__(self) -> int:
        return len(self.weight)

    def part(self, rows: slice | NDArray[np.integer]) -> Mixtures:
        """Some of them."""
        return Mixtures(**{name: values[rows] for name, values in vars(self).items()})

    def moved(self, velocity: Array) -> Mixtures:
        """The same with other velocities, (n, 1) or (n, c)."""
        return replace(self, velocity=velocity)

    @property
    def light_weighted(self) -> dict[str, Array]:
        """Means of log age and metallicity over the light, each (n,)."""
        values = (self.log_age, self.metallicity)
        return {
            name: np.nansum(self.weight * one, axis=1)
            for name, one in zip(LIGHT_WEIGHTED, values, strict=True)
        }


@dataclass(frozen=True)
class MixtureParameters:
    """The numbers of mixtures, in their order.

    Parameters
    ----------
    components : int
    own : bool
        Each component has a velocity, dispersion, extinction and gas of its own.
    limits : mapping of str to pair of float
        Lowest and highest of all of `KINDS` but the weight.
    least : float
        No component's weight is below this; one that would be has none.
    """

    components: int
    own: bool
    limits: Mapping[str, tuple[float, float]]
    least: float

    @cached_property
    def kinds(self) -> dict[str, tuple[str, ...]]:
        """The names of the quantities that are wanted, by the kind of parameter."""
        each = tuple(range(1, self.components + 1))
        named = {kind: tuple(f"{kind}_{one}" for one in each) for kind in KINDS}
        if not self.own:
            named |= {kind: (kind,) for kind in OF_GALAXY}
        named["log_age"] += LIGHT_WEIGHTED[:1]
        named["metallicity"] += LIGHT_WEIGHTED[1:]
        return named

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Of all quantities."""
        return tuple(name for names in self.kinds.values() for name in names)

    @cached_property
    def ranges(self) -> Array:
        """Lowest and highest of each of `names`, shape (q, 2)."""
        of_kind = {"weight": (0.0, 1.0), **self.limits}
        return np.array([of_kind[kind] for kind, names in self.kinds.items() for _ in names])

    @property
    def numbers(self) -> int:
        """Of the unbounded numbers that make up a mixture: `encode`."""
        shared = self.components if self.own else 1
        return 3 * self.components - 1 + len(OF_GALAXY) * shared

    def quantities(self, mixtures: Mixtures) -> Array:
        """Values of `names`, shape (n, q); NaN for what a component without weight has not."""
        light = mixtures.light_weighted
        none = mixtures.weight <= 0
        parts = []
        for kind, names in self.kinds.items():
            values = getattr(mixtures, kind)
            if kind != "weight" and values.shape[1] > 1:
                values = np.where(none, np.nan, values)
            parts.append(values)
            parts += [light[name][:, None] for name in names if name in light]
        return np.concatenate(parts, axis=1)

    def encode(self, mixtures: Mixtures, rng: np.random.Generator) -> NDArray[np.float32]:
        """Mixtures as numbers without limits, of which each has a density.

        Shares are logarithms of weight over the first weight, others logits within their range.
        What a component without weight lacks is drawn: its share among small ones, its parameters
        evenly, so that nothing can be learned of them.

        Parameters
        ----------
        mixtures : Mixtures
        rng : numpy.random.Generator

        Returns
        -------
        ndarray of float32, shape (n, numbers)
        """
        weight, none = mixtures.weight, mixtures.weight <= 0
        drawn = _WEAKEST * np.exp(_SPREAD * rng.standard_normal(weight.shape))
        share = np.where(none, drawn, weight / weight[:, :1])
        parts = [np.log(share[:, 1:])]
        for kind in (*OF_STARS, *OF_GALAXY):
            values = self._share_of_range(kind, getattr(mixtures, kind))
            if values.shape[1] > 1:
                values = np.where(none, rng.random(values.shape), values)
            values = np.clip(values, _EDGE, 1.0 - _EDGE)
            parts.append(np.log(values / (1.0 - values)))
        return np.concatenate(parts, axis=1).astype(np.float32)

    def decode(self, numbers: NDArray[np.floating]) -> Mixtures:
        """The inverse of `encode`; the redshift is 0."""
        numbers = np.asarray(numbers, np.float64)
        count = self.components
        share = np.exp(np.minimum(numbers[:, : count - 1], 0.0))
        weight = np.concatenate([np.ones((len(share), 1)), share], axis=1)
        parts, start = {}, count - 1
        for kind in (*OF_STARS, *OF_GALAXY):
            width = count if kind in OF_STARS or self.own else 1
            low, high = self.limits[kind]
            within = 0.5 * (1.0 + np.tanh(0.5 * numbers[:, start : start + width]))
            parts[kind] = low + (high - low) * within
            start += width
        return self.tidied(weight, parts)

    def tidied(self, weight: Array, parts: dict[str, Array]) -> Mixtures:
        """Mixtures of weights of any sum: what is below half of `least` has none."""
        weight = weight / weight.sum(axis=1, keepdims=True)
        weight = np.where(weight < 0.5 * self.least, 0.0, weight)
        weight /= weight.sum(axis=1, keepdims=True)
        order = np.argsort(-weight, axis=1, kind="stable")
        weight = np.take_along_axis(weight, order, axis=1)
        sorted_parts = {
            kind: np.take_along_axis(values, order, axis=1) if values.shape[1] > 1 else values
            for kind, values in parts.items()
        }
        for kind in OF_STARS:
            sorted_parts[kind] = np.where(weight > 0, sorted_parts[kind], np.nan)
        return Mixtures(weight=weight, redshift=np.zeros(len(weight)), **sorted_parts)

    def _share_of_range(self, kind: str, values: Array) -> Array:
        low, high = self.limits[kind]
        return (values - low) / (high - low)
