"""A trained network on disk, in both of its forms. Imports TensorFlow."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from galbatch.errors import DataError
from galbatch.models.device import without_tf32
from galbatch.models.runtime import KerasNetwork, OnnxNetwork

_TOLERANCE = 1e-4


def export(model: Any, folder: Path, name: str, rows: NDArray[np.float32]) -> None:
    """Write ``name.weights.h5`` and ``name.onnx``, and check that they agree.

    Parameters
    ----------
    model : keras.Model
        Without replicas and dropout.
    folder : Path
    name : str
    rows : ndarray, shape (n, f)
        Real inputs to compare on.

    Raises
    ------
    DataError
        If ONNX does not give what Keras gives.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with without_tf32():
        wanted = KerasNetwork(model)(rows)
    model.save_weights(folder / f"{name}.weights.h5", overwrite=True)
    file = folder / f"{name}.onnx"
    with warnings.catch_warnings():
        # The converter is not ours to clean up; whether it worked is checked below.
        warnings.simplefilter("ignore")
        for noisy in ("tf2onnx", "absl"):
            logging.getLogger(noisy).setLevel(logging.ERROR)
        model.export(file, format="onnx", verbose=False)
    _rename(file)
    given = OnnxNetwork(file)(rows)
    off = float(np.max(np.abs(wanted - given) / (1 + np.abs(wanted)), initial=0.0))
    if not off <= _TOLERANCE:
        raise DataError(
            str(file), f"ONNX and Keras differ by {off:.1e}, expected at most {_TOLERANCE:.0e}"
        )


def _rename(file: Path) -> None:
    """Give everything in a graph a plain name.

    The converter's hold counters of all it has done in this process: the same network would not
    have the same bytes twice.
    """
    model = onnx.load(file)
    graph = model.graph
    names: dict[str, str] = {"": ""}

    def plain(name: str) -> str:
        return names.setdefault(name, f"t{len(names)}")

    for value in (*graph.input, *graph.output):
        value.name = plain(value.name)
        for size in value.type.tensor_type.shape.dim:
            if size.dim_param:
                size.dim_param = "rows"
    for number, node in enumerate(graph.node):
        node.name = f"n{number}"
        node.input[:] = [plain(name) for name in node.input]
        node.output[:] = [plain(name) for name in node.output]
    for array in graph.initializer:
        array.name = plain(array.name)
    del graph.value_info[:]
    graph.doc_string = ""
    onnx.checker.check_model(model)
    onnx.save(model, file)
