"""Parquet partitions: written one way, read by everybody."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.table import Table

from galbatch.errors import DataError, SpecError
from galbatch.store.layout import Layout
from galbatch.store.tables import HEALPIX, annotate, commit_parquet, read_partition
from galbatch.values import Partition


@pytest.fixture
def table(toy: Any) -> pa.Table:
    return annotate(toy.rows(np.arange(1000)), toy.survey().columns)


def test_everything_comes_back(tmp_path: Path, table: pa.Table) -> None:
    path = tmp_path / "a.parquet"
    commit_parquet(path, table, {"survey": "toy"})
    found = pq.ParquetFile(path).read()
    assert found.schema.equals(table.schema)
    pd.testing.assert_frame_equal(found.to_pandas(), table.to_pandas())
    assert found.field("RA").metadata == {
        b"unit": b"deg", b"ucd": b"pos.eq.ra", b"description": b"right ascension",
    }  # fmt: skip
    assert found.field(HEALPIX).metadata[b"ucd"] == b"pos.healpix"
    assert found.schema.metadata[b"galbatch.survey"] == b"toy"


def test_the_same_rows_make_the_same_bytes(tmp_path: Path, table: pa.Table) -> None:
    halves = pa.concat_tables([table.slice(0, 333), table.slice(333)])
    digests = {
        commit_parquet(tmp_path / "a", table, {"b": "1", "a": "2"}),
        commit_parquet(tmp_path / "b", halves, {"a": "2", "b": "1"}),
        commit_parquet(tmp_path / "c", pq.ParquetFile(tmp_path / "a").read(), {"a": "2", "b": "1"}),
    }
    assert len(digests) == 1
    other = table.set_column(1, "RA", pa.array(np.zeros(1000)))
    assert commit_parquet(tmp_path / "d", other) not in digests


def test_floats_are_split_by_bytes_without_dictionary(tmp_path: Path, table: pa.Table) -> None:
    commit_parquet(tmp_path / "a", table)
    group = pq.read_metadata(tmp_path / "a").row_group(0)
    encodings = {
        group.column(i).path_in_schema: group.column(i).encodings for i in range(group.num_columns)
    }
    for name in ("RA", "r", "mags.list.element"):
        assert "BYTE_STREAM_SPLIT" in encodings[name], name
        assert not any("DICTIONARY" in word for word in encodings[name]), name
    assert "DELTA_BINARY_PACKED" in encodings[HEALPIX]
    assert any("DICTIONARY" in word for word in encodings["field"])


@pytest.mark.parametrize(
    "column",
    [
        pa.array([], pa.float32()),
        pa.array([None, 1.5], pa.float64()),
        pa.array([True, None]),
        pa.array(["ä", ""]),
        pa.array([[1.0, 2.0], [3.0, float("nan")]], pa.list_(pa.float32(), 2)),
        pa.array([[1, 2], [3, 4]], pa.list_(pa.int64(), 2)),
        pa.array([2**64 - 1], pa.uint64()),
    ],
    ids=lambda column: f"{column.type}-{len(column)}",
)
def test_odd_columns(tmp_path: Path, column: pa.Array) -> None:
    table = pa.table({"mag_aper[jpas::J0660].x": column})
    commit_parquet(tmp_path / "a", table)
    assert str(pq.ParquetFile(tmp_path / "a").read()[0].to_pylist()) == str(column.to_pylist())


def test_others_read_it(store: Any) -> None:
    store.predict(store.partitions)
    for model, column in ((None, "r"), ("photometric", "z_mode")):
        files = f"{store.layout.dataset(model)}/**/*.parquet"
        count, total = duckdb.sql(f"SELECT count(*), sum({column}) FROM '{files}'").fetchall()[0]
        assert count == 3000
        polars = pl.scan_parquet(files, hive_partitioning=False).collect()
        assert polars[column].cast(pl.Float64).sum() == pytest.approx(total)
        pandas = pd.read_parquet(store.layout.dataset(model))
        assert pandas[column].astype(float).sum() == pytest.approx(total)


# astropy wants to be told the length of text beforehand.
@pytest.mark.filterwarnings("ignore:No table..len..field found in metadata")
def test_astropy_reads_the_units(store: Any, toy: Any) -> None:
    store.predict(store.partitions[:1])
    table = Table.read(store.layout.partition(store.partitions[0]), format="parquet.votable")
    assert table["r"].unit == "mag"
    assert table["RA"].meta["ucd"] == "pos.eq.ra"
    assert table["mags"].shape[1:] == (3,)
    path = store.layout.partition(store.partitions[0], "photometric")
    predicted = Table.read(path, format="parquet.votable")
    assert predicted["abs_mag_b"].unit == "mag"
    assert predicted["z_mode"].description == toy.predicted[0].description


def test_columns_are_read_in_the_order_asked_for(store: Any) -> None:
    partition = store.partitions[0]
    table = read_partition(store.layout, partition, ["r", "ID"])
    assert table.column_names == ["r", "ID"]
    assert table.num_rows == partition.rows
    assert read_partition(store.layout, partition).column_names[0] == "ID"


def test_a_missing_column_is_named(store: Any) -> None:
    with pytest.raises(SpecError, match=r"no column 'Ra' .*did you mean 'RA'"):
        read_partition(store.layout, store.partitions[0], ["Ra"])


def test_a_missing_or_damaged_partition_is_data(store: Any) -> None:
    path = store.layout.partition(store.partitions[0])
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(DataError, match="cannot be read"):
        read_partition(store.layout, store.partitions[0])
    with pytest.raises(DataError, match="has not been written"):
        read_partition(Layout(store.layout.root), Partition("healpix", 3, 1))


def test_a_flipped_bit_is_never_another_value(store: Any) -> None:
    partition = store.partitions[0]
    path, table = store.layout.partition(partition), read_partition(store.layout, partition)
    data = path.read_bytes()
    pages = len(data) - 8 - int.from_bytes(data[-8:-4], "little")  # and a footer
    rng = np.random.default_rng(5)
    noticed = 0
    for place in rng.integers(0, 8 * pages, 300).tolist():
        damaged = bytearray(data)
        damaged[place // 8] ^= 1 << place % 8
        path.write_bytes(damaged)
        try:
            found = read_partition(store.layout, partition)
        except DataError as error:
            assert "galbatch verify" in str(error)
            noticed += 1
        else:  # it was of the statistics, say
            assert found.to_pandas().equals(table.to_pandas())
    assert noticed > 150
