"""One fit of a network of `gasnet`: what its three networks share."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from galbatch.models.gasnet import VERSION
from galbatch.spec.spectral_models import GasnetModel
from galbatch.training.base import WORK, Fitted, OnEpoch, Schedule
from galbatch.training.data import Mine, TrainingRows

_PARITY_ROWS = 64


@dataclass(frozen=True)
class Lesson:
    """What a network learns.

    Parameters
    ----------
    name : str
        Of its files.
    build : callable
        Makes the Keras model.
    loss : callable
        Keras' loss.
    rate : float
        Of learning at first; it falls to nothing.
    shown : callable
        What the network is shown of some rows, for which it may draw at random; without a
        generator as it is shown them later.
    answers : ndarray, shape (n, k)
    taught, judged : ndarray of int
        The rows that teach, and those that end the fit.
    """

    name: str
    build: Callable[[], Any]
    loss: Any
    rate: float
    shown: Callable[[NDArray[np.intp], np.random.Generator | None, Mine], NDArray[np.float32]]
    answers: NDArray[np.float32]
    taught: NDArray[np.intp]
    judged: NDArray[np.intp]


def fit_network(settings: GasnetModel, lesson: Lesson, folder: Path, progress: OnEpoch) -> Fitted:
    """Fit a network and write it.

    Parameters
    ----------
    settings : GasnetModel
    lesson : Lesson
    folder : Path
    progress : callable

    Returns
    -------
    Fitted

    Raises
    ------
    SpecError
        If the fit diverges.
    """
    from galbatch.training.export import export
    from galbatch.training.loop import fit

    def compiled(steps: int) -> Any:
        import keras

        model = lesson.build()
        rate = keras.optimizers.schedules.CosineDecay(lesson.rate, steps)
        model.compile(keras.optimizers.Adam(rate), lesson.loss, jit_compile=False)
        return model

    def moved(
        rows: NDArray[np.intp], generator: np.random.Generator, mine: Mine
    ) -> NDArray[np.float32]:
        return lesson.shown(lesson.taught[rows], generator, mine)

    def report(epoch: int, text: str) -> None:
        progress(epoch, settings.most_epochs, f"{lesson.name}: {text}")

    facts = [VERSION, lesson.name, settings.training_settings()]
    fitted = fit(
        compiled,
        TrainingRows(moved, lesson.answers[lesson.taught]),
        (lesson.shown(lesson.judged, None, None), lesson.answers[lesson.judged]),
        Schedule(settings.batch, settings.most_epochs, settings.patience, settings.seed),
        folder / WORK / lesson.name,
        hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest(),
        f"models.{settings.name}",
        report,
    )
    model = lesson.build()
    model.set_weights(fitted.weights)
    export(model, folder, lesson.name, lesson.shown(lesson.taught[:_PARITY_ROWS], None, None))
    return fitted


def as_they_are(inputs: NDArray[np.float16]) -> Callable[..., NDArray[np.float32]]:
    """A lesson's `shown` of inputs that are the same each time."""

    def shown(
        rows: NDArray[np.intp], generator: np.random.Generator | None, mine: Mine
    ) -> NDArray[np.float32]:
        return inputs[rows if mine is None else rows[mine]].astype(np.float32)

    return shown
