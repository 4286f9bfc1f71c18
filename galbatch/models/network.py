"""The networks as Keras models. Imports TensorFlow: import it only where that is wanted."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import keras
import numpy as np
from keras import ops

from galbatch.models.heads import Head


@dataclass(frozen=True)
class Architecture:
    """Size of a stacked ensemble.

    Parameters
    ----------
    inputs, members, width, layers, outputs : int
    """

    inputs: int
    members: int
    width: int
    layers: int
    outputs: int

    def to_json(self) -> dict[str, int]:
        """As a JSON-ready dictionary."""
        return asdict(self)


class StackedDense(keras.layers.Layer):  # type: ignore[misc]
    """A dense layer of independent networks side by side: one matrix product for all.

    Parameters
    ----------
    units : int
    members : int
    gain : float
        Weights start at a normal distribution of this over the square root of the inputs.
    """

    def __init__(self, units: int, members: int, gain: float, **options: Any) -> None:
        super().__init__(**options)
        self.units, self.members, self.gain = units, members, gain

    def build(self, shape: Sequence[int | None]) -> None:
        """Make the weights, shape (members, inputs, units)."""
        inputs = int(shape[-1] or 0)
        start = keras.initializers.RandomNormal(stddev=self.gain / math.sqrt(inputs))
        self.kernel = self.add_weight(
            name="kernel", shape=(self.members, inputs, self.units), initializer=start
        )
        self.bias = self.add_weight(
            name="bias", shape=(self.members, 1, self.units), initializer="zeros"
        )

    def call(self, inputs: Any) -> Any:
        """(1 or members, n, inputs) to (members, n, units)."""
        return ops.matmul(inputs, self.kernel) + self.bias


def build(shape: Architecture, heads: Sequence[Head], dropout: float = 0.0, seed: int = 0) -> Any:
    """An ensemble of multilayer perceptrons, all members in one model.

    Parameters
    ----------
    shape : Architecture
    heads : sequence of Head
        What the outputs are; their labels' range is where the components start.
    dropout : float
        While training.
    seed : int
        Of the dropout.

    Returns
    -------
    keras.Model
        (n, inputs) to (n, members, outputs).

    Notes
    -----
    No batch normalisation: its moving statistics would depend on the number of replicas, and on
    photometry it made the redshifts worse. The layers have fixed names, so that the files it is
    saved to have the same bytes every time.
    """
    inputs = keras.Input((shape.inputs,), name="features")
    x = ops.expand_dims(inputs, 0)
    for layer in range(shape.layers):
        dense = StackedDense(shape.width, shape.members, math.sqrt(2.0), name=f"dense_{layer}")
        x = keras.layers.Activation("silu", name=f"silu_{layer}")(dense(x))
        if dropout > 0:
            x = keras.layers.Dropout(dropout, seed=seed * 100 + layer, name=f"dropout_{layer}")(x)
    last = StackedDense(shape.outputs, shape.members, 0.3, name="outputs")
    model = keras.Model(inputs, ops.transpose(last(x), (1, 0, 2)), name="ensemble")
    bias = np.zeros((shape.members, 1, shape.outputs), np.float32)
    for head in heads:
        bias[:, 0, head.start : head.start + head.size] = head.first_bias()
    last.bias.assign(bias)
    return model


class HeadsLoss(keras.losses.Loss):  # type: ignore[misc]
    """Negative log likelihood of every target, over the rows that have its label.

    Parameters
    ----------
    heads : sequence of Head
    weights : sequence of float
        Of each target; 1 over the share of rows with its label makes them count alike.
    """

    def __init__(self, heads: Sequence[Head], weights: Sequence[float]) -> None:
        super().__init__(name="likelihood")
        self.heads, self.weights = tuple(heads), tuple(weights)

    def call(self, labels: Any, outputs: Any) -> Any:
        """Loss of each row: labels (n, heads), NaN where unknown; outputs (n, members, outputs).

        Labels of twice as many columns have the rows' weights for each head behind them.
        """
        total = 0.0
        count = len(self.heads)
        weighted = labels.shape[1] > count
        for index, (head, weight) in enumerate(zip(self.heads, self.weights, strict=True)):
            label = ops.cast(labels[:, index], "float32")[:, None]
            known = ops.logical_not(ops.isnan(label))
            # The unknown ones are computed as well, on a number that makes no NaN in the gradient.
            safe = ops.where(known, label, ops.zeros_like(label))
            each = head.loss(safe, head.of(outputs))
            masked = ops.where(known, each, ops.zeros_like(each))
            if weighted:
                masked *= ops.cast(labels[:, count + index], "float32")[:, None]
            total += weight * ops.mean(masked, axis=-1)
        return total
