"""ONNX Runtime with a CUDA provider, for the card of `strict_cupy`: its memory is the host's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import onnxruntime
import pytest
import strict_cupy

from galbatch.arrays import computing_with

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
_Session = onnxruntime.InferenceSession


class _Binding:
    """Refuses memory of the host, and takes that of the card for what it is."""

    def __init__(self, session: _Session) -> None:
        self.real = session.io_binding()
        self.synchronize_outputs = self.real.synchronize_outputs

    def bind_input(self, name: str, device: str, number: int, *of: Any) -> None:
        assert (device, number) == ("cuda", 0)
        self.real.bind_input(name, "cpu", 0, *of)

    def bind_output(self, name: str, device: str, number: int, *of: Any) -> None:
        assert (device, number) == ("cuda", 0)
        self.real.bind_output(name, "cpu", 0, *of)


class CudaSession:
    """A session that says it is on the card."""

    opened: list[dict[str, str]]
    active = True

    def __init__(self, file: str, options: Any, words: dict[str, str]) -> None:
        self._real = _Session(file, options, providers=[CPU])
        self.opened.append(words)
        self.get_inputs, self.get_outputs = self._real.get_inputs, self._real.get_outputs

    def get_providers(self) -> list[str]:
        return [CUDA, CPU] if self.active else [CPU]

    def io_binding(self) -> _Binding:
        return _Binding(self._real)

    def run_with_iobinding(self, binding: _Binding) -> None:
        self._real.run_with_iobinding(binding.real)


def _open(file: str, options: Any, providers: list[Any]) -> Any:
    if providers == [CPU]:
        return _Session(file, options, providers=providers)
    (name, words), then = providers
    assert (name, then) == (CUDA, CPU)
    return CudaSession(file, options, words)


@contextmanager
def onnxruntime_with_cuda() -> Iterator[type[CudaSession]]:
    """Meanwhile onnxruntime has a CUDA provider."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(onnxruntime, "InferenceSession", _open)
        patched.setattr(onnxruntime, "get_available_providers", lambda: [CUDA, CPU])
        patched.setattr(CudaSession, "opened", [], raising=False)
        yield CudaSession


@contextmanager
def on_card() -> Iterator[None]:
    """Meanwhile this process has a GPU, which onnxruntime can use."""
    with onnxruntime_with_cuda(), computing_with(strict_cupy):
        yield
