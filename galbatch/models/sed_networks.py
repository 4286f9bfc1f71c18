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


def build_dense(settings: SedAutoencoderModel) -> Any:
    """The autoencoder of components: numbers of shape (n, components) to as many.

    Parameters
    ----------
    settings : SedAutoencoderModel
        Of a `dense` network.

    Returns
    -------
    keras.Model
    """
    given = keras.Input((settings.components,))
    flow = given
    for units in settings.hidden:
        flow = layers.Dense(units, activation="silu")(flow)
    flow = layers.Dense(settings.latents, name=LATENTS)(flow)
    latents = keras.Input((settings.latents,))
    back = latents
    for units in reversed(settings.hidden):
        back = layers.Dense(units, activation="silu")(back)
    decoder = keras.Model(latents, layers.Dense(settings.components)(back), name="decoder")
    return keras.Model(given, decoder(flow))


def with_components(
    settings: SedAutoencoderModel, model: Any, mean: Any, axes: Any
) -> tuple[Any, Any]:
    """Encoder and decoder of spectra, of the autoencoder of their components.

    Parameters
    ----------
    settings : SedAutoencoderModel
    model : keras.Model
        From `build_dense`.
    mean : ndarray, shape (points,)
        Of the spectra.
    axes : ndarray, shape (components, points)
        What one of each component adds to a spectrum; at right angles to each other.

    Returns
    -------
    tuple of keras.Model
    """
    into = axes.T / (axes**2).sum(axis=1)
    spectra = keras.Input((settings.points,), name="spectra")
    first = layers.Dense(settings.components, trainable=False)
    coded = encoder_of(model)(first(spectra))
    first.set_weights([into, -mean @ into])
    latents = keras.Input((settings.latents,))
    last = layers.Dense(settings.points, trainable=False)
    made = last(decoder_of(model)(latents))
    last.set_weights([axes, mean])
    return keras.Model(spectra, coded), keras.Model(latents, made)


def weighted_squares(shares: Any) -> Any:
    """A loss: the sum of squared differences, each with its share."""

    def loss(wanted: Any, given: Any) -> Any:
        return ops.sum(ops.convert_to_tensor(shares) * ops.square(given - wanted), axis=-1)

    return loss


def falling_rate(rate: float, steps: int) -> Any:
    """A learning rate that falls to nothing along a cosine."""
    return keras.optimizers.schedules.CosineDecay(rate, steps)


def encoder_of(model: Any) -> Any:
    """The part of an autoencoder that ends with the latents."""
    return keras.Model(model.input, model.get_layer(LATENTS).output)


def decoder_of(model: Any) -> Any:
    """The part of an autoencoder that begins with the latents."""
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
