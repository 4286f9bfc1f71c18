"""NumPy: structured arrays and archives, and what is refused."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from galbatch.errors import DataError, GalbatchError, SpecError
from galbatch.readers.numpy_files import NumpyReader


def read(path: str, types: dict[str, pa.DataType]) -> pa.Table:
    batches = NumpyReader().batches(path, types, 2)
    table = pa.concat_tables([batch.table for batch in batches])
    assert batches.records == table.num_rows
    return table


def savez(folder: Path, **arrays: np.ndarray) -> str:
    path = str(folder / "a.npz")
    np.savez(path, **arrays)
    return path


def test_columns_of_another_length(tmp_path: Path) -> None:
    path = savez(
        tmp_path, id=np.arange(3), mag=np.zeros(3), grid=np.zeros(2), note=np.array("mine")
    )
    header = NumpyReader().header(path)
    assert header.names == ("id", "mag", "grid")
    assert [(axis.name, len(axis.values)) for axis in header.axes] == [("grid", 2)]
    assert read(path, dict.fromkeys(header.names, pa.null())).column_names == ["id", "mag"]


def test_objects_are_refused(tmp_path: Path) -> None:
    path = savez(tmp_path, id=np.arange(2), names=np.array(["a", None], object))
    assert read(path, {"id": pa.int64(), "names": pa.null()}).column_names == ["id"]
    with pytest.raises(SpecError, match="column 'names': its values are Python objects, which"):
        read(path, {"names": pa.string()})
    rows = np.array([(1, "a")], [("id", "i8"), ("name", object)])
    np.save(tmp_path / "a.npy", rows, allow_pickle=True)
    with pytest.raises(SpecError, match="column 'name': its values are Python objects, which"):
        NumpyReader().header(str(tmp_path / "a.npy"))


def test_every_kind_of_column(tmp_path: Path) -> None:
    every = {
        "big": np.array([2**64 - 1, 0], ">u8"), "flag": np.array([True, False]),
        "half": np.array([1.5, 2], np.float16), "text": np.array(["a", "caf\u00e9"]),
        "bytes": np.array([b"a", b"caf\xe9"]), "pairs": np.zeros((2, 2), "<i2"),
    }  # fmt: skip
    odd = {
        "c": np.zeros(2, complex), "texts": np.array([["a", "b"]] * 2),
        "when": np.zeros(2, "M8[s]"), "empty": np.zeros((2, 0)),
    }  # fmt: skip
    layout = [(name, one.dtype, one.shape[1:]) for name, one in (every | odd).items()]
    rows = np.zeros(2, layout)
    for name, one in (every | odd).items():
        rows[name] = one
    np.save(tmp_path / "a.npy", rows)
    for path in (savez(tmp_path, **every, **odd), str(tmp_path / "a.npy")):
        header = NumpyReader().header(path)
        table = read(path, dict.fromkeys(header.names, pa.null()))
        said = {one.name: one.type for one in header.columns if one.type is not None}
        assert said == {field.name: field.type for field in table.schema}
        assert set(said) == set(every)
        assert table["big"].to_pylist() == [2**64 - 1, 0]
        assert table["text"].to_pylist() == table["bytes"].to_pylist() == ["a", "caf\u00e9"]
        for name in odd:
            with pytest.raises(SpecError, match=f"column '{name}': it"):
                read(path, {name: pa.float64()})


def test_columns_first(tmp_path: Path) -> None:
    path = savez(tmp_path, id=np.arange(3), pairs=np.asfortranarray(np.zeros((3, 2))))
    with pytest.raises(SpecError, match=r"column 'pairs': .* save np\.ascontiguousarray"):
        read(path, {"pairs": pa.list_(pa.float64(), 2)})
    assert read(path, {"id": pa.int64()}).num_rows == 3


@pytest.mark.parametrize("values", [np.zeros(3), np.zeros((3, 2)), np.zeros((), "i4,f8")])
def test_an_array_without_names(tmp_path: Path, values: np.ndarray) -> None:
    np.save(tmp_path / "a.npy", values)
    with pytest.raises(SpecError, match=r"is one array of shape .* np\.savez\(FILE"):
        NumpyReader().header(str(tmp_path / "a.npy"))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"'descr'", b"'desc_'"), (b"(3,)", b"'3',"), (b"<i8", b"<q9"), (b"{'", b"[("),
        (b"\x93NUMPY\x01", b"\x93NUMPY\x02"),
    ],
)  # fmt: skip
def test_headers_that_lie(tmp_path: Path, old: bytes, new: bytes) -> None:
    path = tmp_path / "a.npy"
    np.save(path, np.array([(1,), (2,), (3,)], [("id", "<i8")]))
    content = path.read_bytes()
    assert old in content
    path.write_bytes(content.replace(old, new, 1))
    with pytest.raises(GalbatchError) as caught:
        NumpyReader().header(str(path))
    assert "\n" not in str(caught.value)


def test_names_that_are_not_latin(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    with pytest.warns(UserWarning, match="format 3.0"):
        np.save(path, np.array([(1,), (2,)], [("\u03b1", "<i8")]))
    assert read(str(path), {"\u03b1": pa.int64()})["\u03b1"].to_pylist() == [1, 2]


def test_archives_of_something_else(tmp_path: Path) -> None:
    path = savez(tmp_path, cube=np.zeros((2, 2, 2)))
    with pytest.raises(SpecError, match=r"holds no columns \(arrays of one or two axes\)"):
        NumpyReader().header(path)
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("id.npy", b"1,2,3")
    Path(path).write_bytes(content.getvalue())
    with pytest.raises(DataError):
        NumpyReader().header(path)
