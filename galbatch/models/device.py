"""How TensorFlow uses the machine. Imports TensorFlow only when called."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any

from galbatch.errors import SpecError


def share_machine(number: int, count: int) -> None:
    """Leave the other processes of a fit their cores and GPUs.

    Parameters
    ----------
    number : int
        Of this process, from 0.
    count : int
        Processes on this machine.

    Raises
    ------
    SpecError
        If there are GPUs, but not one for each process.
    """
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, cores[number::count] or cores)
    gpus = (tf := prepare_tensorflow()).config.list_physical_devices("GPU")
    if gpus and len(gpus) % count:
        problem = f"{count} processes cannot share {len(gpus)} GPUs evenly"
        raise SpecError("training.processes", problem, "one process uses all GPUs of a machine")
    tf.config.set_visible_devices(gpus[number::count], "GPU")


def cores() -> int:
    """That this process may use."""
    found = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return found or 1


def prepare_tensorflow() -> Any:
    """TensorFlow, with all cores of this process and no more GPU memory than it needs.

    Returns
    -------
    module
        ``tensorflow``. Where it runs already, its settings stay as they are.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    # galbatch's layers are TensorFlow's: another Keras backend in the user's settings is not meant.
    os.environ["KERAS_BACKEND"] = "tensorflow"
    import tensorflow as tf

    # RuntimeError: TensorFlow has started and these can no longer be changed.
    with contextlib.suppress(RuntimeError):
        # Dask sets OMP_NUM_THREADS to 1 for its workers, which TensorFlow would follow.
        tf.config.threading.set_intra_op_parallelism_threads(cores())
        tf.config.threading.set_inter_op_parallelism_threads(2)
        for gpu in tf.config.list_physical_devices("GPU"):
            # cupy lives on the same device.
            tf.config.experimental.set_memory_growth(gpu, True)
    return tf


@contextlib.contextmanager
def without_tf32() -> Iterator[None]:
    """Let TensorFlow multiply in float32 meanwhile: TF32, its choice on a GPU, has three digits."""
    import tensorflow as tf

    config = tf.config.experimental
    before = config.tensor_float_32_execution_enabled()
    config.enable_tensor_float_32_execution(False)
    try:
        yield
    finally:
        config.enable_tensor_float_32_execution(before)
