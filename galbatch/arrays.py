"""Which device computes, and its arrays: the only file that names cupy."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

# Of the card's free memory, what cupy may take; the rest is the network's.
_SHARE = 0.6
# Arrays as large as a row's largest that are there at the same time.
_COPIES = 16
_FEWEST, _MOST = 1024, 65_536

_installed: list[Any] = []


def namespace(array: Any) -> Any:
    """The module (NumPy or cupy) whose functions work on `array`."""
    kind = type(array)
    if hasattr(kind, "__cuda_array_interface__"):
        return sys.modules[kind.__module__.partition(".")[0]]
    return np


def worker_namespace() -> Any:
    """Cupy where this process has a usable CUDA device, otherwise NumPy.

    Or what `computing_with` says.
    """
    return _installed[-1] if _installed else _found()


@contextmanager
def computing_with(xp: Any) -> Iterator[None]:
    """Let this process predict with another namespace than that of its device.

    Parameters
    ----------
    xp : module
        NumPy, also where there is a GPU; or one that has what cupy has.
    """
    _installed.append(xp)
    try:
        yield
    finally:
        _installed.pop()


@lru_cache(maxsize=1)
def _found() -> Any:
    if importlib.util.find_spec("cupy") is None:
        return np
    # Products in TF32 have three digits.
    os.environ["CUPY_TF32"] = "0"
    import cupy

    return cupy if cupy.cuda.is_available() else np


def special(xp: Any) -> Any:
    """The namespace's special functions: ``scipy.special``, or cupy's own."""
    if xp is np:
        import scipy.special

        return scipy.special
    return importlib.import_module(f"{xp.__name__}x.scipy.special")


def fft(xp: Any) -> Any:
    """The namespace's transforms, which keep single precision: ``scipy.fft``, or cupy's own."""
    if xp is np:
        import scipy.fft

        return scipy.fft
    return importlib.import_module(f"{xp.__name__}x.scipy.fft")


def to_numpy(array: Any) -> NDArray[Any]:
    """A host copy of `array` (the array itself when it is NumPy already)."""
    return np.asarray(array.get()) if namespace(array) is not np else np.asarray(array)


def upload(xp: Any, *arrays: NDArray[Any] | None) -> tuple[Any, ...]:
    """Arrays of the host as arrays of a namespace, in a single copy to the device.

    Parameters
    ----------
    xp : module
    *arrays : ndarray or None
        None stays None. With NumPy all are returned as they are.

    Returns
    -------
    tuple of array or None
        Same order, shapes and types; on a card parts of one block of memory.
    """
    if xp is np:
        return arrays
    found: list[Any] = [None] * len(arrays)
    given = {place: array for place, array in enumerate(arrays) if array is not None}
    order = sorted(given, key=lambda place: -given[place].itemsize)
    if not order:
        return tuple(found)
    whole = xp.asarray(np.concatenate([_bytes(np, given[place]) for place in order]))
    start = 0
    for place in order:
        array = given[place]
        part = whole[start : start + array.nbytes].view(array.dtype)
        found[place] = part.reshape(array.shape)
        start += array.nbytes
    return tuple(found)


def download(arrays: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    """Arrays of one namespace as NumPy arrays, in a single copy from the device.

    Parameters
    ----------
    arrays : mapping of str to array

    Returns
    -------
    dict of str to ndarray
        Same names, shapes and types; NumPy arrays are returned as they are.
    """
    xp = next((namespace(array) for array in arrays.values()), np)
    if xp is np:
        return dict(arrays)
    # The widest first, so that each begins where its type may begin.
    order = sorted(arrays, key=lambda name: -arrays[name].dtype.itemsize)
    whole = xp.concatenate([_bytes(xp, arrays[name]) for name in order]).get()
    found, start = {}, 0
    for name in order:
        array = arrays[name]
        part = whole[start : start + array.nbytes].view(array.dtype)
        found[name] = part.reshape(array.shape)
        start += array.nbytes
    return {name: found[name] for name in arrays}


def _bytes(xp: Any, array: Any) -> Any:
    return xp.ascontiguousarray(array).reshape(-1).view(xp.uint8)


def constant(xp: Any, values: ArrayLike, dtype: DTypeLike) -> Any:
    """Numbers that are the same for many batches, copied to a device once.

    Parameters
    ----------
    xp : module
    values : array-like
        Of the host.
    dtype : dtype

    Returns
    -------
    array
        Not to be written to.
    """
    host = np.asarray(values, dtype)
    if xp is np:
        return host
    return _constant(xp, device_number(xp), host.tobytes(), host.dtype.str, host.shape)


@lru_cache(maxsize=1024)
def _constant(xp: Any, device: int, content: bytes, dtype: str, shape: tuple[int, ...]) -> Any:
    return xp.asarray(np.frombuffer(content, dtype).reshape(shape))


def parts(xp: Any, rows: int, size: int) -> Iterator[slice]:
    """The rows that are worked on at once: so many that fill a core's cache, or all on a card."""
    step = size if xp is np else max(rows, 1)
    for start in range(0, rows, step):
        yield slice(start, start + step)


def device_kind(xp: Any) -> str:
    """What computes: ``cpu``, or e.g. ``cuda: NVIDIA H100 80GB HBM3``."""
    if xp is np:
        return "cpu"
    name = xp.cuda.runtime.getDeviceProperties(device_number(xp))["name"]
    return f"cuda: {name.decode() if isinstance(name, bytes) else name}"


def device_number(xp: Any) -> int:
    """Which of the process' GPUs is in use."""
    return int(xp.cuda.runtime.getDevice())


def wait_for(xp: Any) -> None:
    """Return when the card has done all that it was told: what others' streams may rely on."""
    xp.cuda.get_current_stream().synchronize()


def rows_at_once(xp: Any, row_bytes: int, on_cpu: int) -> int:
    """Rows of a batch that suits the device.

    Parameters
    ----------
    xp : module
    row_bytes : int
        Of what the network says of a row, and of the largest column.
    on_cpu : int
        Rows where NumPy computes.

    Returns
    -------
    int
        On a card a power of two, from 1,024 to 65,536: the same on every card that has the room.
    """
    if xp is np:
        return on_cpu
    fit = max(_memory(xp, device_number(xp)) // (_COPIES * row_bytes), 1)
    return int(min(max(1 << (fit.bit_length() - 1), _FEWEST), _MOST))


@lru_cache(maxsize=16)
def _memory(xp: Any, device: int) -> int:
    """Bytes of a card that cupy may take in this process: its pool takes no more from then on."""
    free, _ = xp.cuda.runtime.memGetInfo()
    limit = int(free * _SHARE)
    xp.get_default_memory_pool().set_limit(size=limit)
    return limit
