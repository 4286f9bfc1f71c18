"""Zarr: groups, versions, chunks, and what is refused."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import pyarrow as pa
import pytest
import zarr

from galbatch.columns import to_numpy
from galbatch.errors import DataError, SpecError
from galbatch.readers import expand
from galbatch.readers.groups import WholeChunks
from galbatch.readers.stamps import stamp
from galbatch.readers.zarr import ZarrReader

every_version = pytest.mark.parametrize("version", [2, 3])


def write(folder: Path, version: int, **arrays: Any) -> str:
    path = folder / "catalogue.zarr"
    group = zarr.open_group(str(path), mode="w", zarr_format=version)
    for name, values in arrays.items():
        group.create_array(name.replace("__", "/"), data=values)
    return str(path)


def read(path: str, types: dict[str, pa.DataType], group: str | None = None) -> pa.Table:
    batches = ZarrReader(group).batches(path, types, 2)
    table = pa.concat_tables([batch.table for batch in batches])
    assert batches.records == table.num_rows
    return table


@every_version
def test_several_groups_need_a_choice(tmp_path: Path, version: int) -> None:
    path = write(
        tmp_path, version, north__id=np.arange(3), south__deep__id=np.arange(2), note=np.array(7)
    )
    with pytest.raises(SpecError, match=r"several tables: north .3 rows., south/deep .2 rows.*"
                       r"kind: zarr, group: north"):  # fmt: skip
        ZarrReader().header(path)
    assert read(path, {"id": pa.int64()}, "/south/deep")["id"].to_pylist() == [0, 1]
    assert read(path, {"id": pa.int64()}, "all")["id"].to_pylist() == [0, 1, 2, 0, 1]
    with pytest.raises(SpecError, match=r"no group 'nort' \(did you mean 'north'\?\)"):
        ZarrReader("nort").header(path)


@every_version
def test_columns_of_another_length(tmp_path: Path, version: int) -> None:
    path = write(tmp_path, version, id=np.arange(3), mag=np.zeros(3), grid=np.zeros(2))
    header = ZarrReader().header(path)
    assert [(axis.name, len(axis.values)) for axis in header.axes] == [("grid", 2)]
    assert read(path, dict.fromkeys(header.names, pa.null())).column_names == ["id", "mag"]
    with pytest.raises(SpecError, match="different numbers of rows: 'grid' has 2"):
        read(path, {"id": pa.int64(), "grid": pa.float64()})


@every_version
def test_units_and_what_is_masked_by_nothing(tmp_path: Path, version: int) -> None:
    path = write(tmp_path, version, id=np.arange(3), flux=np.zeros((3, 4)))
    zarr.open_array(f"{path}/flux", mode="a").attrs["units"] = " uJy "
    zarr.open_array(f"{path}/id", mode="a").attrs["unit"] = ""
    units = {column.name: column.unit for column in ZarrReader().header(path).columns}
    assert units == {"flux": "uJy", "id": ""}


@every_version
def test_a_chunk_that_was_never_written_is_the_fill_value(tmp_path: Path, version: int) -> None:
    path = write(tmp_path, version, id=np.arange(5))
    group = zarr.open_group(path, mode="a")
    flux = group.create_array(
        "flux", shape=(5, 300), chunks=(2, 300), dtype="f4", fill_value=np.nan,
        config={"write_empty_chunks": False},
    )  # fmt: skip
    flux[2:4] = 1
    found = to_numpy(read(path, {"flux": pa.fixed_shape_tensor(pa.float32(), [300])})["flux"])
    assert np.isnan(found[[0, 1, 4]]).all()
    assert (found[2:4] == 1).all()


def test_objects_and_pickles_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path, 2, id=np.arange(2), mag=np.zeros(2))
    for name, dtype, filters in (
        ("objects", "|O", [{"id": "pickle", "protocol": 5}]),
        ("json", "|O", [{"id": "json2"}]),
        ("numbers", "<f8", [{"id": "pickle", "protocol": 5}]),
    ):
        folder = Path(path) / name
        folder.mkdir()
        metadata = json.loads((Path(path) / "mag" / ".zarray").read_text())
        metadata |= {"dtype": dtype, "filters": filters, "fill_value": 0}
        (folder / ".zarray").write_text(json.dumps(metadata))
        (folder / "0").write_bytes(numcodecs.Pickle().encode(np.zeros(2, object)))
    assert set(ZarrReader().header(path).names) == {"id", "mag", "objects", "json", "numbers"}
    assert read(path, {"id": pa.int64(), "objects": pa.null()}).column_names == ["id"]
    for name, problem in (
        ("objects", "packed by pickle"), ("numbers", "packed by pickle"), ("json", "Python objects")
    ):  # fmt: skip
        with pytest.raises(SpecError, match=f"column '{name}': .*{problem}"):
            read(path, {name: pa.float64()})


@pytest.mark.filterwarnings("ignore:The data type")
def test_kinds_of_columns(tmp_path: Path) -> None:
    path = write(
        tmp_path, 3,
        flag=np.array([True, False]), c=np.zeros(2, complex), half=np.array([1.5, 2], np.float16),
        fixed=np.array(["a", "caf\u00e9"]), big=np.array([2**64 - 1, 0], ">u8"),
        texts=np.array([["a", "b"]] * 2), when=np.array([0, 1], "M8[s]"),
    )  # fmt: skip
    header = ZarrReader().header(path)
    table = read(path, dict.fromkeys(header.names, pa.null()))
    said = {column.name: column.type for column in header.columns if column.type is not None}
    assert said == {field.name: field.type for field in table.schema}
    assert table["fixed"].to_pylist() == ["a", "caf\u00e9"]
    assert table["big"].to_pylist() == [2**64 - 1, 0]
    for name, problem in (
        ("c", "complex"), ("texts", "several texts per row"), ("when", "neither numbers nor text")
    ):  # fmt: skip
        with pytest.raises(SpecError, match=problem):
            read(path, {name: pa.float64()})


def test_what_is_no_group(tmp_path: Path) -> None:
    array = str(tmp_path / "array.zarr")
    zarr.save_array(array, np.zeros(3))
    with pytest.raises(SpecError, match="is one Zarr array, not a group"):
        ZarrReader().header(array)
    with pytest.raises(SpecError, match=r"holds no columns \(arrays of one or two axes\)"):
        ZarrReader().header(write(tmp_path, 3, cube=np.zeros((2, 2, 2))))


@every_version
@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"node_type": "array", "shape": "many"}'])
def test_metadata_that_are_damaged(tmp_path: Path, version: int, content: bytes) -> None:
    path = write(tmp_path, version, id=np.arange(3), mag=np.zeros(3))
    (Path(path) / "mag" / (".zarray" if version == 2 else "zarr.json")).write_bytes(content)
    if content == b"[]" and version == 3:
        return  # no array by what it says
    with pytest.raises((DataError, SpecError)) as caught:
        ZarrReader().header(path)
    assert "\n" not in str(caught.value)


def test_a_folder_is_one_file(tmp_path: Path) -> None:
    path = write(tmp_path, 3, id=np.arange(3), mag=np.zeros(3))
    assert expand([f"{tmp_path}/*.zarr"]) == expand([path]) == (path,)
    files = [file for file in Path(path).rglob("*") if file.is_file()]
    size, modified = stamp(path)
    assert size == sum(file.stat().st_size for file in files)
    assert modified == max(file.stat().st_mtime_ns for file in files)
    os.utime(files[0], (2_000_000_000, 2_000_000_000))
    assert stamp(path) == (size, 2_000_000_000 * 10**9)


@pytest.mark.parametrize("chunk", [1, 3, 10, 64])
@pytest.mark.parametrize("batch", [1, 3, 7, 50])
def test_every_chunk_is_read_once(chunk: int, batch: int) -> None:
    values, asked = np.arange(50), []

    def part(start: int, stop: int) -> np.ndarray:
        asked.extend(range(start // chunk, -(-stop // chunk)))
        return values[start:stop]

    rows = WholeChunks(part, 50, chunk)
    found = [rows(start, min(start + batch, 50)) for start in range(0, 50, batch)]
    np.testing.assert_array_equal(np.concatenate(found), values)
    assert asked == list(range(-(-50 // chunk)))
