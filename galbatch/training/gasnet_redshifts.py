"""Training of the networks of redshifts on simulated spectra."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from galbatch.errors import SpecError
from galbatch.models.gasnet_redshifts import FARTHEST, NETWORK, redshifts, shown
from galbatch.models.runtime import OnnxNetwork
from galbatch.spec.spectral_models import GasnetModel
from galbatch.spectra.errors import ErrorModel, calibrate
from galbatch.spectra.network_input import NetworkInput
from galbatch.training.base import OnEpoch
from galbatch.training.data import Mine
from galbatch.training.gasnet_fit import Lesson, fit_network

Array = NDArray[np.float64]

_DEGREES = 4.0
"""Of freedom of Student's distribution, which redshifts are taken to have about the truth."""
_RATE = 2.0
"""Of the learning rate of the network of subclasses."""


def fitted_redshifts(
    settings: GasnetModel,
    maker: NetworkInput,
    inputs: NDArray[np.float16],
    answers: NDArray[np.float32],
    held: NDArray[np.bool_],
    folder: Path,
    progress: OnEpoch,
) -> list[NDArray[Any]]:
    """Fit the network and write it.

    Parameters
    ----------
    settings : GasnetModel
    maker : NetworkInput
    inputs : ndarray of float16, shape (n, maker.size)
    answers : ndarray of float32, shape (n, 1 + k)
        By how many of the network's pixels a spectrum is too far to the red, and 1 at its subclass:
        see `answers_of`. Rows that are no galaxies or quasars, or are too far off, have no 1.
    held : ndarray of bool, shape (n,)
        Rows that end the fit.
    folder : Path
    progress : callable

    Returns
    -------
    list of ndarray
        Its weights.

    Raises
    ------
    SpecError
        If there is nothing to learn from, or the fit diverges.
    """
    from galbatch.models.gasnet_networks import build_redshifts

    usable, subclasses = answers[:, 1:].any(axis=1), answers.shape[1] - 1
    taught, judged = np.flatnonzero(usable & ~held), np.flatnonzero(usable & held)
    if not len(taught) or not len(judged):
        raise SpecError(
            f"models.{settings.name}.mocks", "too few galaxies and quasars", "make it more"
        )

    def seen(
        rows: NDArray[np.intp], generator: np.random.Generator | None, mine: Mine
    ) -> NDArray[np.float32]:
        pixels = np.zeros(len(rows), np.intp)
        if generator is not None:
            pixels = generator.integers(-FARTHEST, FARTHEST + 1, len(rows))
        part = slice(None) if mine is None else mine
        return shown(inputs[rows[part]], maker, pixels[part])

    lesson = Lesson(
        NETWORK,
        lambda: build_redshifts(maker, subclasses),
        _loss(subclasses),
        _RATE * settings.learning_rate,
        seen,
        answers,
        taught,
        judged,
    )
    return fit_network(settings, lesson, folder, progress).weights


def _loss(subclasses: int) -> Any:
    """The mean over sub-networks of minus the logarithm of the likelihood."""
    import keras

    ops = keras.ops

    def loss(answers: Any, told: Any) -> Any:
        own = answers[:, None, 1:]
        place = ops.sum(told[:, :, :subclasses] * own, axis=-1)
        width = ops.sum(told[:, :, subclasses:] * own, axis=-1)
        pull = (answers[:, :1] - place) * ops.exp(-width)
        unlikely = width + (_DEGREES + 1) / 2 * ops.log1p(ops.square(pull) / _DEGREES)
        return ops.mean(unlikely, axis=-1)

    return loss


def answers_of(
    label: NDArray[np.int64], scanned: Array, truth: Array, maker: NetworkInput, subclasses: int
) -> NDArray[np.float32]:
    """What the network is taught to say of spectra; see `fitted_redshifts`.

    Parameters
    ----------
    label : ndarray of int64, shape (n,)
        Place of the subclass.
    scanned, truth : ndarray, shape (n,)
        Redshift by which a spectrum came to rest, and the true one.
    maker : NetworkInput
    subclasses : int
        Of galaxies and quasars, which stand first.
    """
    off = maker.off(scanned, truth)
    near = np.isfinite(scanned) & (np.abs(off) < FARTHEST)
    own = (label[:, None] == np.arange(subclasses)) & near[:, None]
    return np.concatenate([np.where(near, off, 0.0)[:, None], own], axis=1).astype(np.float32)


def redshift_errors(
    folder: Path,
    maker: NetworkInput,
    inputs: NDArray[np.float16],
    names: NDArray[np.str_],
    place: NDArray[np.intp],
    known: tuple[Array, Array, Array],
    subclasses: list[str],
) -> dict[str, ErrorModel]:
    """Errors of the network's redshifts, calibrated on spectra that taught it nothing.

    Parameters
    ----------
    folder : Path
        With the network.
    maker : NetworkInput
    inputs : ndarray of float16, shape (n, maker.size)
    names, place : ndarray, shape (n,)
        The subclass that the other network finds.
    known : tuple of ndarray, shape (n,)
        The scan's redshift, the true one, and `clean.signal_to_noise`.
    subclasses : list of str
        Of galaxies and quasars. One that is rare has the error that the network says.
    """
    scanned, truth, seen = known
    network = OnnxNetwork(folder / f"{NETWORK}.onnx")
    told = network(shown(inputs, maker, np.zeros(len(inputs), np.intp)))
    z, error = redshifts(told, place, scanned, maker)
    return calibrate(names, z, error, truth, seen, dict.fromkeys(subclasses, ErrorModel()))
