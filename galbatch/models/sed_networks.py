"""The autoencoder of spectra as Keras models. Imports TensorFlow."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers, ops

from galbatch.spec.spectral_models import SedAutoencoderModel

LATENTS = "latents"
"""The layer whose outputs a spectrum becomes."""


@keras.saving.register_keras_serializable("galbatch")
class Draw(layers.Layer):  # type: ignore[misc]
    """Latents drawn from their distribution while training; afterwards its mean.

    Kingma & Welling (2014), arXiv:1312.6114, equations 7 (divergence) and 10 (draws).

    Parameters
    ----------
    weight : float
        Of the divergence, in units of the mean squared error of a pixel.
    """

    def __init__(self, weight: float, **settings: Any) -> None:
        super().__init__(**settings)
        self.weight = weight
        self._seeds = keras.random.SeedGenerator(0)

    def call(self, inputs: Any, training: bool = False) -> Any:
        """Of mean and logarithm of the variance, both of shape (n, latents)."""
        mean, spread = inputs
        divergence = -0.5 * ops.mean(1 + spread - ops.square(mean) - ops.exp(spread))
        self.add_loss(self.weight * divergence)
        if not training:
            return mean
        noise = keras.random.normal(ops.shape(mean), seed=self._seeds)
        return mean + ops.exp(0.5 * spread) * noise


def build(settings: SedAutoencoderModel) -> Any:
    """The autoencoder: spectra of shape (n, points) to spectra of the same shape.

    Parameters
    ----------
    settings : SedAutoencoderModel

    Returns
    -------
    keras.Model
    """
    spectra = keras.Input((settings.points,), name="spectra")
    flow = layers.Reshape((settings.points, 1))(spectra)
    for number in settings.filters:
        flow = layers.Conv1D(number, settings.kernel, padding="same")(flow)
        flow = layers.LeakyReLU()(flow)
        flow = layers.MaxPooling1D(settings.pool)(flow)
    flow = layers.Flatten()(flow)
    if settings.variational:
        mean = layers.Dense(settings.latents, name=LATENTS)(flow)
        spread = layers.Dense(settings.latents)(flow)
        latents = Draw(settings.kl_weight)([mean, spread])
    else:
        flow = layers.Dense(settings.latents)(flow)
        latents = layers.LeakyReLU(name=LATENTS)(flow)
    return keras.Model(spectra, _decoder(settings)(latents))


def encoder_of(model: Any) -> Any:
    """The part of an autoencoder from spectra to latents."""
    return keras.Model(model.input, model.get_layer(LATENTS).output)


def decoder_of(model: Any) -> Any:
    """The part of an autoencoder from latents to spectra."""
    return model.get_layer("decoder")


def _decoder(settings: SedAutoencoderModel) -> Any:
    smallest = settings.points // settings.pool ** len(settings.filters)
    latents = keras.Input((settings.latents,))
    flow = layers.Dense(smallest * settings.filters[-1])(latents)
    flow = layers.LeakyReLU()(flow)
    flow = layers.Reshape((smallest, settings.filters[-1]))(flow)
    for number in reversed(settings.filters):
        flow = layers.Conv1DTranspose(number, settings.kernel, padding="same")(flow)
        flow = layers.LeakyReLU()(flow)
        flow = layers.UpSampling1D(settings.pool)(flow)
    flow = layers.Conv1D(1, settings.kernel, padding="same")(flow)
    return keras.Model(latents, layers.Flatten()(flow), name="decoder")
