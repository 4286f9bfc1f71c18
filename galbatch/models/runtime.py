"""Running a saved network: by ONNX Runtime, or on a GPU without it by TensorFlow."""

from __future__ import annotations

import contextlib
import io
import logging
import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from galbatch.arrays import device_number, namespace, to_numpy, wait_for
from galbatch.errors import SpecError

ROWS = 512
"""Rows that a network on a CPU gets at a time: their activations stay in a core's cache."""
CARD_ROWS = 8192
"""Rows that a network on a GPU gets at a time."""

_CPU, _CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
_NO_MEMORY = ("Failed to allocate memory", "bad_alloc", "bad allocation")
_log = logging.getLogger(__name__)


class Network(Protocol):
    """From features to outputs."""

    def __call__(self, features: Any) -> Any:
        """Outputs (n, ...) of features (n, f), float32 arrays of one namespace."""
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
        self._session = _session(file, [_CPU])
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
        with _memory_errors():
            outputs = self._session.run(None, {self._input: features})
        result: NDArray[np.float32] = outputs[0]
        return result


class OnnxOnCard:
    """A network on the GPU that cupy uses, without TensorFlow and without a copy to the host.

    Parameters
    ----------
    file : Path
        An .onnx file with one input and one output; of the shapes of both only the first number
        is open.
    xp : module
        Cupy.

    Raises
    ------
    NotImplementedError
        If this onnxruntime cannot compute on the card.

    Notes
    -----
    It always computes `CARD_ROWS` rows, as `OnnxNetwork` its own number. ONNX Runtime has a stream
    of its own, which knows nothing of cupy's: each waits for the other.
    """

    def __init__(self, file: Path, xp: Any) -> None:
        import onnxruntime

        if _CUDA not in onnxruntime.get_available_providers():
            raise NotImplementedError(f"onnxruntime {onnxruntime.__version__} is without CUDA")
        # CUDA as pip has installed it. It prints what it does not find: what lacks is seen below.
        with contextlib.redirect_stdout(io.StringIO()):
            onnxruntime.preload_dlls()
        self._device = device_number(xp)
        options = {
            "device_id": str(self._device),
            # Products in TF32 have three digits.
            "use_tf32": "0",
            # Otherwise it takes up to twice of what it needs; the rest is cupy's.
            "arena_extend_strategy": "kSameAsRequested",
        }
        self._session = _session(file, [(_CUDA, options), _CPU])
        if _CUDA not in self._session.get_providers():
            raise NotImplementedError("onnxruntime cannot load its CUDA provider")
        (entry,), (exit_,) = self._session.get_inputs(), self._session.get_outputs()
        self._input, self._output = entry.name, exit_.name
        self._shape = tuple(int(size) for size in exit_.shape[1:])

    def __call__(self, features: Any) -> Any:
        """Outputs (n, ...) of features (n, f), cupy."""
        xp = namespace(features)
        rows = _whole_blocks(xp, features)
        outputs = xp.empty((len(rows), *self._shape), xp.float32)
        wait_for(xp)
        for start in range(0, len(rows), CARD_ROWS):
            part = slice(start, start + CARD_ROWS)
            self._run(rows[part], outputs[part])
        return outputs[: len(features)]

    def _run(self, rows: Any, outputs: Any) -> None:
        binding = self._session.io_binding()
        binding.bind_input(self._input, *self._place(rows))
        binding.bind_output(self._output, *self._place(outputs))
        with _memory_errors():
            self._session.run_with_iobinding(binding)
        binding.synchronize_outputs()

    def _place(self, array: Any) -> tuple[Any, ...]:
        return "cuda", self._device, np.float32, array.shape, array.data.ptr


class KerasNetwork:
    """A network of this process's TensorFlow, on arrays of the host.

    Parameters
    ----------
    model : keras.Model
    """

    def __init__(self, model: Any) -> None:
        self._model = model

    def __call__(self, features: Any) -> NDArray[np.float32]:
        """Outputs (n, ...) of features (n, f)."""
        return np.asarray(self._model(to_numpy(features), training=False), np.float32)


