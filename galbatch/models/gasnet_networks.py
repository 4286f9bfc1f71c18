"""The networks of subclasses and of redshifts as Keras models. Imports TensorFlow."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers

from galbatch.models.gasnet_redshifts import SUB_NETWORKS
from galbatch.spec.spectral_models import GasnetModel
from galbatch.spectra.network_input import NetworkInput

_DENSE = 128
_LINES = 64
_DROPOUT = 0.2
_SUB_UNITS = 32
_PIXELS = 4.0
"""Of the network's, that a sub-network's output of 1 stands for."""


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


def build_redshifts(inputs: NetworkInput, subclasses: int) -> Any:
    """Ten sub-networks for each subclass, on features that all share.

    The input is a spectrum at rest, of shape (n, 2 inputs.rest + 1): both channels, and by how
    many pixels it was moved to the red for this once. The output has the shape
    (n, SUB_NETWORKS, 2 subclasses): of each subclass where the spectrum is against that place, in
    pixels, then the natural logarithms of the errors.

    Parameters
    ----------
    inputs : NetworkInput
    subclasses : int

    Returns
    -------
    keras.Model
    """
    spectra = keras.Input((2 * inputs.rest + 1,), name="spectra")
    flow = layers.Reshape((2, inputs.rest))(spectra[:, :-1])
    flow = layers.Permute((2, 1))(flow)
    flow = layers.Conv1D(16, 9, strides=3, padding="same", activation="silu")(flow)
    flow = layers.Conv1D(8, 5, strides=2, padding="same", activation="silu")(flow)
    flow = layers.LayerNormalization()(layers.Dense(_DENSE)(layers.Flatten()(flow)))
    flow = layers.Dropout(_DROPOUT / 2)(layers.Activation("silu")(flow))
    flow = layers.Dense(_DENSE, activation="silu")(flow)
    own = layers.Dense(SUB_NETWORKS * _SUB_UNITS, activation="silu")(flow)
    own = layers.Reshape((SUB_NETWORKS, _SUB_UNITS))(own)
    told = layers.EinsumDense("bnh,nhs->bns", (SUB_NETWORKS, 2 * subclasses), bias_axes="ns")(own)
    moved = layers.Reshape((1, 1))(spectra[:, -1:])
    places = _PIXELS * told[:, :, :subclasses] - moved
    return keras.Model(
        spectra, layers.Concatenate(axis=2, name="told")([places, told[:, :, subclasses:]])
    )


def build_encoder(inputs: NetworkInput, kinds: int, vectors: int) -> Any:
    """Spectra as observed, of shape (n, 2 inputs.observed), to shares of the vectors of bases.

    Parameters
    ----------
    inputs : NetworkInput
    kinds : int
        Bases.
    vectors : int
        Of each.

    Returns
    -------
    keras.Model
        Of shape (n, kinds, vectors), not below 0, with the sum 1 along the last axis.
    """
    spectra = keras.Input((2 * inputs.observed,), name="spectra")
    flow = layers.Permute((2, 1))(layers.Reshape((2, inputs.observed))(spectra))
    flow = layers.Conv1D(16, 9, strides=3, padding="same", activation="silu")(flow)
    flow = layers.Conv1D(16, 5, strides=2, padding="same", activation="silu")(flow)
    flow = layers.LayerNormalization()(layers.Dense(_DENSE)(layers.Flatten()(flow)))
    flow = layers.Dropout(_DROPOUT / 2)(layers.Activation("silu")(flow))
    flow = layers.Dense(_DENSE, activation="silu")(flow)
    flow = layers.Reshape((kinds, vectors))(layers.Dense(kinds * vectors)(flow))
    return keras.Model(spectra, layers.Softmax(axis=-1, name="shares")(flow))


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
