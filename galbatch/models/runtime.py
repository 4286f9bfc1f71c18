"""Running a saved network: ONNX on a CPU, Keras on a GPU."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from galbatch.arrays import to_numpy, worker_namespace
from galbatch.errors import SpecError

ROWS = 512
"""Rows that a network on a CPU gets at a time: their activations stay in a core's cache."""

_NO_MEMORY = ("Failed to allocate memory", "bad_alloc", "bad allocation")


class Network(Protocol):
    """From features to outputs."""

    def __call__(self, features: Any) -> NDArray[np.float32]:
        """Outputs (n, ...) of features (n, f), NumPy or cupy."""
        ...


class OnnxNetwork:
    """A network on one CPU thread, without TensorFlow.

    Parameters
    ----------
    file : Path
        An .onnx file with one input and one output.

    Notes
    -----
    It always computes `ROWS` rows, the last of them zeros if need be: which kernels a matrix
    product is made of, and so its last bits, depend on its size.
    """

    def __init__(self, file: Path) -> None:
        # It would keep an id of this machine in the user's home and report to its maker.
        os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
        import onnxruntime

        options = onnxruntime.SessionOptions()
        # A worker has one core: the partitions are what runs side by side.
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(
                str(file), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime has no base class for what a bad file raises
            _check_memory(error)
            raise SpecError(str(file), f"cannot be loaded: {error}", "train again") from error
        self._input = self._session.get_inputs()[0].name

    def __call__(self, features: Any) -> NDArray[np.float32]:
        """Outputs (n, ...) of features (n, f)."""
        rows = to_numpy(features)
        if not len(rows):
            return self._run(np.zeros((ROWS, rows.shape[1]), np.float32))[:0]
        parts = []
        for start in range(0, len(rows), ROWS):
            part = rows[start : start + ROWS]
            missing = ROWS - len(part)
            if missing:
                part = np.concatenate([part, np.zeros((missing, rows.shape[1]), np.float32)])
            parts.append(self._run(part)[: ROWS - missing])
        return np.concatenate(parts)

    def _run(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        try:
            outputs = self._session.run(None, {self._input: features})
        except Exception as error:  # the same class for everything
            _check_memory(error)
            raise
        result: NDArray[np.float32] = outputs[0]
        return result


class KerasNetwork:
    """A network on the GPU.

    Parameters
    ----------
    model : keras.Model
    """

    def __init__(self, model: Any) -> None:
        self._model = model

    def __call__(self, features: Any) -> NDArray[np.float32]:
        """Outputs (n, ...) of features (n, f)."""
        return np.asarray(self._model(to_numpy(features), training=False), np.float32)


def open_network(folder: Path, name: str, build: Callable[[], Any]) -> Network:
    """The network ``name`` of a model's folder, on the device that this process has.

    Parameters
    ----------
    folder : Path
    name : str
        ``name.onnx`` and ``name.weights.h5`` are its files.
    build : callable
        Makes the Keras model that the weights fit into; called on a GPU only.

    Returns
    -------
    Network
    """
    if worker_namespace() is np:
        return OnnxNetwork(folder / f"{name}.onnx")
    model = build()
    model.load_weights(folder / f"{name}.weights.h5")
    return KerasNetwork(model)


def _check_memory(error: Exception) -> None:
    """Python's own error where memory ran out: whoever is above may try with fewer rows."""
    if any(text in str(error) for text in _NO_MEMORY):
        raise MemoryError(f"onnxruntime: {error}") from error