class KerasOnCard:
    """A network of TensorFlow on the GPU that cupy uses, without a copy to the host.

    Parameters
    ----------
    model : keras.Model
        From (n, f) to (n, ...).

    Notes
    -----
    Arrays change hands by DLPack. TensorFlow's own tensors refuse the stream that cupy would name
    to them, and their capsules are handed out when the numbers are there.
    """

    def __init__(self, model: Any) -> None:
        import tensorflow as tf

        # Products in TF32 have three digits.
        tf.config.experimental.enable_tensor_float_32_execution(False)
        self._exchange = tf.experimental.dlpack
        inputs = tf.TensorSpec((CARD_ROWS, model.input_shape[-1]), tf.float32)
        self._compute = tf.function(
            lambda rows: model(rows, training=False), input_signature=[inputs]
        )

    def __call__(self, features: Any) -> Any:
        """Outputs (n, ...) of features (n, f), cupy."""
        xp = namespace(features)
        rows = _whole_blocks(xp, features)
        wait_for(xp)
        parts = [
            self._run(xp, rows[start : start + CARD_ROWS])
            for start in range(0, len(rows), CARD_ROWS)
        ]
        return xp.concatenate(parts)[: len(features)]

    def _run(self, xp: Any, rows: Any) -> Any:
        outputs = self._compute(self._exchange.from_dlpack(rows.__dlpack__()))
        return xp.from_dlpack(self._exchange.to_dlpack(outputs))


class ThroughHost:
    """A network on the CPU, for features on a card.

    Parameters
    ----------
    network : Network
        On arrays of the host.
    """

    def __init__(self, network: Network) -> None:
        self._network = network

    def __call__(self, features: Any) -> Any:
        """Outputs (n, ...) of features (n, f), cupy."""
        return namespace(features).asarray(self._network(features))


def open_network(folder: Path, name: str, build: Callable[[], Any], xp: Any) -> Network:
    """The network ``name`` of a model's folder.

    Parameters
    ----------
    folder : Path
    name : str
        ``name.onnx`` and ``name.weights.h5`` are its files.
    build : callable
        Makes the Keras model that the weights fit into; called only for a GPU that ONNX Runtime
        cannot use.
    xp : module
        Of the features: NumPy or cupy.

    Returns
    -------
    Network
        For cupy the first of these that this process has: ONNX Runtime on the card, TensorFlow on
        the card, ONNX Runtime on the CPU.
    """
    file = folder / f"{name}.onnx"
    if xp is np:
        return OnnxNetwork(file)
    try:
        return OnnxOnCard(file, xp)
    except NotImplementedError as reason:
        _log.info("%s", reason)
    if not tensorflow_has_card():
        _log.warning(
            "neither onnxruntime nor TensorFlow can use this GPU: the network runs on the CPU "
            "(pip install onnxruntime-gpu instead of onnxruntime)"
        )
        return ThroughHost(OnnxNetwork(file))
    model = build()
    model.load_weights(folder / f"{name}.weights.h5")
    return KerasOnCard(model)


class KeptNetworks:
    """The networks of a model's folder, each opened when it is first asked for, and kept.

    Parameters
    ----------
    folder : Path
    build : callable
        Makes the Keras model of a network by its name, once TensorFlow is prepared; see
        `open_network`.
    """

    def __init__(self, folder: Path, build: Callable[[str], Any]) -> None:
        self._folder, self._build = folder, build
        self._kept: dict[tuple[str, str], Network] = {}

    def __call__(self, name: str, xp: Any) -> Network:
        """The network ``name`` for features of a namespace."""
        key = name, xp.__name__
        if key not in self._kept:
            self._kept[key] = open_network(self._folder, name, partial(self._built, name), xp)
        return self._kept[key]

    def _built(self, name: str) -> Any:
        from galbatch.models.device import prepare_tensorflow

        prepare_tensorflow()
        return self._build(name)


def tensorflow_has_card() -> bool:
    """Whether there is a TensorFlow here that can use a GPU."""
    from galbatch.models.device import prepare_tensorflow

    try:
        return bool(prepare_tensorflow().config.list_physical_devices("GPU"))
    except ImportError:
        return False


def _session(file: Path, providers: list[Any]) -> Any:
    # It would keep an id of this machine in the user's home and report to its maker.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    # A worker has one core: the partitions are what runs side by side.
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(str(file), options, providers=providers)
    except Exception as error:  # onnxruntime has no base class for what a bad file raises
        _check_memory(error)
        raise SpecError(str(file), f"cannot be loaded: {error}", "train again") from error


def _whole_blocks(xp: Any, features: Any) -> Any:
    """Features (n, f) as they lie in memory one after the other, with zeros to fill a block."""
    missing = -len(features) % CARD_ROWS or (0 if len(features) else CARD_ROWS)
    if not missing:
        return xp.ascontiguousarray(features)
    filling = xp.zeros((missing, features.shape[1]), xp.float32)
    return xp.concatenate([features, filling])


@contextlib.contextmanager
def _memory_errors() -> Iterator[None]:
    try:
        yield
    except Exception as error:  # the same class for everything
        _check_memory(error)
        raise


def _check_memory(error: Exception) -> None:
    """Python's own error where memory ran out: whoever is above may try with fewer rows."""
    if any(text in str(error) for text in _NO_MEMORY):
        raise MemoryError(f"onnxruntime: {error}") from error
