"""Rows whose arrays lie in Zarr, written and read as one table."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from galbatch.columns import arrow_type, from_numpy, to_numpy
from galbatch.errors import DataError, SpecError
from galbatch.store.arrays import ArraySpec, GroupSpec, allocate
from galbatch.store.gather import FromCatalogue, FromShard, gather_arrays
from galbatch.store.layout import Layout
from galbatch.store.rows import ArraysBeside, RowsWriter, arrays_named, read_rows
from galbatch.store.shard_rows import located, read_file_rows
from galbatch.store.shard_schema import catalogue_schema
from galbatch.store.shards import POSITION, SOURCE, write_shard
from galbatch.store.tables import FILE, ROW, commit_parquet, opened_partition
from galbatch.values import Partition

FLUX = ArraySpec("flux", (3, 2), ("y", "x"), chunk_rows=4)
MASK = ArraySpec("mask", (3, 2), ("y", "x"), "uint8", chunk_rows=8)
SPEC = GroupSpec((FLUX, MASK), shard_rows=8)
ONE = Partition("rows", 0, 1, 0)


def arrays_of(ids: np.ndarray) -> dict[str, np.ndarray]:
    """What belongs to an id: every tenth has no flux, every seventh no mask."""
    flux = (ids[:, None, None] + np.arange(6).reshape(3, 2) / 10).astype(np.float32)
    mask = ((ids[:, None, None] + np.arange(6).reshape(3, 2)) % 200).astype(np.uint8)
    flux[:, 0, 0] = np.where(ids % 2 == 0, np.nan, flux[:, 0, 0])
    flux[ids % 10 == 0] = np.nan
    mask[ids % 7 == 0] = MASK.missing
    return {"flux": flux, "mask": mask}


def table_of(ids: np.ndarray) -> pa.Table:
    values = arrays_of(ids)
    columns = {"id": pa.array(ids), "size": pa.array(ids / 2)}
    for array in SPEC.arrays:
        kind = arrow_type(array.dtype, array.shape, array.dimensions)  # type: ignore[arg-type]
        null = array.is_missing(values[array.name])
        columns[array.name] = from_numpy(values[array.name], kind, null)
    return pa.table(columns)


def test_a_table_is_read_as_it_was_written(tmp_path: Path) -> None:
    layout, ids = Layout(tmp_path), np.arange(30)
    table = table_of(ids)
    span = allocate(layout, "net", SPEC, {ONE.name: 30})[ONE.name]
    with RowsWriter(layout, ONE, "net", {}, "id", (SPEC, span)) as writer:
        for start in (0, 7, 20):
            writer.write(table.slice(start, {0: 7, 7: 13, 20: 10}[start]))
        done = writer.commit()
    assert next(iter(done.outputs)) == layout.relative(layout.partition(ONE, "net"))
    assert done.missing == {"flux": 3, "mask": 5}
    parts = list(read_rows(layout, ONE, ["mask", "id", "flux"], model="net"))
    assert all(part.num_rows <= SPEC.shard_rows for part in parts)
    found = pa.concat_tables(parts)
    assert found.column_names == ["mask", "id", "flux"]
    assert found["flux"].type == table["flux"].type and found["flux"].null_count == 3
    for name in ("flux", "mask"):
        valid = np.asarray(table[name].is_valid())
        assert np.asarray(found[name].is_valid()).tolist() == valid.tolist()
        np.testing.assert_array_equal(to_numpy(found[name])[valid], to_numpy(table[name])[valid])
    whole = [part.num_rows for part in read_rows(layout, ONE, ["size", "id"], model="net")]
    assert whole == [30]  # without arrays a row group at a time
    with pytest.raises(SpecError, match=r"has no column 'flix'.*did you mean 'flux'"):
        list(read_rows(layout, ONE, ["id", "flix"], model="net"))


def test_what_is_not_committed_leaves_nothing(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    span = allocate(layout, "net", SPEC, {ONE.name: 9})[ONE.name]
    with RowsWriter(layout, ONE, "net", {}, "id", (SPEC, span)) as writer:
        writer.write(table_of(np.arange(9)))
    assert not list(layout.arrays("net").glob("*/c.*"))
    assert not layout.partition(ONE, "net").exists()


def test_without_arrays_a_partition_is_a_parquet_file(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    with RowsWriter(layout, ONE, None, {}, "id") as writer:
        writer.write(table_of(np.arange(9)).select(["id", "size"]))
        assert list(writer.commit().outputs) == [layout.relative(layout.partition(ONE))]
    (found,) = read_rows(layout, ONE, ["size"])
    assert found["size"].to_pylist() == [i / 2 for i in range(9)]
    with pytest.raises(DataError, match="does not say where its arrays are"):
        arrays_named(layout, ONE)
    with pytest.raises(SpecError, match="has no column 'flux'"):
        list(read_rows(layout, ONE, ["flux"]))


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.integers(0, 12), min_size=1, max_size=5),
    st.randoms(use_true_random=False),
    st.integers(0, 20),
)
def test_arrays_follow_their_ids_from_shards_and_from_the_store(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], random: object, stored: int
) -> None:
    layout = Layout(tmp_path_factory.mktemp("gather"))
    order = list(range(sum(sizes) + stored))
    random.shuffle(order)  # type: ignore[attr-defined]
    ids = np.array(order, np.int64)
    # Some rows are in the store already.
    before = ids[:stored]
    old = Partition("rows", 0, 0, stored)
    span = allocate(layout, None, SPEC, {old.name: stored})[old.name]
    with RowsWriter(layout, old, None, {}, "id", (SPEC, span)) as writer:
        writer.write(table_of(before))
        writer.commit()
    shards, first = [], stored
    for number, size in enumerate(sizes):
        part = table_of(ids[first : first + size])
        part = part.append_column(FILE, pa.array(np.zeros(size, np.int32)))
        part = part.append_column(ROW, pa.array(np.arange(first, first + size)))
        # A file may lack a column.
        part = part.drop_columns(["mask"]) if number == 3 else part
        shards.append(write_shard(layout, f"shard-{number}", part, file=0))
        first += size
    schema = catalogue_schema(layout, shards, "id", {0: "a.csv"})
    plain = pa.schema([field for field in schema if field.name not in SPEC.of])
    plain = plain.append(pa.field(SOURCE, pa.int32())).append(pa.field(POSITION, pa.int64()))
    rows = read_file_rows(layout, shards, {0: (0, 10**9)}, plain).select(["id", SOURCE, POSITION])
    kept = pa.table({"id": pa.array(before)})
    kept = located(kept, len(shards), np.arange(stored))
    rows = pa.concat_tables([rows, kept]).sort_by("id")
    sources = [*(FromShard(layout, one) for one in shards), FromCatalogue(layout, old.name, span)]
    new = allocate(layout, None, SPEC, {old.name: len(ids)}, moved={old.name}, keep_others=True)[
        old.name
    ]
    assert new.first >= span.end
    written = gather_arrays(layout, SPEC, new, rows, "id", sources)
    beside = ArraysBeside.of(new, written)
    partition = Partition("rows", 0, 0, len(ids))
    commit_parquet(layout.partition(partition), rows.select(["id"]), beside.to_metadata())
    assert arrays_named(layout, partition) == (beside.span(len(ids)), beside.digest)
    found = pa.concat_tables(read_rows(layout, partition, ["id", "flux", "mask"]))
    expected = arrays_of(np.sort(ids))
    lacks = np.isin(np.sort(ids), ids[stored + sum(sizes[:3]) : stored + sum(sizes[:4])])
    expected["mask"][lacks] = MASK.missing
    for array in SPEC.arrays:
        valid = ~array.is_missing(expected[array.name])
        assert np.asarray(found[array.name].is_valid()).tolist() == valid.tolist()
        np.testing.assert_array_equal(
            to_numpy(found[array.name])[valid], expected[array.name][valid]
        )
        assert written.missing[array.name] == (~valid).sum()
    with opened_partition(layout, partition) as file:
        assert file.metadata.num_rows == len(ids)
