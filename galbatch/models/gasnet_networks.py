"""The classifier of subclasses as a Keras model. Imports TensorFlow."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers

from galbatch.spec.spectral_models import GasnetModel
from galbatch.spectra.network_input import NetworkInput

_DENSE = 128
_LINES = 64
_DROPOUT = 0.2


def build(settings: GasnetModel, inputs: NetworkInput, classes: int) -> Any:
    """A residual network: spectra of shape (n, inputs.size) to logits of shape (n, classes).

    Convolutions find lines wherever a redshift puts them; beside them, dense layers read the
    spectrum pixel by pixel, as observed (stars) and at rest (lines of galaxies and quasars).

    Parameters
    ----------
    settings : GasnetModel
    inputs : NetworkInput
    classes : int

    Returns
    -------
    keras.Model
    """
    spectra = keras.Input((inputs.size,), name="spectra")
    observed, rest = 2 * inputs.observed, 2 * inputs.rest
    seen = spectra[:, :observed]
    at_rest = spectra[:, observed : observed + rest]
    lines = spectra[:, observed + rest :]
    flow = layers.Permute((2, 1))(layers.Reshape((2, inputs.observed))(seen))
    found = _convolved(settings, flow)
    parts = [_read(one) for one in (seen, at_rest)]
    parts.append(layers.Dense(_LINES, activation="relu")(layers.BatchNormalization()(lines)))
    flow = layers.Concatenate()([found, *parts])
    flow = layers.Dropout(_DROPOUT)(flow)
    flow = layers.Dense(_DENSE, activation="relu")(flow)
    flow = layers.Dropout(_DROPOUT)(flow)
    return keras.Model(spectra, layers.Dense(classes, name="logits")(flow))


def _convolved(settings: GasnetModel, flow: Any) -> Any:
    first, *others = settings.filters
    flow = layers.Conv1D(first, 9, strides=4, padding="same")(flow)
    flow = _block(flow, first, settings.kernel)
    for number in others:
        flow = layers.MaxPooling1D(2)(flow)
        flow = layers.Conv1D(number, 1)(flow)
        flow = _block(flow, number, settings.kernel)
    flow = layers.Activation("relu")(flow)
    everywhere = layers.GlobalMaxPooling1D()(flow)
    places = layers.AveragePooling1D(8, padding="same")(flow)
    return layers.Concatenate()([everywhere, layers.Flatten()(places)])


def _block(flow: Any, number: int, kernel: int) -> Any:
    """Two convolutions whose outcome is added to what comes in."""
    made = layers.Activation("relu")(layers.LayerNormalization()(flow))
    made = layers.Conv1D(number, kernel, padding="same", activation="relu")(made)
    made = layers.Conv1D(number, kernel, padding="same")(made)
    return layers.Add()([flow, made])


def _read(flow: Any) -> Any:
    made = layers.Dense(_DENSE)(flow)
    made = layers.LayerNormalization()(made)
    return layers.Dense(_DENSE, activation="relu")(layers.Activation("relu")(made))
