"""One fit over all devices and processes that do it, resumable. Imports TensorFlow."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from galbatch.errors import SpecError
from galbatch.training.base import Fitted, Schedule
from galbatch.training.checkpoint import Checkpoint
from galbatch.training.data import TrainingRows, even, once, rows_together, steps_in_epoch, stream
from galbatch.training.group import FitGroup
from galbatch.training.together import fit_together


def fit(
    compiled: Callable[[int], Any],
    sample: TrainingRows,
    validation: tuple[NDArray[np.float32], NDArray[np.float32]],
    schedule: Schedule,
    work: Path,
    key: str,
    where: str,
    report: Callable[[int, str], None],
    group: FitGroup | None = None,
) -> Fitted:
    """Train on every GPU of this process, or on its CPU, and on those of its group.

    Parameters
    ----------
    compiled : callable
        From the number of steps to a compiled model; called in the scope of the strategy.
    sample : TrainingRows
        Training rows.
    validation : pair of ndarray
        Features and labels.
    schedule : Schedule
    work : Path
        Folder for the state between epochs.
    key : str
        Tells this fit from any other.
    where : str
        For the message when it diverges.
    report : callable
        Told the finished epochs and what to say, after each.
    group : FitGroup, optional
        The other processes that do this fit. The chief's folder and report count.

    Returns
    -------
    Fitted

    Raises
    ------
    SpecError
        If it diverges.
    TransientError
        If a process of the group is gone.
    """
    keras.backend.clear_session()
    keras.utils.set_random_seed(schedule.seed)
    strategy = tf.distribute.MirroredStrategy(_devices())
    replicas = strategy.num_replicas_in_sync
    everybody = replicas * (group.count if group else 1)
    batch = even(len(sample), schedule.batch, everybody)
    steps, judged = steps_in_epoch(len(sample), batch), rows_together(validation[0].shape[1])
    checkpoint = Checkpoint(work, key, schedule.patience, report)
    with strategy.scope():
        model = compiled(steps * schedule.epochs)
        checkpoint.resume(model)
        done = checkpoint.progress.epoch
        if group is not None:
            even_steps = replace(schedule, batch=batch)
            weights = fit_together(
                strategy, group, model, sample, validation, even_steps, checkpoint, where
            )
        elif done < schedule.epochs and not checkpoint.finished:
            model.fit(
                stream(tf, sample, batch, schedule.seed, done, schedule.epochs),
                validation_data=once(tf, *validation, judged, replicas),
                initial_epoch=done,
                epochs=schedule.epochs,
                steps_per_epoch=steps,
                callbacks=[checkpoint, keras.callbacks.TerminateOnNaN()],
                shuffle=False,
                verbose=0,
            )
        if group is None:
            weights = checkpoint.best_weights(model)
    if not all(np.isfinite(array).all() for array in weights):
        raise SpecError(where, "the fit diverged: its loss is not a number", "lower learning_rate?")
    return Fitted(weights, checkpoint.progress.history, steps * schedule.epochs)


def _devices() -> list[str]:
    found = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    return [device.name for device in found]
