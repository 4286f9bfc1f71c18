"""A stand-in for cupy on a machine without a GPU: stricter than it, and it counts the copies.

Its arrays are in the host's memory, which nobody may know: they refuse to become NumPy arrays
unless asked by `get`, and to be mixed with them, as cupy's do. They refuse some things that cupy
would do by a hidden copy to or from the card (a list or a mask as an index, functions of NumPy on
its arrays). Sums, products and functions of float32 are made in another order or precision than
NumPy's, as a card's are: what agrees here does not live on equal last bits.

Names: those of `NAMES` are in ``dir(cupy)`` of the wheel cupy-cuda12x 14.2.0, those of
``ndarray`` in ``dir(cupy.ndarray)``; any other is an AttributeError. That `interp` takes only
contiguous arrays, that `where` takes an array for its condition and `searchsorted` for its table,
is in the same wheel (cupy/_math/misc.py, cupy/_sorting/search.py).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import scipy.fft
import scipy.special

_NAMES = (
    "abs add any arange arcsinh argmax array asarray ascontiguousarray bool_ broadcast_to clip "
    "concatenate copyto cumsum diff empty empty_like exp expm1 flatnonzero float32 float64 "
    "from_dlpack full get_default_memory_pool hypot inf int32 int64 interp intp isfinite isnan "
    "log log10 log1p maximum minimum moveaxis multiply nan nonzero repeat searchsorted split sqrt "
    "square stack subtract take take_along_axis tanh uint8 where zeros zeros_like cuda ndarray"
)
NAMES = frozenset(_NAMES.split())


@dataclass
class Counts:
    """Copies between the host and the card, and other things that wait for the card."""

    uploads: int = 0
    downloads: int = 0
    waits: int = 0

    def begin(self) -> None:
        self.uploads = self.downloads = self.waits = 0


counts = Counts()
MEMORY = 4 << 30
pool_limits: list[int] = []


class ndarray:
    """An array on the card that is none."""

    __slots__ = ("_held",)
    __array_priority__ = 100
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, held: Any) -> None:
        self._held = np.asarray(held)

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        raise AttributeError("its memory is not on a card")

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise TypeError(
            "Implicit conversion to a NumPy array is not allowed. Please use `.get()` to "
            "construct a NumPy array explicitly."
        )

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **words: Any) -> Any:
        """Scalars of NumPy, to the left of an operator, come here."""
        if method != "__call__" or words or not all(map(_may_take_part, inputs)):
            raise TypeError(f"{ufunc.__name__} of NumPy does not take arrays of the card")
        return _computed(ufunc, inputs)

    def __array_function__(self, function: Any, *_: Any) -> Any:
        raise TypeError(f"{function.__name__} of NumPy does not take arrays of the card")

    shape = property(lambda self: self._held.shape)
    dtype = property(lambda self: self._held.dtype)
    ndim = property(lambda self: self._held.ndim)
    size = property(lambda self: self._held.size)
    nbytes = property(lambda self: self._held.nbytes)
    itemsize = property(lambda self: self._held.itemsize)
    strides = property(lambda self: self._held.strides)
    flags = property(lambda self: self._held.flags)
    T = property(lambda self: ndarray(self._held.T))
    data = property(lambda self: SimpleNamespace(ptr=self._held.ctypes.data))

    def __len__(self) -> int:
        return len(self._held)

    def __iter__(self) -> Iterator[ndarray]:
        return (self[place] for place in range(len(self)))

    def __getitem__(self, index: Any) -> ndarray:
        return ndarray(self._held[_index(index)])

    def __setitem__(self, index: Any, value: Any) -> None:
        with np.errstate(all="ignore"):
            self._held[_index(index)] = _held(value)

    def get(self) -> np.ndarray:
        counts.downloads += 1
        return self._held.copy()

    def item(self) -> Any:
        counts.downloads += 1
        return self._held.item()

    def __bool__(self) -> bool:
        return bool(self.item())

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def astype(self, dtype: Any, copy: bool = True, order: str = "K") -> ndarray:
        with np.errstate(all="ignore"):
            return ndarray(self._held.astype(dtype, order=order, copy=copy))

    def view(self, dtype: Any) -> ndarray:
        return ndarray(self._held.view(dtype))

    def reshape(self, *shape: Any) -> ndarray:
        return ndarray(self._held.reshape(*shape))

    def ravel(self) -> ndarray:
        return ndarray(self._held.ravel())

    def copy(self) -> ndarray:
        return ndarray(self._held.copy())

    def sort(self, axis: int = -1) -> None:
        self._held.sort(axis=axis)

    def sum(self, axis: Any = None, keepdims: bool = False) -> ndarray:
        return _reduced(np.sum, self, axis=axis, keepdims=keepdims)

    def mean(self, axis: Any = None, keepdims: bool = False) -> ndarray:
        return _reduced(np.mean, self, axis=axis, keepdims=keepdims)

    def std(self, axis: Any = None, ddof: int = 0) -> ndarray:
        return _reduced(np.std, self, axis=axis, ddof=ddof)

    def min(self, axis: Any = None, keepdims: bool = False) -> ndarray:
        return ndarray(self._held.min(axis=axis, keepdims=keepdims))

    def max(self, axis: Any = None, keepdims: bool = False) -> ndarray:
        return ndarray(self._held.max(axis=axis, keepdims=keepdims))

    def any(self, axis: Any = None) -> ndarray:
        return ndarray(self._held.any(axis=axis))

    def all(self, axis: Any = None) -> ndarray:
        return ndarray(self._held.all(axis=axis))

    def argmax(self, axis: Any = None) -> ndarray:
        return ndarray(self._held.argmax(axis=axis))

    def __dlpack__(self, *, stream: Any = None, **_: Any) -> Any:
        return self._held.__dlpack__()

    def __matmul__(self, other: Any) -> ndarray:
        return _computed(np.matmul, (self, other))


def _may_take_part(value: Any) -> bool:
    return isinstance(value, ndarray | bool | int | float | np.generic)


def _held(value: Any) -> Any:
    if not _may_take_part(value):
        raise TypeError(f"Unsupported type {type(value)}")
    return value._held if isinstance(value, ndarray) else value


def _index(index: Any) -> Any:
    if isinstance(index, tuple):
        return tuple(_index(part) for part in index)
    if index is None or index is Ellipsis or isinstance(index, int | np.integer | slice):
        return index
    if isinstance(index, ndarray):
        if index.dtype == bool:
            raise TypeError("the card would be waited for, to count a mask: use copyto or where")
        return index._held
    raise TypeError(f"an index of {type(index)} would be copied to the card")


def _reduced(function: Callable[..., Any], array: ndarray, axis: Any, **words: Any) -> ndarray:
    """From the last to the first."""
    with np.errstate(all="ignore"):
        return ndarray(function(np.flip(array._held, axis), axis=axis, **words))


def _computed(function: Any, inputs: tuple[Any, ...], out: ndarray | None = None) -> ndarray:
    """A function of float32, made in double precision and rounded; all others as NumPy has it."""
    arrays = [_held(value) for value in inputs]
    with np.errstate(all="ignore"):
        kind = function(*(_sample(array) for array in arrays)).dtype
        if kind == np.float32:
            arrays = [np.asarray(array, np.float64) for array in arrays]
        result = np.asarray(function(*arrays)).astype(kind, copy=False)
    if out is None:
        return ndarray(result)
    if not isinstance(out, ndarray) or not np.can_cast(kind, out.dtype, "same_kind"):
        raise TypeError(f"{function.__name__}: cannot write {kind} to {out!r}")
    out._held[...] = result
    return out


def _sample(array: Any) -> Any:
    """What tells the type of a result."""
    if isinstance(array, np.ndarray):
        return np.ones((1,) * max(array.ndim, 1), array.dtype)
    return array


class Ufunc:
    """A function of each element."""

    def __init__(self, function: Any) -> None:
        self._function = function

    def __call__(self, *inputs: Any, out: ndarray | None = None) -> ndarray:
        return _computed(self._function, inputs, out)

    def at(self, array: ndarray, index: Any, value: Any) -> None:
        self._function.at(array._held, _index(index), _held(value))


def _operator(name: str, function: Any) -> None:
    def forward(self: ndarray, other: Any) -> ndarray:
        return _computed(function, (self, other))

    def backward(self: ndarray, other: Any) -> ndarray:
        return _computed(function, (other, self))

    def in_place(self: ndarray, other: Any) -> ndarray:
        return _computed(function, (self, other), self)

    setattr(ndarray, f"__{name}__", forward)
    setattr(ndarray, f"__r{name}__", backward)
    setattr(ndarray, f"__i{name}__", in_place)


for _name, _function in {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "truediv": np.true_divide,
    "mod": np.mod, "floordiv": np.floor_divide, "pow": np.power,
    "and": np.bitwise_and, "or": np.bitwise_or, "xor": np.bitwise_xor,
}.items():  # fmt: skip
    _operator(_name, _function)
for _name, _function in {
    "lt": np.less, "le": np.less_equal, "gt": np.greater, "ge": np.greater_equal,
    "eq": np.equal, "ne": np.not_equal,
}.items():  # fmt: skip
    setattr(
        ndarray,
        f"__{_name}__",
        lambda self, other, function=_function: ndarray(function(self._held, _held(other))),
    )
for _name, _function in {"neg": np.negative, "invert": np.invert, "abs": np.abs}.items():
    setattr(ndarray, f"__{_name}__", lambda self, function=_function: ndarray(function(self._held)))


def _aligned(array: np.ndarray) -> ndarray:
    """A copy that begins where cupy's pool lets arrays begin: at a multiple of 512 bytes."""
    array = np.ascontiguousarray(array)
    memory = np.empty(array.nbytes + 512, np.uint8)
    start = -memory.ctypes.data % 512
    held = memory[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    held[...] = array
    return ndarray(held)


def asarray(value: Any, dtype: Any = None) -> ndarray:
    if isinstance(value, ndarray):
        return value if dtype is None else value.astype(dtype, copy=False)
    counts.uploads += 1
    return _aligned(np.asarray(value, dtype))


def ascontiguousarray(array: ndarray) -> ndarray:
    return array if array.flags.c_contiguous else _aligned(_array(array))


def _array(value: Any) -> np.ndarray:
    if not isinstance(value, ndarray):
        raise TypeError(f"Unsupported type {type(value)}")
    return value._held


def _made(function: Any) -> Callable[..., ndarray]:
    def call(*arguments: Any, **words: Any) -> ndarray:
        if any(isinstance(value, np.ndarray) for value in (*arguments, *words.values())):
            raise TypeError("Unsupported type <class 'numpy.ndarray'>")
        return ndarray(function(*arguments, **words))

    return call


def _of_array(function: Any) -> Callable[..., ndarray]:
    def call(array: ndarray, *arguments: Any, **words: Any) -> ndarray:
        return ndarray(function(_array(array), *arguments, **words))

    return call


def _joined(function: Any) -> Callable[..., ndarray]:
    def call(arrays: Any, axis: int = 0) -> ndarray:
        return _aligned(function([_array(array) for array in arrays], axis=axis))

    return call


def where(condition: ndarray, x: Any, y: Any) -> ndarray:
    return ndarray(np.where(_array(condition), _held(x), _held(y)))


def copyto(array: ndarray, value: float, where: ndarray) -> None:
    np.copyto(array._held, value, where=_array(where))


def clip(array: ndarray, low: Any, high: Any) -> ndarray:
    ends = [end if end is None else _held(end) for end in (low, high)]
    return ndarray(np.clip(_array(array), *ends))


def cumsum(array: ndarray, axis: int | None = None, out: ndarray | None = None) -> ndarray:
    result = np.cumsum(_array(array), axis=axis, dtype=np.float64).astype(array.dtype)
    if out is None:
        return ndarray(result)
    out._held[...] = result
    return out


def interp(x: ndarray, table: ndarray, values: ndarray) -> ndarray:
    if not x.flags.c_contiguous:
        raise NotImplementedError("Non-C-contiguous x is currently not supported")
    return ndarray(np.interp(_array(x), _array(table), _array(values)))


def searchsorted(table: ndarray, values: ndarray, side: str = "left") -> ndarray:
    return ndarray(np.searchsorted(_array(table), _array(values), side=side))


def take(array: ndarray, index: ndarray, axis: int | None = None) -> ndarray:
    return ndarray(np.take(_array(array), _array(index), axis=axis))


def take_along_axis(array: ndarray, index: ndarray, axis: int) -> ndarray:
    return ndarray(np.take_along_axis(_array(array), _array(index), axis=axis))


def split(array: ndarray, sections: int, axis: int = 0) -> list[ndarray]:
    return [ndarray(part) for part in np.split(_array(array), sections, axis=axis)]


def nonzero(array: ndarray) -> tuple[ndarray, ...]:
    counts.waits += 1
    return tuple(ndarray(places) for places in np.nonzero(_array(array)))


def flatnonzero(array: ndarray) -> ndarray:
    counts.waits += 1
    return ndarray(np.flatnonzero(_array(array)))


def from_dlpack(capsule: Any) -> ndarray:
    """Of a capsule, or of what makes one for the stream that it is told."""
    if hasattr(capsule, "__dlpack__"):
        capsule = capsule.__dlpack__(stream=1)
    held = SimpleNamespace(__dlpack__=lambda **_: capsule, __dlpack_device__=lambda: (1, 0))
    return ndarray(np.from_dlpack(held))


def get_default_memory_pool() -> Any:
    return SimpleNamespace(set_limit=lambda size: pool_limits.append(size))


def _wait() -> None:
    counts.waits += 1


cuda = SimpleNamespace(
    is_available=lambda: True,
    get_current_stream=lambda: SimpleNamespace(synchronize=_wait),
    runtime=SimpleNamespace(
        getDevice=lambda: 0,
        getDeviceProperties=lambda device: {"name": b"Strict Stand-in"},
        memGetInfo=lambda: (MEMORY, 2 * MEMORY),
    ),
)

_UFUNCS = (
    "abs add arcsinh exp expm1 hypot isfinite isnan log log10 log1p maximum minimum multiply sqrt "
    "square subtract tanh"
)
_ALIKE: dict[str, Any] = {
    **{name: Ufunc(getattr(np, name)) for name in _UFUNCS.split()},
    **{name: _made(getattr(np, name)) for name in ("arange", "empty", "full", "zeros")},
    **{
        name: _of_array(getattr(np, name))
        for name in ("any", "argmax", "broadcast_to", "diff", "empty_like", "moveaxis", "repeat",
                     "zeros_like")
    },
    **{name: _joined(getattr(np, name)) for name in ("concatenate", "stack")},
    **{
        name: getattr(np, name)
        for name in ("bool_", "float32", "float64", "inf", "int32", "int64", "intp", "nan", "uint8")
    },
    "array": asarray,
}  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in NAMES or name not in _ALIKE:
        raise AttributeError(f"the stand-in for cupy has no '{name}': is it in cupy?")
    return _ALIKE[name]


_special = ModuleType("strict_cupyx.scipy.special")
_special.ndtr = Ufunc(scipy.special.ndtr)  # type: ignore[attr-defined]
_special.ndtri = Ufunc(scipy.special.ndtri)  # type: ignore[attr-defined]
sys.modules["strict_cupyx.scipy.special"] = _special

_fft = ModuleType("strict_cupyx.scipy.fft")
_fft.rfft = _of_array(scipy.fft.rfft)  # type: ignore[attr-defined]
_fft.irfft = _of_array(scipy.fft.irfft)  # type: ignore[attr-defined]
sys.modules["strict_cupyx.scipy.fft"] = _fft
