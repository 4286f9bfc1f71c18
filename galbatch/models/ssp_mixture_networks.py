"""Networks that take spectra apart into populations, as Keras models. Imports TensorFlow.

The invertible one is a chain of affine couplings (Dinh et al. 2017, arXiv:1605.08803) whose scales
and shifts depend on what another network makes of the spectrum (Ardizzone et al. 2019,
arXiv:1907.02392).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from galbatch.models.network import StackedDense
from galbatch.spec.population_models import SspMixtureModel
from galbatch.spectra.mixture_parameters import LEVELS, OF_GALAXY

EMBEDDING = 64
"""Numbers that a spectrum becomes for the couplings."""
_OF_POPULATIONS, _OF_GALAXY = 1.4, 0.62
"""Of `width`: ages ask for wider networks than motions, in the same sum of weights."""
_NOTHING = 1e-6
_COUPLED = 96
_LARGEST = 3.0
"""Logarithm of the scale of a coupling, at most."""


@dataclass(frozen=True)
class _Group:
    """Networks of one width, and how many quantities each has."""

    width: int
    counts: tuple[int, ...]


def build_quantiles(settings: SspMixtureModel, inputs: int, counts: Sequence[int]) -> Any:
    """Networks from spectra, (n, inputs), to quantiles, (n, quantities, levels).

    Parameters
    ----------
    settings : SspMixtureModel
        `single` or `separate`.
    inputs : int
    counts : sequence of int
        Quantities of each kind of parameter.

    Returns
    -------
    keras.Model
        Of quantities from -1 to 1.
    """
    size = len(LEVELS)
    spectra = keras.Input((inputs,), name="spectra")
    if settings.network == "separate":
        flow = ops.concatenate(
            [
                part
                for at, members in enumerate(_groups(settings, counts))
                for part in _side_by_side(settings, spectra, members, f"group_{at}")
            ],
            axis=1,
        )
    else:
        width = single_width(settings, inputs, counts)
        flow = StackedDense(sum(counts) * size, 1, 0.1, name="last")(
            _trunk(settings, spectra, width, 1)
        )[0]
    found = ops.reshape(flow, (-1, sum(counts), size))
    middle = size // 2
    steps = ops.softplus(found - 1.0)
    made = [found[:, :, middle]]
    for place in range(middle - 1, -1, -1):
        made.insert(0, made[0] - steps[:, :, place])
    for place in range(middle + 1, size):
        made.append(made[-1] + steps[:, :, place])
    return keras.Model(spectra, ops.stack(made, axis=2))


def _groups(settings: SspMixtureModel, counts: Sequence[int]) -> tuple[_Group, _Group]:
    """Networks of the populations, and narrower ones of what moves, dims and adds to them all."""
    first = len(counts) - len(OF_GALAXY)
    return (
        _Group(round(_OF_POPULATIONS * settings.width), tuple(counts[:first])),
        _Group(round(_OF_GALAXY * settings.width), tuple(counts[first:])),
    )


def _side_by_side(settings: SspMixtureModel, spectra: Any, group: _Group, name: str) -> list[Any]:
    """What each network of a group gives, (n, its quantities times levels)."""
    size = len(LEVELS)
    flow = _trunk(settings, spectra, group.width, len(group.counts), name)
    last = StackedDense(max(group.counts) * size, len(group.counts), 0.1, name=f"{name}_last")
    flow = last(flow)
    return [flow[at, :, : count * size] for at, count in enumerate(group.counts)]


def single_width(settings: SspMixtureModel, inputs: int, counts: Sequence[int]) -> int:
    """Units in a layer of one network with as many weights as one for each kind has.

    Parameters
    ----------
    settings : SspMixtureModel
    inputs : int
    counts : sequence of int
        Quantities of each kind of parameter.

    Returns
    -------
    int
    """
    after, size = settings.layers - 1, len(LEVELS)
    wanted = sum(
        len(group.counts) * group.width * (inputs + after * group.width + max(group.counts) * size)
        for group in _groups(settings, counts)
    )
    first = inputs + sum(counts) * size
    if not after:
        return round(wanted / first)
    return round((math.sqrt(first**2 + 4 * after * wanted) - first) / (2 * after))


def quantile_loss(labels: Any, outputs: Any) -> Any:
    """The mean over quantities of the logarithm of the loss that quantiles make least.

    Koenker & Bassett (1978), Econometrica 46, 33. By the logarithm of its mean over the rows no
    quantity weighs more because it is less well known. Unknown ones, NaN, count for nothing.

    Parameters
    ----------
    labels : tensor, shape (n, quantities)
    outputs : tensor, shape (n, quantities, levels)

    Returns
    -------
    tensor
        One number.
    """
    known = ops.logical_not(ops.isnan(labels))
    off = ops.where(known, labels, ops.zeros_like(labels))[:, :, None] - outputs
    levels = ops.convert_to_tensor(np.array(LEVELS, np.float32))
    each = ops.mean(ops.maximum(levels * off, (levels - 1.0) * off), axis=-1)
    total = ops.sum(ops.where(known, each, ops.zeros_like(each)), axis=0)
    mean = total / ops.maximum(ops.sum(ops.cast(known, "float32"), axis=0), 1.0)
    return ops.mean(ops.log(mean + _NOTHING))


def mean_output(labels: Any, outputs: Any) -> Any:
    """A loss that a network computes itself."""
    return outputs


class Couplings(layers.Layer):  # type: ignore[misc]
    """Affine couplings between numbers and normally distributed ones, under a condition.

    Parameters
    ----------
    numbers : int
        At least 2.
    count : int
        Couplings; before each the numbers change places.
    """

    def __init__(self, numbers: int, count: int, **options: Any) -> None:
        super().__init__(**options)
        self.numbers, self.first = numbers, numbers // 2
        orders = [np.random.default_rng([7, place]).permutation(numbers) for place in range(count)]
        self.orders = [order.tolist() for order in orders]
        self.back = [np.argsort(order).tolist() for order in orders]
        self.hidden = [
            [layers.Dense(_COUPLED, activation="silu", name=f"hidden_{at}_{one}") for one in (0, 1)]
            for at in range(count)
        ]
        rest = 2 * (numbers - self.first)
        self.last = [
            layers.Dense(rest, kernel_initializer="zeros", name=f"last_{place}")
            for place in range(count)
        ]

    def build(self, shapes: Sequence[Sequence[int | None]]) -> None:
        """Make the weights."""
        given = self.first + int(shapes[1][-1] or 0)
        for hidden, last in zip(self.hidden, self.last, strict=True):
            hidden[0].build((None, given))
            hidden[1].build((None, _COUPLED))
            last.build((None, _COUPLED))
        shape = (self.numbers,)
        self.mean = self.add_weight(name="mean", shape=shape, initializer="zeros", trainable=False)
        self.scale = self.add_weight(name="scale", shape=shape, initializer="ones", trainable=False)

    def call(self, inputs: Any, inverse: bool = False) -> Any:
        """To normal numbers and the logarithm of how much they stretch; or back, to numbers alone.

        Parameters
        ----------
        inputs : pair of tensor
            Numbers (n, numbers), and the condition (n, e).
        inverse : bool
            Whether the numbers are normal ones.
        """
        values, condition = inputs
        return self._back(values, condition) if inverse else self._to(values, condition)

    def _to(self, values: Any, condition: Any) -> Any:
        values = (values - self.mean) / self.scale
        stretch = -ops.sum(ops.log(self.scale)) + 0.0 * values[:, :1]
        for place, order in enumerate(self.orders):
            values = ops.take(values, order, axis=1)
            kept, moved = values[:, : self.first], values[:, self.first :]
            scale, shift = self._coupling(place, kept, condition)
            values = ops.concatenate([kept, moved * ops.exp(scale) + shift], axis=1)
            stretch = stretch + ops.sum(scale, axis=1, keepdims=True)
        return values, stretch

    def _back(self, values: Any, condition: Any) -> Any:
        for place in reversed(range(len(self.orders))):
            kept, moved = values[:, : self.first], values[:, self.first :]
            scale, shift = self._coupling(place, kept, condition)
            values = ops.concatenate([kept, (moved - shift) * ops.exp(-scale)], axis=1)
            values = ops.take(values, self.back[place], axis=1)
        return values * self.scale + self.mean

    def _coupling(self, place: int, kept: Any, condition: Any) -> tuple[Any, Any]:
        flow = ops.concatenate([kept, condition], axis=1)
        for layer in self.hidden[place]:
            flow = layer(flow)
        found = self.last[place](flow)
        width = self.numbers - self.first
        return _LARGEST * ops.tanh(found[:, :width] / _LARGEST), found[:, width:]


def build_flow(settings: SspMixtureModel, inputs: int, counts: Sequence[int], numbers: int) -> Any:
    """The networks of the invertible model, which share their weights.

    Parameters
    ----------
    settings : SspMixtureModel
    inputs : int
    counts : sequence of int
        Quantities of each kind of parameter.
    numbers : int
        That make up a mixture.

    Returns
    -------
    tuple of keras.Model
        ``likelihood``: spectra and numbers, (n, inputs + numbers), to the negative logarithm of
        their density, (n, 1); ``embedding``: spectra to (n, EMBEDDING); ``sampler``: embeddings and
        normal numbers, (n, EMBEDDING + numbers), to numbers.
    """
    couplings = Couplings(numbers, settings.couplings, name="couplings")
    spectra = keras.Input((inputs,), name="spectra")
    width = single_width(settings, inputs, counts)
    embedded = StackedDense(EMBEDDING, 1, 0.5, name="last")(_trunk(settings, spectra, width, 1))[0]
    embedding = keras.Model(spectra, embedded, name="embedding")
    both = keras.Input((inputs + numbers,))
    normal, stretch = couplings([both[:, inputs:], embedding(both[:, :inputs])])
    bell = 0.5 * ops.sum(ops.square(normal), axis=1, keepdims=True)
    likelihood = keras.Model(both, bell - stretch)
    given = keras.Input((EMBEDDING + numbers,))
    drawn = couplings([given[:, EMBEDDING:], given[:, :EMBEDDING]], inverse=True)
    return likelihood, embedding, keras.Model(given, drawn)


def _trunk(
    settings: SspMixtureModel, spectra: Any, width: int, members: int, name: str = "trunk"
) -> Any:
    """Layers of networks side by side: (n, inputs) to (members, n, width)."""
    flow = ops.expand_dims(spectra, 0)
    for place in range(settings.layers):
        dense = StackedDense(width, members, math.sqrt(2.0), name=f"{name}_{place}")
        flow = layers.Activation("silu")(dense(flow))
        if settings.dropout:
            flow = layers.Dropout(settings.dropout, seed=settings.seed + place)(flow)
    return flow
