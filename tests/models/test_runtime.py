from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnxruntime
import pytest

from galbatch.errors import SpecError
from galbatch.models.runtime import ROWS, OnnxNetwork

# As onnxruntime 1.24 to 1.31 word it.
RUN = "[ONNXRuntimeError] : 1 : FAIL : Failed to allocate memory for requested buffer of size 16384"
LOAD = "[ONNXRuntimeError] : 1 : FAIL : Load model from network.onnx failed:std::bad_alloc"


class Session:
    """Sums every row, or fails; notes how many rows it was given."""

    fails = ""

    def __init__(self, *_: object, **__: object) -> None:
        self.given: list[int] = []

    def get_inputs(self) -> list[SimpleNamespace]:
        return [SimpleNamespace(name="features")]

    def run(self, _: None, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
        if self.fails:
            raise RuntimeError(self.fails)
        (rows,) = inputs.values()
        self.given.append(len(rows))
        return [rows.sum(axis=1, keepdims=True)]


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> OnnxNetwork:
    monkeypatch.setattr(onnxruntime, "InferenceSession", Session)
    return OnnxNetwork(Path("network.onnx"))


@pytest.mark.parametrize("n", [0, 1, ROWS - 1, ROWS, ROWS + 1, 3 * ROWS])
def test_always_as_many_rows(network: OnnxNetwork, n: int) -> None:
    rows = np.arange(2 * n, dtype=np.float32).reshape(n, 2)
    np.testing.assert_array_equal(network(rows), rows.sum(axis=1, keepdims=True))
    assert set(network._session.given) == {ROWS}


def test_out_of_memory_is_a_memory_error(
    network: OnnxNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Session, "fails", RUN)
    with pytest.raises(MemoryError, match="onnxruntime"):
        network(np.zeros((1, 2), np.float32))
    monkeypatch.setattr(Session, "fails", "another mishap")
    with pytest.raises(RuntimeError, match="another mishap"):
        network(np.zeros((1, 2), np.float32))


@pytest.mark.parametrize(("words", "error"), [(LOAD, MemoryError), ("no model", SpecError)])
def test_what_loading_raises(
    monkeypatch: pytest.MonkeyPatch, words: str, error: type[Exception]
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError(words)

    monkeypatch.setattr(onnxruntime, "InferenceSession", fail)
    with pytest.raises(error):
        OnnxNetwork(Path("network.onnx"))
