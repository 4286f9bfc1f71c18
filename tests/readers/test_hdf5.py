"""HDF5: groups, compound datasets and strings."""

from __future__ import annotations

from pathlib import Path

import astropy.units as u
import h5py
import numpy as np
import pyarrow as pa
import pytest
from astropy.table import MaskedColumn, QTable, Table

from galbatch.errors import DataError, SpecError
from galbatch.readers.hdf5 import Hdf5Reader


@pytest.fixture
def path(tmp_path: Path) -> str:
    with h5py.File(tmp_path / "catalogue.hdf5", "w") as file:
        for group, size in (("photometry", 3), ("deep/truth", 2)):
            file[f"{group}/id"] = np.arange(size)
            file[f"{group}/mag"] = np.arange(size).astype(">f4")
        file["photometry/name"] = ["a", "b\u00e9", ""]
        file["photometry/cube"] = np.zeros((3, 2, 2))
        file["photometry/vector"] = np.arange(6.0).reshape(3, 2)
        file["photometry/short"] = np.arange(2)
        rows = np.array([(1, 2.5), (2, 3.5)], dtype=[("ID", "<i8"), ("mag", "<f4")])
        file["table"] = rows
        file["table.__table_column_meta__"] = 1
        file["photometry/__notes__"] = ["by astropy"]
    return str(tmp_path / "catalogue.hdf5")


def test_several_groups_need_a_choice(path: str) -> None:
    message = (
        r"holds several tables: deep/truth \(2 rows\), photometry \(3 rows\), table \(2 rows\) "
        r"\(name one, source\.format: \{kind: hdf5, group: deep/truth\}, or group: all"
    )
    with pytest.raises(SpecError, match=message):
        Hdf5Reader().header(path)
    with pytest.raises(SpecError, match=message):
        list(Hdf5Reader().batches(path, {"id": pa.int64()}, 10))
    with pytest.raises(SpecError, match=r"no group 'photo' \(did you mean 'photometry'\?\)"):
        Hdf5Reader("photo").header(path)


def test_a_group(path: str) -> None:
    reader = Hdf5Reader("/photometry")
    assert set(reader.header(path).names) == {"id", "mag", "name", "vector", "short", "cube"}
    types = {"mag": pa.float64(), "name": pa.string(), "vector": pa.list_(pa.float32(), 2)}
    batches = list(reader.batches(path, types, 2))
    assert [batch.rows.tolist() for batch in batches] == [[1, 2], [3]]
    table = pa.concat_tables([batch.table for batch in batches])
    assert table.to_pydict() == {
        "mag": [0.0, 1.0, 2.0],
        "name": ["a", "b\u00e9", ""],
        "vector": [[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]],
    }
    assert table.schema.field("mag").type == pa.float32()


def test_a_nested_group_and_a_compound_dataset(path: str) -> None:
    assert Hdf5Reader("deep/truth").header(path).names == ("id", "mag")
    reader = Hdf5Reader("table")
    assert reader.header(path).names == ("ID", "mag")
    (batch,) = reader.batches(path, {"mag": pa.float32(), "ID": pa.int64()}, 10)
    assert batch.table.to_pydict() == {"mag": [2.5, 3.5], "ID": [1, 2]}


def test_columns_of_different_lengths(path: str) -> None:
    with pytest.raises(SpecError, match="different numbers of rows: 'short' has 2"):
        list(Hdf5Reader("photometry").batches(path, {"id": pa.int64(), "short": pa.int64()}, 10))


