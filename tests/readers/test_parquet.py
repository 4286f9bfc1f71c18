"""Parquet: types that are not quite those that were asked for."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from galbatch.errors import SpecError
from galbatch.readers import Batch
from galbatch.readers.parquet import ParquetReader

THREE = pa.list_(pa.float32(), 3)


def read(folder: Path, column: pa.Array, wanted: pa.DataType) -> Batch:
    path = str(folder / "catalogue.parquet")
    pq.write_table(pa.table({"x": column}), path)
    (batch,) = ParquetReader().batches(path, {"x": wanted}, 100)
    return batch


@pytest.mark.parametrize(
    ("column", "wanted", "type_", "values"),
    [
        (pa.array([1, None], pa.int8()), pa.float32(), pa.int8(), [1, None]),
        (pa.array([1.5], pa.float64()), pa.int64(), pa.float64(), [1.5]),
        (pa.array(["1.5", ""]), pa.float32(), pa.float32(), [1.5, None]),
        (pa.array(["1", "2.0"], pa.large_string()), pa.int16(), pa.int16(), [1, 2]),
        (pa.array(["a", "b", "a"]).dictionary_encode(), pa.string(), pa.string(), ["a", "b", "a"]),
        (pa.array([True, None]), pa.int16(), pa.int16(), [1, None]),
        (pa.array([Decimal("1.50")]), pa.float64(), pa.float64(), [1.5]),
        (pa.array([7], pa.int64()), pa.string(), pa.int64(), [7]),
        (pa.array([[1], [2, 3]]), pa.null(), pa.list_(pa.int64()), [[1], [2, 3]]),
        (pa.array(["a"]).dictionary_encode(), pa.null(), pa.string(), ["a"]),
        (pa.nulls(1), pa.string(), pa.string(), [None]),
        (pa.nulls(2), pa.float32(), pa.float32(), [None, None]),
        (pa.nulls(1), THREE, THREE, [None]),
        (pa.array([[1.0, 2.0, 3.0], None]), THREE, pa.list_(pa.float64(), 3), [[1, 2, 3], None]),
        (pa.array([[1, 2, 3]], pa.large_list(pa.int16())), THREE, pa.list_(pa.int16(), 3),
         [[1, 2, 3]]),
        (pa.array(["1 2 3"]), THREE, THREE, [[1, 2, 3]]),
    ],
)  # fmt: skip
def test_what_arrives(
    tmp_path: Path, column: pa.Array, wanted: pa.DataType, type_: pa.DataType, values: list[Any]
) -> None:
    batch = read(tmp_path, column, wanted)
    assert batch.table["x"].type == type_
    assert batch.table["x"].to_pylist() == values
    assert not batch.rejected


def test_lists_of_another_length_cost_their_row(tmp_path: Path) -> None:
    batch = read(tmp_path, pa.array([[1.0, 2.0, 3.0], [1.0], None, []]), THREE)
    assert batch.rows.tolist() == [1, 3]
    assert batch.table["x"].to_pylist() == [[1, 2, 3], None]
    assert [(row.row, row.reason) for row in batch.rejected] == [
        (2, "column 'x': expected 3 numbers, got '[1.0]'"),
        (4, "column 'x': expected 3 numbers, got '[]'"),
    ]


@pytest.mark.parametrize(
    ("column", "wanted", "message"),
    [
        (pa.array([[1.0]]), pa.float32(), "expected one number per row, the file holds list"),
        (pa.array([1.0]), THREE, "expected 3 values per row, the file holds double"),
        (pa.array([0], pa.timestamp("s")), pa.float32(), "expected one number per row"),
        (pa.array([[1.0]]), pa.string(), "expected text"),
        (pa.array([[[1.0]]]), THREE, "expected 3 numbers per row"),
    ],
)
def test_what_makes_no_sense(
    tmp_path: Path, column: pa.Array, wanted: pa.DataType, message: str
) -> None:
    with pytest.raises(SpecError, match=f"column 'x': {message}"):
        read(tmp_path, column, wanted)


def test_one_large_row_group_is_read_in_batches(tmp_path: Path) -> None:
    path = str(tmp_path / "catalogue.pq")
    pq.write_table(pa.table({"x": range(10_000)}), path)
    batches = list(ParquetReader().batches(path, {"x": pa.int64()}, 999))
    assert max(len(batch.rows) for batch in batches) <= 999
    assert [x for batch in batches for x in batch.table["x"].to_pylist()] == list(range(10_000))
