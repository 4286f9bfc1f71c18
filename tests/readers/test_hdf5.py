"""HDF5: groups, compound datasets and strings."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pyarrow as pa
import pytest

from galbatch.errors import SpecError
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
    with pytest.raises(SpecError, match=r"several groups hold columns: deep/truth, photometry, t"):
        Hdf5Reader().header(path)
    with pytest.raises(SpecError, match=r"no columns in 'photo' \(did you mean 'photometry'\?\)"):
        Hdf5Reader("photo").header(path)


def test_a_group(path: str) -> None:
    reader = Hdf5Reader("/photometry")
    assert set(reader.header(path).names) == {"id", "mag", "name", "vector", "short"}
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
    with pytest.raises(SpecError, match="different numbers of rows: id 3, short 2"):
        list(Hdf5Reader("photometry").batches(path, {"id": pa.int64(), "short": pa.int64()}, 10))


def test_nothing_like_a_table(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["cube"] = np.zeros((2, 2, 2))
    with pytest.raises(SpecError, match="holds no columns"):
        Hdf5Reader().header(str(tmp_path / "a.h5"))
