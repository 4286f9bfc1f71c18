"""The InfoVAE of spectra as Keras models. Imports TensorFlow."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
from keras import layers, ops

from galbatch.spec.spectral_models import InfoVaeModel

MEAN, SPREAD = "mean", "spread"
"""The layers with the mean of a spectrum's latents, and with the logarithm of their variance."""
_SLOPE = 0.01
"""Of a LeakyReLU below zero."""
_NORMAL = 200
"""Draws of the normal distribution that a batch is compared with."""
_COMPARED = 1024
"""Latents of a batch that are compared, at most: distances of all pairs are looked at."""


def discrepancy(one: Any, other: Any) -> Any:
    """The squared maximum mean discrepancy of two samples (Gretton et al. 2012, equation 5).

    The kernel is ``exp(-d)`` of the mean squared difference d of two rows; rows are compared with
    themselves too, so that the same sample twice has 0.

    Parameters
    ----------
    one, other : tensor, shape (n, k), (m, k)

    Returns
    -------
    tensor, scalar
    """

    def kernel(left: Any, right: Any) -> Any:
        squares = [ops.sum(ops.square(rows), axis=1) for rows in (left, right)]
        products = ops.matmul(left, ops.transpose(right))
        apart = squares[0][:, None] + squares[1][None] - 2 * products
        return ops.mean(ops.exp(-apart / left.shape[1]))

    return kernel(one, one) + kernel(other, other) - 2 * kernel(one, other)


def divergence(mean: Any, spread: Any) -> Any:
    """The Kullback-Leibler divergence of latents from a normal distribution, shape (n,).

    Kingma & Welling (2014), arXiv:1312.6114, appendix B.

    Parameters
    ----------
    mean, spread : tensor, shape (n, k)
        `spread` is the logarithm of the variance.
    """
    return -0.5 * ops.sum(1 + spread - ops.square(mean) - ops.exp(spread), axis=1)


@keras.saving.register_keras_serializable("galbatch")
class InfoDraw(layers.Layer):  # type: ignore[misc]
    """Latents drawn from their distribution while training, afterwards its mean; adds their losses.

    Parameters
    ----------
    alpha, mmd_weight : float
        The losses are ``(1 - alpha)`` times the mean divergence and ``(mmd_weight + alpha - 1)``
        times the discrepancy of the batch.
    """

    def __init__(self, alpha: float, mmd_weight: float, **settings: Any) -> None:
        super().__init__(**settings)
        self.alpha, self.mmd_weight = alpha, mmd_weight
        self._seeds = keras.random.SeedGenerator(0)

    def call(self, inputs: Any, training: bool = False) -> Any:
        """Of mean and logarithm of the variance, both of shape (n, latents)."""
        mean, spread = inputs
        noise = keras.random.normal(ops.shape(mean), seed=self._seeds)
        drawn = mean + ops.exp(0.5 * spread) * noise
        normal = keras.random.normal((_NORMAL, mean.shape[1]), seed=self._seeds)
        self.add_loss((1 - self.alpha) * ops.mean(divergence(mean, spread)))
        apart = discrepancy(normal, drawn[:_COMPARED])
        self.add_loss((self.mmd_weight + self.alpha - 1) * apart)
        return drawn if training else mean


def build(settings: InfoVaeModel) -> Any:
    """The network: spectra less their mean, shape (n, pixels), to spectra of the same kind.

    Parameters
    ----------
    settings : InfoVaeModel

    Returns
    -------
    keras.Model
    """
    spectra = keras.Input((settings.pixels,), name="spectra")
    flow = _hidden(spectra, settings.hidden)
    mean = layers.Dense(settings.latents, name=MEAN)(flow)
    spread = layers.Dense(settings.latents, name=SPREAD)(flow)
    latents = InfoDraw(settings.alpha, settings.mmd_weight)([mean, spread])
    given = keras.Input((settings.latents,))
    back = _hidden(given, tuple(reversed(settings.hidden)))
    decoder = keras.Model(given, layers.Dense(settings.pixels)(back), name="decoder")
    return keras.Model(spectra, decoder(latents))


def weighted_squares(pixels: int) -> Callable[[Any, Any], Any]:
    """A loss: half the sum of squared differences, each with its weight.

    What it is told to want is spectra and their weights side by side, shape (n, 2 pixels).
    """

    def loss(wanted: Any, given: Any) -> Any:
        spectra, weights = wanted[:, :pixels], wanted[:, pixels:]
        return 0.5 * ops.sum(weights * ops.square(spectra - given), axis=-1)

    return loss


def with_mean(model: Any, mean: Any) -> tuple[Any, Any]:
    """Encoder and decoder of spectra that have their mean; the model is theirs from then on.

    Parameters
    ----------
    model : keras.Model
        From `build`.
    mean : ndarray, shape (pixels,)

    Returns
    -------
    tuple of keras.Model
    """
    encoder, decoder = encoder_of(model), model.get_layer("decoder")
    first = next(one for one in encoder.layers if isinstance(one, layers.Dense))
    kernel, bias = first.get_weights()
    first.set_weights([kernel, bias - mean @ kernel])
    last = decoder.layers[-1]
    kernel, bias = last.get_weights()
    last.set_weights([kernel, bias + mean])
    return encoder, decoder


def encoder_of(model: Any) -> Any:
    """The part that ends with the mean of the latents."""
    return keras.Model(model.input, model.get_layer(MEAN).output)


def distributions_of(model: Any) -> Any:
    """The part that ends with the mean and the logarithm of the variance of the latents."""
    outputs = [model.get_layer(name).output for name in (MEAN, SPREAD)]
    return keras.Model(model.input, outputs)


def _hidden(flow: Any, units: tuple[int, ...]) -> Any:
    for number in units:
        flow = layers.LeakyReLU(negative_slope=_SLOPE)(layers.Dense(number)(flow))
    return flow
