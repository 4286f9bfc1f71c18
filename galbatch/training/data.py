"""Labelled rows as a tf.data stream."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

_MOST = 8192
_NUMBERS = 2**23
"""Of features that are looked at together: 32 MiB, and a network's layers as often as it has."""

Mine = NDArray[np.bool_] | None
"""Which of some rows are this process' to make; None for all."""
RowMaker = Callable[[NDArray[np.intp], np.random.Generator, Mine], NDArray[np.float32]]


@dataclass(frozen=True)
class TrainingRows:
    """Rows to learn from.

    Parameters
    ----------
    inputs : callable
        Features (rows, f) of some rows, given a random generator for their noise, and which of
        them are wanted: the noise of a row does not depend on it.
    labels : ndarray, shape (n, m), float32
        NaN where unknown.
    """

    inputs: RowMaker
    labels: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.labels)


def fixed(matrix: NDArray[np.float32]) -> RowMaker:
    """Features that are computed once.

    Parameters
    ----------
    matrix : ndarray, shape (n, f)

    Returns
    -------
    callable
    """
    return lambda rows, _generator, mine: matrix[rows if mine is None else rows[mine]]


def stream(
    tf: Any,
    sample: TrainingRows,
    batch: int,
    seed: int,
    first: int,
    epochs: int,
    share: slice | None = None,
) -> Any:
    """All epochs' batches, one after the other.

    Parameters
    ----------
    tf : module
        TensorFlow.
    sample : TrainingRows
    batch : int
        Rows in each, at most as many as there are (see `even`). What is left over at the end of an
        epoch may be in the next, which has another order.
    seed : int
    first : int
        Epoch to begin at.
    epochs : int
        Epoch to end before.
    share : slice, optional
        The rows of each batch that are this process' to learn from; all by default.

    Returns
    -------
    tf.data.Dataset
        Of (features, labels). An epoch's order and noise depend on the seed and its number only:
        a fit that is resumed sees what it would have seen.
    """
    steps = steps_in_epoch(len(sample), batch)
    # Python is asked for many batches at once: its call costs as much as a small network's step.
    one = sample.inputs(np.arange(1), np.random.default_rng(0), None)
    many = max(rows_together(one.shape[1]) // batch, 1)
    mine = np.zeros(batch, bool)
    mine[share or slice(None)] = True
    size = int(mine.sum())

    def batches() -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32]]]:
        for epoch in range(first, epochs):
            generator = np.random.default_rng([seed, epoch])
            order = generator.permutation(len(sample))
            for start in range(0, steps * batch, many * batch):
                rows = order[start : min(start + many * batch, steps * batch)]
                cut = (len(rows) // batch, size)
                wanted = np.tile(mine, cut[0]) if share else None
                inputs = sample.inputs(rows, generator, wanted)
                answers = sample.labels[rows if wanted is None else rows[wanted]]
                yield inputs.reshape(*cut, -1), answers.reshape(*cut, -1)

    signature = (
        tf.TensorSpec((None, size, one.shape[1]), tf.float32),
        tf.TensorSpec((None, size, sample.labels.shape[1]), tf.float32),
    )
    dataset = tf.data.Dataset.from_generator(batches, output_signature=signature)
    return _unsharded(
        tf, dataset.flat_map(lambda *chunk: tf.data.Dataset.from_tensor_slices(chunk))
    )


def steps_in_epoch(rows: int, batch: int) -> int:
    """Whole batches in an epoch, at least one."""
    return max(rows // batch, 1)


def even(rows: int, at_most: int, replicas: int) -> int:
    """A size for batches, of which each replica gets the same share.

    Parameters
    ----------
    rows : int
        To be cut into batches.
    at_most : int
        Rows in a batch.
    replicas : int

    Returns
    -------
    int
    """
    return max(min(at_most, rows) // replicas, 1) * replicas


def rows_together(width: int) -> int:
    """Rows of so many features that are made or judged together."""
    return max(min(_MOST, _NUMBERS // width), 1)


def once(
    tf: Any,
    features: NDArray[np.float32],
    labels: NDArray[np.float32],
    at_most: int,
    replicas: int,
) -> Any:
    """Rows in their order, for validation.

    Parameters
    ----------
    tf : module
    features, labels : ndarray, shape (n, ...)
    at_most : int
        Rows in a batch.
    replicas : int
        A few last rows are left out, so that all replicas get equally many: a smaller share would
        weigh as much as a full one, and an empty one has no mean.

    Returns
    -------
    tf.data.Dataset
    """
    batch = even(judged_at_once(len(labels), at_most), at_most, replicas)
    rows = tf.data.Dataset.from_tensor_slices((features, labels)).batch(batch, drop_remainder=True)
    return _unsharded(tf, rows, ahead=False)


def judged_at_once(rows: int, at_most: int) -> int:
    """Rows of the batches of `once`: so many of them as are needed, of equal size."""
    return rows // -(-rows // at_most)


def _unsharded(tf: Any, dataset: Any, ahead: bool = True) -> Any:
    """One process feeds all replicas: batches are split over them, files are not."""
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    options.deterministic = True
    dataset = dataset.with_options(options)
    return dataset.prefetch(2) if ahead else dataset
