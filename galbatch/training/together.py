"""A fit by several processes: each does its share of every step. Imports TensorFlow.

`model.fit` cannot be had here: under TensorFlow's strategy for several processes Keras 3 refuses
it. A process' own GPUs are a MirroredStrategy of their own.
"""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from galbatch.errors import SpecError
from galbatch.training.base import Schedule
from galbatch.training.checkpoint import Checkpoint, variables_of
from galbatch.training.data import (
    TrainingRows,
    judged_at_once,
    rows_together,
    steps_in_epoch,
    stream,
)
from galbatch.training.group import FitGroup

# So far apart are the dropouts of two processes.
_SEEDS = 1_000_003


class Together:
    """The steps of a model that several processes train.

    Parameters
    ----------
    strategy : tf.distribute.Strategy
        Over the devices of this process.
    group : FitGroup
    model : keras.Model
        Compiled, made in the scope of the strategy.
    batch : int
        Rows of a step, of all processes.
    """

    def __init__(self, strategy: Any, group: FitGroup, model: Any, batch: int) -> None:
        self._strategy, self._group, self._model, self._batch = strategy, group, model, batch
        self._replicas = strategy.num_replicas_in_sync
        self._variables = model.trainable_variables
        loss = keras.losses.get(model.loss)
        # Of each row, not their mean: a share need not be as large as another.
        self._of_rows = loss.call if isinstance(loss, keras.losses.Loss) else loss
        self._gradients = tf.function(self._summed)
        self._judged = tf.function(self._loss)
        self._applied = tf.function(self._apply)

    def agree(self, facts: dict[str, Any]) -> dict[str, Any]:
        """Take what the chief has: its weights, the state of its optimiser, and its word.

        Parameters
        ----------
        facts : dict

        Returns
        -------
        dict
            The chief's.
        """
        variables = variables_of(self._model)
        told, arrays = self._group.told(facts, [np.asarray(one) for one in variables])
        if not self._group.is_chief:
            for variable, array in zip(variables, arrays, strict=True):
                variable.assign(array)
            for layer in self._model.layers:
                # The same numbers in the same places of two shares would leave out the same units.
                if (seeds := getattr(layer, "seed_generator", None)) is not None:
                    state = np.asarray(seeds.state)
                    state[0] += np.asarray(_SEEDS * self._group.number, state.dtype)
                    seeds.state.assign(state)
        return told

    def step(self, features: Any, labels: Any) -> float:
        """Learn from a batch.

        Parameters
        ----------
        features, labels : tensor, or one for each device, shape (rows, ...)
            This process' share of it.

        Returns
        -------
        float
            Loss of the whole batch.
        """
        total = self._group.sum(self._gradients(features, labels).numpy())
        self._applied(total[1:])
        return float(total[0])

    def judge(self, features: NDArray[np.float32], labels: NDArray[np.float32]) -> float:
        """Mean loss of rows that do not train: each process does its share.

        Parameters
        ----------
        features, labels : ndarray, shape (n, ...)
            All of them, in each process.

        Returns
        -------
        float
        """
        mine = self._group.share(len(labels))
        together = rows_together(features.shape[1])
        starts = range(mine.start, mine.stop, together)
        parts = [slice(start, min(start + together, mine.stop)) for start in starts]
        losses = [float(self._judged(features[part], labels[part], False)) for part in parts]
        whole = self._group.sum(np.array([sum(losses)], np.float32))
        return float(whole[0]) / len(labels)

    def _loss(self, features: Any, labels: Any, training: bool) -> Any:
        return tf.reduce_sum(self._of_rows(labels, self._model(features, training=training)))

    def _summed(self, features: Any, labels: Any) -> Any:
        """The loss and its gradient over this process' devices, in one vector."""

        def one(features: Any, labels: Any) -> Any:
            with tf.GradientTape() as tape:
                loss = self._loss(features, labels, True) / self._batch
                if self._model.losses:
                    everybody = self._replicas * self._group.count
                    loss += tf.add_n(self._model.losses) / everybody
            found = tape.gradient(loss, self._variables)
            return tf.concat([tf.reshape(each, [-1]) for each in (loss, *found)], 0)

        parts = self._strategy.run(one, (features, labels))
        return self._strategy.reduce(tf.distribute.ReduceOp.SUM, parts, axis=None)

    def _apply(self, gradient: Any) -> None:
        """Give each device the whole gradient: its share of what the optimiser will add up."""
        sizes = [math.prod(one.shape) for one in self._variables]

        def one(gradient: Any) -> None:
            cut = tf.split(tf.identity(gradient) / self._replicas, sizes)
            parts = zip(cut, self._variables, strict=True)
            shaped = [tf.reshape(part, variable.shape) for part, variable in parts]
            self._model.optimizer.apply(shaped, self._variables)

        self._strategy.run(one, (gradient,))


def fit_together(
    strategy: Any,
    group: FitGroup,
    model: Any,
    sample: TrainingRows,
    validation: tuple[NDArray[np.float32], NDArray[np.float32]],
    schedule: Schedule,
    checkpoint: Checkpoint,
    where: str,
) -> list[NDArray[Any]]:
    """Train a model with the other processes of a group.

    Parameters
    ----------
    strategy : tf.distribute.Strategy
        Over the devices of this process.
    group : FitGroup
    model : keras.Model
        Compiled, made in the scope of the strategy.
    sample : TrainingRows
        All training rows, in each process.
    validation : pair of ndarray
        Features and labels.
    schedule : Schedule
        Its batches can be shared out evenly.
    checkpoint : Checkpoint
        The chief's counts.
    where : str
        For the message when it diverges.

    Returns
    -------
    list of ndarray
        The chief's best weights, in each process.

    Raises
    ------
    SpecError
        If it diverges.
    TransientError
        If another process is gone.
    """
    batch, epochs = schedule.batch, schedule.epochs
    steps = steps_in_epoch(len(sample), batch)
    ours = Together(strategy, group, model, batch)
    checkpoint.set_model(model)
    first = _first_epoch(group, checkpoint.progress.epoch, batch, len(sample), where)
    share = group.share(batch)
    rows = stream(tf, sample, batch, schedule.seed, first, epochs, share)
    batches = iter(strategy.experimental_distribute_dataset(rows))
    features, labels = _judged(validation)
    for epoch in range(first, epochs):
        if ours.agree({"finished": checkpoint.finished})["finished"]:
            break
        losses = [ours.step(*next(batches)) for _ in range(steps)]
        loss = float(np.mean(losses))
        if not np.isfinite(loss):
            raise SpecError(
                where, "the fit diverged: its loss is not a number", "lower learning_rate?"
            )
        found = ours.judge(features, labels)
        if group.is_chief:
            checkpoint.on_epoch_end(epoch, {"loss": loss, "val_loss": found})
    return group.told({}, checkpoint.best_weights(model))[1]


def _first_epoch(group: FitGroup, epoch: int, batch: int, rows: int, where: str) -> int:
    """The chief's; all must be about the same."""
    mine = {"batch": batch, "rows": rows}
    told, _ = group.told({"epoch": epoch, **mine}, [])
    if any(told[name] != value for name, value in mine.items()):
        problem = f"process {group.number} has {mine}, the first one {told}"
        raise SpecError(where, problem, "have all of them as many GPUs, and the same galbatch?")
    return int(told["epoch"])


def _judged(
    validation: tuple[NDArray[np.float32], NDArray[np.float32]],
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The validation rows that one process alone would look at."""
    features, labels = validation
    batch = judged_at_once(len(labels), rows_together(features.shape[1]))
    count = len(labels) // batch * batch
    return features[:count], labels[:count]
