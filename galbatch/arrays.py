"""Which array namespace holds this array: the only file that names cupy."""

from __future__ import annotations

import importlib.util
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray


def namespace(array: Any) -> Any:
    """The module (NumPy or cupy) whose functions work on `array`."""
    if type(array).__module__.partition(".")[0] == "cupy":
        import cupy

        return cupy
    return np


@lru_cache(maxsize=1)
def worker_namespace() -> Any:
    """Cupy where this process has a usable CUDA device, otherwise NumPy."""
    if importlib.util.find_spec("cupy") is not None:
        import cupy

        if cupy.cuda.is_available():
            return cupy
    return np


def special(xp: Any) -> Any:
    """The namespace's special functions: ``scipy.special``, or cupy's own."""
    if xp is np:
        import scipy.special

        return scipy.special
    import cupyx.scipy.special

    return cupyx.scipy.special


def to_numpy(array: Any) -> NDArray[Any]:
    """A host copy of `array` (the array itself when it is NumPy already)."""
    return np.asarray(array.get()) if namespace(array) is not np else np.asarray(array)
