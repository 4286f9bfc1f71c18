"""Arrays of the host and of a card: told apart, and copied as seldom as can be."""

from __future__ import annotations

from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import strict_cupy
from strict_cupy import counts

from galbatch.arrays import (
    computing_with,
    constant,
    device_kind,
    download,
    namespace,
    parts,
    rows_at_once,
    special,
    to_numpy,
    upload,
    worker_namespace,
)

NUMBERS = np.arange(6, dtype=np.float32).reshape(3, 2)
OURS = strict_cupy.asarray(NUMBERS)


def test_namespaces_are_told_apart() -> None:
    assert namespace(NUMBERS) is np and namespace(np.float32(1)) is np and namespace([1]) is np
    assert namespace(OURS) is strict_cupy
    with computing_with(strict_cupy):
        assert worker_namespace() is strict_cupy
        with computing_with(np):
            assert worker_namespace() is np
    assert worker_namespace() is not strict_cupy
    np.testing.assert_array_equal(to_numpy(OURS), NUMBERS)


@pytest.mark.parametrize(
    "mixed",
    [
        lambda: np.asarray(OURS),
        lambda: OURS + NUMBERS,
        lambda: NUMBERS + OURS,
        lambda: np.exp(OURS, out=np.empty((3, 2), np.float32)),
        lambda: np.concatenate([OURS, OURS]),
        lambda: strict_cupy.concatenate([OURS, NUMBERS]),
        lambda: strict_cupy.where(OURS > 1, NUMBERS, 0),
        lambda: strict_cupy.maximum(OURS, NUMBERS),
        lambda: OURS[np.array([0, 1])],
        lambda: OURS[[0, 1]],
        lambda: OURS.__setitem__(0, NUMBERS[0]),
        lambda: OURS.__iadd__(NUMBERS),
        lambda: OURS.__imul__(strict_cupy.asarray(NUMBERS.astype(complex))),
        lambda: OURS @ NUMBERS.T,
    ],
)
def test_the_stand_in_refuses_to_be_mixed(mixed: Any) -> None:
    with pytest.raises(TypeError):
        mixed()


def test_the_stand_in_has_nothing_that_cupy_lacks() -> None:
    public = {name for name in vars(strict_cupy) if not name.startswith("_")}
    helpers = {"Any", "Callable", "Counts", "Iterator", "MEMORY", "ModuleType", "NAMES"}
    helpers |= {"SimpleNamespace", "Ufunc", "annotations", "counts", "dataclass", "np"}
    assert public - helpers - {"pool_limits", "scipy", "sys"} <= strict_cupy.NAMES
    with pytest.raises(AttributeError, match="errstate"):
        strict_cupy.errstate  # noqa: B018
    assert all(hasattr(strict_cupy, name) for name in strict_cupy.NAMES)


def test_scalars_take_part_on_both_sides() -> None:
    half = np.float32(0.5)
    for found in (half * OURS, OURS * half, OURS * 0.5):
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found.get(), NUMBERS * half)


def test_several_arrays_are_copied_at_once() -> None:
    given = (
        np.array([True, False, True]), None, np.arange(4.0).reshape(2, 2)[:, ::-1],
        np.zeros((0, 3)), np.arange(3, dtype=np.int32), np.empty((2, 0), np.float32),
    )  # fmt: skip
    counts.begin()
    there = upload(strict_cupy, *given)
    assert (counts.uploads, counts.downloads) == (1, 0) and there[1] is None
    named = {str(place): array for place, array in enumerate(there) if array is not None}
    back = download(named)
    assert (counts.uploads, counts.downloads) == (1, 1) and list(back) == list(named)
    for name, array in back.items():
        wanted = given[int(name)]
        assert wanted is not None and array.dtype == wanted.dtype
        np.testing.assert_array_equal(array, wanted)
    assert upload(strict_cupy, None) == (None,) and download({}) == {}


def test_numpy_is_not_copied() -> None:
    assert upload(np, NUMBERS, None)[0] is NUMBERS
    assert download({"a": NUMBERS})["a"] is NUMBERS


def test_constants_are_copied_once() -> None:
    counts.begin()
    first = constant(strict_cupy, (1.5, 2.5, np.nan), np.float32)
    assert constant(strict_cupy, [1.5, 2.5, np.nan], np.float32) is first
    assert constant(strict_cupy, (1.5, 2.5, np.nan), np.float64) is not first
    assert counts.uploads == 2
    np.testing.assert_array_equal(first.get(), np.float32([1.5, 2.5, np.nan]))


def test_a_card_works_on_all_rows_at_once() -> None:
    assert list(parts(np, 5, 2)) == [slice(0, 2), slice(2, 4), slice(4, 6)]
    assert list(parts(strict_cupy, 5, 2)) == [slice(0, 5)]
    assert list(parts(strict_cupy, 0, 2)) == list(parts(np, 0, 2)) == []


@pytest.mark.parametrize(("free", "rows"), [(80 << 30, 65_536), (2 << 30, 8192), (1 << 20, 1024)])
def test_batches_have_the_size_of_the_card(free: int, rows: int) -> None:
    limits: list[int] = []
    card: Any = ModuleType("card")
    card.cuda = SimpleNamespace(
        runtime=SimpleNamespace(getDevice=lambda: 0, memGetInfo=lambda: (free, 2 * free))
    )
    card.get_default_memory_pool = lambda: SimpleNamespace(
        set_limit=lambda size: limits.append(size)
    )
    assert rows_at_once(card, 8192, 4096) == rows
    assert rows_at_once(card, 8192, 4096) == rows
    assert limits == [int(0.6 * free)]
    assert rows_at_once(np, 8192, 4096) == 4096


def test_devices_have_names() -> None:
    assert device_kind(np) == "cpu"
    assert device_kind(strict_cupy) == "cuda: Strict Stand-in"


def test_special_functions_are_the_namespaces_own() -> None:
    assert special(np).ndtr(0.0) == 0.5
    assert special(strict_cupy).ndtr(OURS).get()[0, 0] == 0.5