def test_nothing_like_a_table(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["cube"] = np.zeros((2, 2, 2))
    with pytest.raises(SpecError, match="holds no columns"):
        Hdf5Reader().header(str(tmp_path / "a.h5"))


def test_all_groups_one_after_the_other(tmp_path: Path) -> None:
    path = str(tmp_path / "a.h5")
    with h5py.File(path, "w") as file:
        for n, group in enumerate(("north", "south/deep", "west")):
            file[f"{group}/id"] = np.arange(3) + 10 * n
            file[f"{group}/mag"] = np.zeros(3, np.float32)
        file["empty/id"] = np.arange(0)
        rows = np.array([(30, 0.0)], dtype=[("id", "<i8"), ("mag", "<f4")])
        file["zone"] = rows
    reader = Hdf5Reader("all")
    assert reader.header(path).names == ("id", "mag")
    assert "one after the other: north (3 rows), south/deep" in reader.header(path).notes[0]
    batches = reader.batches(path, {"id": pa.int64()}, 2)
    found = list(batches)
    assert [batch.rows.tolist() for batch in found] == [[1, 2], [3], [4, 5], [6], [7, 8], [9], [10]]
    ids = [one for batch in found for one in batch.table["id"].to_pylist()]
    assert ids == [0, 1, 2, 10, 11, 12, 20, 21, 22, 30]
    assert batches.records == 10
    with h5py.File(path, "a") as file:
        file["west/flag"] = np.zeros(3, bool)
        file["north/mag"].attrs["unit"] = "mag"
    for ask in (reader.header, lambda path: list(reader.batches(path, {"id": pa.int64()}, 2))):
        with pytest.raises(
            SpecError, match=r"mag has mag in north .3 rows., no unit in south/deep"
        ):
            ask(path)


def test_a_column_beside_the_table(path: str) -> None:
    """Axes and notes lie in the group of a table: they are said, and cost nothing."""
    reader = Hdf5Reader("photometry")
    assert [(axis.name, len(axis.values)) for axis in reader.header(path).axes] == [("short", 2)]
    batches = reader.batches(path, dict.fromkeys(reader.header(path).names, pa.null()), 10)
    (batch,) = batches
    assert set(batch.table.column_names) == {"id", "mag", "name", "vector", "cube"}
    assert batches.records == len(batch.rows) == 3


KINDS: dict[str, np.ndarray] = {
    "i8": np.array([2**63 - 1, -(2**63)], ">i8"),
    "u8": np.array([2**64 - 1, 0], "<u8"),
    "flag": np.array([True, False]),
    "half": np.array([1.5, 2], np.float16),
    "quad": np.array([1.5, 2], np.longdouble),
    "text": np.array([b"a", b"caf\xe9"], "S5"),
    "pairs": np.zeros((2, 2), "<i2"),
    "enum": np.array([0, 1], h5py.enum_dtype({"STAR": 0, "GALAXY": 1}, "i1")),
}
ODD: dict[str, tuple[np.ndarray, str]] = {
    "complex": (np.zeros(2, complex), "its numbers are complex"),
    "texts": (np.array([[b"a", b"b"]] * 2), "it holds several texts per row"),
    "ragged": (np.array([None, None], h5py.vlen_dtype("i4")), "its rows have different lengths"),
    "opaque": (np.zeros(2, "V4"), "its values are neither numbers nor text"),
}


@pytest.mark.parametrize("compound", [False, True])
def test_every_kind_of_column(tmp_path: Path, compound: bool) -> None:
    path = str(tmp_path / "a.h5")
    every = {**KINDS, **{name: values for name, (values, _) in ODD.items()}}
    with h5py.File(path, "w") as file:
        if compound:
            layout = [(name, one.dtype, one.shape[1:]) for name, one in every.items()]
            rows = np.zeros(2, layout)
            for name, one in every.items():
                if name != "ragged":
                    rows[name] = one
            file["t"] = rows[[name for name in every if name != "ragged"]]
        else:
            for name, one in every.items():
                if name == "ragged":
                    file.create_dataset("t/ragged", (2,), h5py.vlen_dtype("i4"))
                else:
                    file[f"t/{name}"] = one
    header = Hdf5Reader().header(path)
    (batch,) = Hdf5Reader().batches(path, dict.fromkeys(header.names, pa.null()), 9)
    said = {column.name: column.type for column in header.columns if column.type is not None}
    assert said == {field.name: field.type for field in batch.table.schema}
    assert set(said) == set(KINDS)
    assert batch.table["i8"].to_pylist() == [2**63 - 1, -(2**63)]
    assert batch.table["u8"].to_pylist() == [2**64 - 1, 0]
    assert batch.table["text"].to_pylist() == ["a", "caf\u00e9"]
    assert batch.table["enum"].to_pylist() == [0, 1]
    for name, (_, problem) in ODD.items():
        if name in header.names:
            with pytest.raises(SpecError, match=f"column '{name}': {problem}"):
                list(Hdf5Reader().batches(path, {name: pa.float64()}, 9))


def test_units(tmp_path: Path) -> None:
    path = str(tmp_path / "a.h5")
    with h5py.File(path, "w") as file:
        for name, unit in {"a": "mag", "b": b" uJy ", "c": np.array([b"deg"])}.items():
            file[f"t/{name}"] = np.zeros(2)
            file[f"t/{name}"].attrs["units" if name == "b" else "unit"] = unit
    units = {column.name: column.unit for column in Hdf5Reader().header(path).columns}
    assert units == {"a": "mag", "b": "uJy", "c": "deg"}


@pytest.mark.parametrize("kind", [Table, QTable])
def test_a_table_of_astropy(tmp_path: Path, kind: type[Table]) -> None:
    """Units are in its notes, and what it masked was never a value."""
    path = str(tmp_path / "a.h5")
    table = Table({"id": MaskedColumn([1, 2, 3], mask=[0, 1, 0]), "name": ["x", "y", "z"]})
    table["flux"] = MaskedColumn([1.0, 2.0, 3.0], mask=[0, 0, 1], unit="uJy")
    table["ra"] = np.ones(3) * u.deg
    kind(table).write(path, path="cat", serialize_meta=True)
    header = Hdf5Reader().header(path)
    assert {column.name: column.unit for column in header.columns} == {
        "id": "", "name": "", "flux": "uJy", "ra": "deg",
    }  # fmt: skip
    types = {"id": pa.int64(), "flux": pa.null(), "name": pa.string()}
    (batch,) = Hdf5Reader().batches(path, types, 10)
    assert batch.table.to_pydict() == {
        "id": [1, None, 3], "flux": [1.0, 2.0, None], "name": ["x", "y", "z"],
    }  # fmt: skip
    with h5py.File(path, "a") as file:
        lines = file["cat.__table_column_meta__"]
        lines[0] = b"{"
    with pytest.raises(DataError, match="what astropy noted of its columns"):
        Hdf5Reader().header(path)


def test_values_in_other_files(tmp_path: Path) -> None:
    """h5py reads what is missing there as zeros."""
    path = str(tmp_path / "a.h5")
    layout = h5py.VirtualLayout((3,), "<f8")
    layout[:] = h5py.VirtualSource("gone.h5", "x", (3,))
    with h5py.File(path, "w") as file:
        file["t/id"] = np.arange(3)
        file.create_virtual_dataset("t/x", layout)
    with pytest.raises(SpecError, match=r"column 'x': its values are in other files"):
        list(Hdf5Reader().batches(path, {"x": pa.float64()}, 10))
