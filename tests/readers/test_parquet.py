"""Parquet: types that are not quite those that were asked for."""

from __future__ import annotations

import math
from decimal import Decimal
from pathlib import Path
from typing import Any

import astropy.units as u
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.table import MaskedColumn, QTable, Table
from hypothesis import given
from hypothesis import strategies as st

from galbatch.errors import SpecError
from galbatch.readers import Batch
from galbatch.readers.conform import conform
from galbatch.readers.parquet import ParquetReader

THREE = pa.list_(pa.float32(), 3)
NAN = float("nan")


def read(folder: Path, column: pa.Array, wanted: pa.DataType) -> Batch:
    path = str(folder / "catalogue.parquet")
    pq.write_table(pa.table({"x": column}), path)
    (batch,) = ParquetReader().batches(path, {"x": wanted}, 100)
    return batch


@pytest.mark.parametrize(
    ("column", "wanted", "type_", "values"),
    [
        (pa.array([1, None], pa.int8()), pa.float32(), pa.float64(), [1, None]),
        (pa.array([1, None], pa.int8()), pa.int64(), pa.int8(), [1, None]),
        (pa.array([2**64 - 1], pa.uint64()), pa.int64(), pa.uint64(), [2**64 - 1]),
        (pa.array([1.5], pa.float32()), pa.float64(), pa.float32(), [1.5]),
        # As pandas writes integers of which some are missing.
        (pa.array([1.0, NAN, None, -0.0, 2.0**53 - 1]), pa.int64(), pa.int64(),
         [1, None, None, 0, 2**53 - 1]),
        (pa.array([1.0, 2.0**24 - 1], pa.float32()), pa.int32(), pa.int32(), [1, 2**24 - 1]),
        (pa.array([7.0], pa.float16()), pa.int16(), pa.int16(), [7]),
        (pa.array([2**53, -(2**62), 2**53 + 2, 3 * 2**55, -(2**63)]), pa.float64(), pa.float64(),
         [2**53, -(2**62), 2**53 + 2, 3 * 2**55, -(2**63)]),
        (pa.array([2**63, 2**64 - 2**11], pa.uint64()), pa.float32(), pa.float64(),
         [2**63, 2**64 - 2**11]),
        (pa.array([2**63 - 1, None]), pa.string(), pa.string(), [str(2**63 - 1), None]),
        (pa.array([2**64 - 1], pa.uint64()), pa.string(), pa.string(), [str(2**64 - 1)]),
        (pa.array([1.0, 2.0**53 - 1, 0.1, NAN, None, 1e300, float("inf")]), pa.string(),
         pa.string(), ["1", str(2**53 - 1), "0.1", None, None, "1e+300", "inf"]),
        (pa.array([0.1, 3], pa.float32()), pa.string(), pa.string(), ["0.1", "3"]),
        (pa.array([Decimal(10**18 + 1), None]), pa.int64(), pa.int64(), [10**18 + 1, None]),
        (pa.array([Decimal(10**18 + 1)]), pa.string(), pa.string(), [str(10**18 + 1)]),
        (pa.array([Decimal("3.00")]), pa.int64(), pa.int64(), [3]),
        (pa.array([Decimal(10**18), None]), pa.float64(), pa.float64(), [1e18, None]),
        (pa.array([b"7", b"caf\xe9"]), pa.string(), pa.string(), ["7", "caf\u00e9"]),
        (pa.array([b"7", b"8 "]), pa.int32(), pa.int32(), [7, 8]),
        (pa.array([0], pa.timestamp("s")), pa.string(), pa.string(), ["1970-01-01 00:00:00.000"]),
        (pa.array([1], pa.date32()), pa.string(), pa.string(), ["1970-01-02"]),
        (pa.array(["1.5", ""]), pa.float32(), pa.float32(), [1.5, None]),
        (pa.array(["1", "2.0"], pa.large_string()), pa.int16(), pa.int16(), [1, 2]),
        (pa.array(["a", "b", "a"]).dictionary_encode(), pa.string(), pa.string(), ["a", "b", "a"]),
        (pa.array([True, None]), pa.int16(), pa.int16(), [1, None]),
        (pa.array([Decimal("1.50")]), pa.float64(), pa.float64(), [1.5]),
        (pa.array([[1], [2, 3]]), pa.null(), pa.list_(pa.int64()), [[1], [2, 3]]),
        (pa.array(["a"]).dictionary_encode(), pa.null(), pa.string(), ["a"]),
        (pa.nulls(1), pa.string(), pa.string(), [None]),
        (pa.nulls(2), pa.float32(), pa.float32(), [None, None]),
        (pa.nulls(1), THREE, THREE, [None]),
        (pa.array([[1.0, 2.0, 3.0], None]), THREE, pa.list_(pa.float64(), 3), [[1, 2, 3], None]),
        (pa.array([[1, 2, 3]], pa.large_list(pa.int16())), THREE, pa.list_(pa.float64(), 3),
         [[1, 2, 3]]),
        (pa.array([[1, 2, 3], None], pa.list_(pa.int16(), 3)), THREE, pa.list_(pa.float64(), 3),
         [[1, 2, 3], None]),
        (pa.array([[1, NAN, 3], None], pa.list_(pa.float64(), 3)), pa.list_(pa.int64(), 3),
         pa.list_(pa.int64(), 3), [[1, None, 3], None]),
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


FLOAT_LIMIT = "no longer says which integer it is"


@pytest.mark.parametrize(
    ("column", "wanted", "reason"),
    [
        (pa.array([1.0, 3.5]), pa.int64(), "expected a whole number (int64), got 3.5"),
        (pa.array([1.0, float("inf")]), pa.int64(), "expected a whole number (int64), got inf"),
        (pa.array([1.0, 40_000.0]), pa.int16(), "expected a whole number (int16), got 40000.0"),
        (pa.array([1.0, -1.0]), pa.uint8(), "expected a whole number (uint8), got -1.0"),
        (pa.array([1.0, 2.0**53]), pa.int64(),
         f"9007199254740992.0 is beyond 2**53, where a float64 {FLOAT_LIMIT}"),
        (pa.array([1.0, -1e19]), pa.uint64(),
         f"-1e+19 is beyond 2**53, where a float64 {FLOAT_LIMIT}"),
        (pa.array([1.0, 2.0**24], pa.float32()), pa.int64(),
         f"16777216.0 is beyond 2**24, where a float32 {FLOAT_LIMIT}"),
        (pa.array([1, 2**53 + 1]), pa.float64(),
         f"9007199254740993 is beyond 2**53, where a float64 {FLOAT_LIMIT} "
         "(give the column's dtype in the survey: int64 or string)"),
        (pa.array([1, -(2**63) + 1]), pa.float32(),
         f"-9223372036854775807 is beyond 2**53, where a float64 {FLOAT_LIMIT} "
         "(give the column's dtype in the survey: int64 or string)"),
        (pa.array([1, 2**64 - 1], pa.uint64()), pa.float64(),
         f"18446744073709551615 is beyond 2**53, where a float64 {FLOAT_LIMIT} "
         "(give the column's dtype in the survey: int64 or string)"),
        (pa.array([Decimal(1), Decimal(10**19 + 1)]), pa.int64(),
         "10000000000000000001 is a whole number that int64 cannot hold: "
             "give the column's dtype in the survey (uint64, string)"),
        (pa.array([Decimal("1.0"), Decimal("1.5")]), pa.int64(),
         "expected a whole number (int64), got '1.5'"),
        (pa.array([Decimal(1), Decimal(2**53 + 1)]), pa.float64(),
         "expected a number that a float64 holds, got '9007199254740993'"),
        (pa.array([[1.0, 2.0, 3.0], [1.0, 2.0, 3.5]], pa.list_(pa.float64(), 3)),
         pa.list_(pa.int32(), 3),
         "expected 3 values, each a whole number (int32), got '[1.0, 2.0, 3.5]'"),
    ],
)  # fmt: skip
def test_numbers_that_would_become_others(
    tmp_path: Path, column: pa.Array, wanted: pa.DataType, reason: str
) -> None:
    """The first row is fine, the second is rejected."""
    batch = read(tmp_path, column, wanted)
    assert batch.rows.tolist() == [1]
    (rejected,) = batch.rejected
    assert rejected.row == 2
    assert rejected.reason.removeprefix("column 'x': ") == reason


@given(st.lists(st.integers(-(2**63), 2**63 - 1)), st.lists(st.floats()))
def test_no_number_becomes_another(integers: list[int], floats: list[float]) -> None:
    found = conform(pa.array(integers, pa.int64()), pa.float64())
    bad = np.zeros(len(integers), bool) if found.bad is None else found.bad
    assert bad.tolist() == [int(float(value)) != value for value in integers]
    kept = [
        value for value, is_bad in zip(found.values.to_pylist(), bad, strict=True) if not is_bad
    ]
    assert kept == [float(value) for value in integers if int(float(value)) == value]
    found = conform(pa.array(floats, pa.float64()), pa.int64())
    bad = np.zeros(len(floats), bool) if found.bad is None else found.bad
    for value, became, is_bad in zip(floats, found.values.to_pylist(), bad, strict=True):
        if math.isnan(value):
            assert became is None and not is_bad
        else:
            assert is_bad == (not value.is_integer() or abs(value) >= 2**53)
            assert is_bad or became == value
    for value, text in zip(floats, conform(pa.array(floats, pa.float64()), pa.string()).values
                           .to_pylist(), strict=True):  # fmt: skip
        assert text is None if math.isnan(value) else float(text) == value


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
        (pa.array([0], pa.date32()), pa.int64(), "expected one number per row, .* date32"),
        (pa.array([True]), pa.string(), "expected text, the file holds bool"),
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


def test_the_header_says_what_comes(tmp_path: Path) -> None:
    path = str(tmp_path / "catalogue.parquet")
    columns = {
        "code": pa.array(["a"]).dictionary_encode(),
        "big": pa.array([2**64 - 1], pa.uint64()),
        "decimal": pa.array([Decimal(5)]),
        "when": pa.array([0], pa.timestamp("us")),
        "pair": pa.array([[1.0, 2.0]], pa.list_(pa.float32(), 2)),
        "a.b": pa.array([1]),
        "a": pa.array([2]),
    }
    pq.write_table(pa.table(columns), path)
    header = ParquetReader().header(path)
    (batch,) = ParquetReader().batches(path, dict.fromkeys(header.names, pa.null()), 10)
    assert {column.name: column.type for column in header.columns} == {
        field.name: field.type for field in batch.table.schema
    }
    (batch,) = ParquetReader().batches(path, {"a.b": pa.int64(), "a": pa.int64()}, 10)
    assert batch.table.to_pydict() == {"a.b": [1], "a": [2]}


def units(path: str) -> dict[str, str]:
    return {column.name: column.unit for column in ParquetReader().header(path).columns}


def test_units_of_the_fields(tmp_path: Path) -> None:
    path = str(tmp_path / "catalogue.parquet")
    fields = [
        pa.field("a", pa.float64(), metadata={"unit": "mag"}),
        pa.field("b", pa.float64(), metadata={"units": " deg "}),
        pa.field("c", pa.float64()),
    ]
    pq.write_table(pa.table([[1.0], [1.0], [1.0]], schema=pa.schema(fields)), path)
    assert units(path) == {"a": "mag", "b": "deg", "c": ""}


@pytest.mark.parametrize("kind", [Table, QTable])
def test_a_table_of_astropy(tmp_path: Path, kind: type[Table]) -> None:
    """Units are in its notes, and what it masked was never a value."""
    path = str(tmp_path / "catalogue.parquet")
    table = Table({"id": MaskedColumn([1, 2, 3], mask=[0, 1, 0]), "name": ["x", "y", "z"]})
    table["flux"] = MaskedColumn([1.0, 2.0, 3.0], mask=[0, 0, 1], unit="uJy")
    table["ra"] = np.ones(3) * u.deg
    kind(table).write(path)
    assert units(path) == {"id": "", "name": "", "flux": "uJy", "ra": "deg"}
    types = {"id": pa.int64(), "flux": pa.null()}
    (batch,) = ParquetReader().batches(path, types, 10)
    assert batch.table.to_pydict() == {"id": [1, None, 3], "flux": [1.0, 2.0, None]}


def test_a_votable_in_the_footer(tmp_path: Path) -> None:
    path = str(tmp_path / "catalogue.parquet")
    table = Table({"id": [1, 2], "flux": [1.0, 2.0]})
    words = {name: {"unit": unit, "ucd": "", "utype": ""} for name, unit in
             {"id": "", "flux": "nJy"}.items()}  # fmt: skip
    table.write(path, format="parquet.votable", metadata=words)
    assert units(path) == {"id": "", "flux": "nJy"}


def test_two_columns_of_one_name(tmp_path: Path) -> None:
    path = str(tmp_path / "catalogue.parquet")
    pq.write_table(pa.table([[1], [2], [3]], names=["a", "a", "b"]), path)
    with pytest.raises(SpecError, match="has 2 columns called 'a'"):
        list(ParquetReader().batches(path, {"a": pa.int64()}, 10))
    (batch,) = ParquetReader().batches(path, {"a": pa.null(), "b": pa.int64()}, 10)
    assert batch.table.to_pydict() == {"b": [3]}


@pytest.mark.parametrize("group", [50, 100_000])
def test_memory_does_not_grow_with_the_file(tmp_path: Path, group: int) -> None:
    """Neither with many row groups nor with one that is larger than the batches."""
    path = str(tmp_path / "a.parquet")
    rows, pixels = 2_000, 4_096
    values = np.random.default_rng(1).integers(0, 256, rows * pixels).astype(np.uint8)
    mask = pa.FixedSizeListArray.from_arrays(pa.array(values), pixels)
    pq.write_table(pa.table({"mask": mask}), path, row_group_size=group, use_dictionary=False)
    del values, mask
    kind = pa.fixed_shape_tensor(pa.uint8(), [pixels])
    before, most, count = pa.total_allocated_bytes(), 0, 0
    for batch in ParquetReader().batches(path, {"mask": kind}, 50):
        most = max(most, pa.total_allocated_bytes() - before)
        count += len(batch.rows)
    assert count == rows
    assert most < rows * pixels
