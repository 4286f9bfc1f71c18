"""Batches of rows between scan and ingest; rows that repeat an id."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from galbatch.errors import SpecError
from galbatch.store.duplicates import find_duplicates
from galbatch.store.layout import Layout
from galbatch.store.partitions import plan_partitions, plan_row_ranges
from galbatch.store.shard_rows import (
    count_pixels,
    files_between,
    find_rows,
    read_file_rows,
    row_numbers,
)
from galbatch.store.shard_schema import catalogue_schema
from galbatch.store.shards import PROVENANCE, Shard
from galbatch.store.tables import FILE, HEALPIX, ROW, annotate, commit_parquet
from galbatch.values import Partition

NAMES = {number: f"file {number}" for number in range(100)}


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path)


def test_partitions_of_shards_hold_every_row_sorted(store: Any, toy: Any) -> None:
    layout, shards = store.layout, store.shards
    schema = catalogue_schema(layout, shards, "ID", NAMES)
    assert schema.names[-3:] == [HEALPIX, *PROVENANCE]
    seen = []
    for partition in store.partitions:
        table = toy.read(layout, shards, partition, schema)
        assert table.schema.equals(schema)
        healpix = table[HEALPIX].to_numpy()
        assert (np.diff(healpix) >= 0).all()
        assert (healpix >> 2 * (29 - partition.order) == partition.index).all()
        assert table.num_rows == partition.rows
        ids = table["ID"].to_numpy()
        np.testing.assert_array_equal(table["r"].to_numpy(), (20 + ids / 100).astype(np.float32))
        assert table["mags"].to_pylist()[0] == [float(ids[0])] * 3
        seen += ids.tolist()
    assert sorted(seen) == list(range(3000))


def test_how_rows_were_batched_does_not_matter(layout: Layout, toy: Any) -> None:
    rows = toy.rows(np.arange(500))
    tables = []
    for cuts in ([0, 500], [0, 100, 101, 450, 500]):
        shards = [
            toy.shard(layout, f"{len(cuts)}-{n}", rows.slice(low, high - low), 0, low + 1)
            for n, (low, high) in enumerate(pairwise(cuts))
        ]
        schema = catalogue_schema(layout, shards, "ID", NAMES)
        partitions = plan_partitions(toy.count(layout, shards, 8), 200)
        tables.append([toy.read(layout, shards, p, schema) for p in partitions])
    for one, other in zip(*tables, strict=True):
        assert str(one.to_pylist()) == str(other.to_pylist())


def test_rows_without_a_sky_keep_the_order_of_the_files(layout: Layout, toy: Any) -> None:
    shards = [
        toy.shard(layout, str(n), toy.rows(np.arange(100 * n, 100 * n + 70)[::-1], sky=False), n)
        for n in range(3)
    ]
    schema = catalogue_schema(layout, shards, "ID", NAMES)
    ranges = plan_row_ranges(210, 64)
    assert [partition.rows for partition in ranges] == [64, 64, 64, 18]
    ids = [toy.read(layout, shards, p, schema, 64)["ID"] for p in ranges]
    expected = [i for n in range(3) for i in range(100 * n + 69, 100 * n - 1, -1)]
    assert [number for chunk in ids for number in chunk.to_pylist()] == expected
    assert files_between(layout, shards, (64, 128)) == {0: (65, 70), 1: (1, 58)}
    found = read_file_rows(layout, shards, {0: (65, 70), 1: (1, 58)}, schema)
    assert found["ID"].to_pylist() == expected[64:128]


@pytest.mark.parametrize("sky", [True, False])
def test_later_occurrences_of_an_id_are_found_and_left_out(
    layout: Layout, toy: Any, sky: bool
) -> None:
    ids = [np.arange(0, 100), np.arange(100, 200), np.arange(200, 300)]
    ids[1][[3, 9]] = 50  # twice more in the same file
    ids[2][7] = 50
    ids[2][8] = 299  # the first of two in one shard
    shards = [
        toy.shard(layout, str(n), toy.rows(numbers, n, sky), n) for n, numbers in enumerate(ids)
    ]
    found = find_duplicates(layout, shards, "ID", pa.int64(), at_most=10)
    places = [tuple(row[key] for key in ("id", "_file", "_row", "first_file", "first_row"))
              for row in found.to_pylist()]  # fmt: skip
    assert places == [(50, 1, 4, 0, 51), (50, 1, 10, 0, 51), (50, 2, 8, 0, 51), (299, 2, 100, 2, 9)]

    schema = catalogue_schema(layout, shards, "ID", NAMES)
    if sky:
        partitions = plan_partitions(toy.count(layout, shards, 8, found), 40)
    else:
        partitions = plan_row_ranges(300, 40, row_numbers(shards, found))
    tables = [toy.read(layout, shards, partition, schema, 40, found) for partition in partitions]
    assert [table.num_rows for table in tables] == [partition.rows for partition in partitions]
    kept = sorted(number for table in tables for number in table["ID"].to_pylist())
    assert kept == sorted({number for numbers in ids for number in numbers.tolist()})


def test_what_is_in_the_store_comes_first(layout: Layout, toy: Any) -> None:
    held = toy.rows(np.arange(20, 30)).append_column(FILE, pa.array(np.full(10, 7, np.int32)))
    held = held.append_column(ROW, pa.array(np.arange(1, 11)))
    there = Partition("rows", 0, 0)
    commit_parquet(layout.partition(there), held)
    again = toy.shard(layout, "again", toy.rows(np.arange(90, 95)), 8)
    fresh = toy.shard(layout, "fresh", toy.rows(np.array([1, 1, 25, 93, 2, 25])), 2)
    found = find_duplicates(
        layout, [fresh], "ID", pa.int64(), at_most=9, stored_partitions=[there], reread=[again]
    )
    places = [(row["id"], row["_row"], row["first_file"], row["first_row"])
              for row in found.to_pylist()]  # fmt: skip
    assert sorted(places) == [(1, 2, 2, 1), (25, 3, 7, 6), (25, 6, 7, 6), (93, 4, 8, 4)]
    # Rows of a file that is there anew do not count.
    changed = toy.shard(layout, "changed", toy.rows(np.arange(20, 30)), 7)
    found = find_duplicates(
        layout, [changed], "ID", pa.int64(), at_most=9, stored_partitions=[there]
    )
    assert found.num_rows == 0


def test_rows_are_found_by_where_they_came_from(layout: Layout, toy: Any) -> None:
    shards = [toy.shard(layout, str(n), toy.rows(np.arange(30), n), n) for n in range(2)]
    found = find_rows(layout, shards, {1: np.array([3, 17]), 5: np.array([1])})
    schema = catalogue_schema(layout, shards, "ID", NAMES)
    kept = read_file_rows(layout, shards, {0: (1, 30), 1: (1, 30)}, schema, found)
    assert kept.num_rows == 58
    rows = kept.filter(pc.equal(kept[FILE], 1))[ROW].to_pylist()
    assert sorted(set(range(1, 31)) - set(rows)) == [3, 17]


def test_text_ids_and_missing_ids(layout: Layout, toy: Any) -> None:
    rows = toy.rows(np.arange(5))
    rows = rows.set_column(0, "ID", pa.array(["a", "b", None, None, "a"]))
    shards = [toy.shard(layout, "x", rows, 0)]
    found = find_duplicates(layout, shards, "ID", pa.string(), at_most=1)
    assert found["id"].to_pylist() == ["a"]


def test_too_many_duplicates_stop_the_run(layout: Layout, toy: Any) -> None:
    shards = [toy.shard(layout, str(n), toy.rows(np.arange(100), n), n) for n in range(2)]
    with pytest.raises(SpecError, match=r"100 rows repeat the id .* given twice"):
        find_duplicates(layout, shards, "ID", pa.int64(), at_most=3)


def test_duplicates_are_in_the_order_of_the_files_however_many(layout: Layout, toy: Any) -> None:
    shards = []
    for n in range(4):
        table = pa.table({"ID": np.arange(20_000) + 10_000 * n})
        shards.append(toy.shard(layout, str(n), table, n))
    found = find_duplicates(layout, shards, "ID", pa.int64(), at_most=10**6)
    places = found["_file"].to_numpy() * 100_000 + found["_row"].to_numpy()
    expected = [n * 100_000 + np.arange(1, 10_001) for n in range(1, 4)]
    np.testing.assert_array_equal(places, np.concatenate(expected))


def test_files_that_differ_in_types_are_brought_together(layout: Layout, toy: Any) -> None:
    rows = toy.rows(np.arange(10))
    other = toy.rows(np.arange(10, 20)).drop_columns(["dr"])
    other = other.set_column(3, "r", other["r"].cast(pa.float64()))
    columns = toy.survey().columns
    shards = [
        toy.shard(layout, "a", annotate(rows, columns), 0),
        toy.shard(layout, "b", annotate(other, columns), 1),
    ]
    schema = catalogue_schema(layout, shards, "ID", NAMES)
    assert schema.field("r").type == pa.float64()
    (partition,) = plan_partitions(toy.count(layout, shards, 8), 100)
    table = toy.read(layout, shards, partition, schema)
    assert table["dr"].null_count >= 10
    assert table.schema.field("RA").metadata[b"unit"] == b"deg"


def test_text_in_one_file_and_numbers_in_another_is_said(layout: Layout, toy: Any) -> None:
    rows = toy.rows(np.arange(3))
    text = rows.set_column(3, "r", pa.array(["a", "b", "c"]))
    shards = [toy.shard(layout, "a", rows, 0), toy.shard(layout, "b", text, 1)]
    with pytest.raises(
        SpecError,
        match=r"column 'r': no type .* float in file 0, string in file 1",
    ):
        catalogue_schema(layout, shards, "ID", NAMES)


def test_a_lost_or_damaged_shard_stops_the_run(layout: Layout, toy: Any) -> None:
    shard = toy.shard(layout, "a", toy.rows(np.arange(10)), 0)
    path = layout.shard("a")
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(SpecError, match="scan wrote 10 rows there, and it cannot be read"):
        count_pixels(layout, [shard], 3)
    path.unlink()
    with pytest.raises(SpecError, match=r"it is gone \(is 'scratch' on a disk that all workers"):
        count_pixels(layout, [shard], 3)


def test_a_shard_of_no_rows(layout: Layout, toy: Any) -> None:
    shards = [toy.shard(layout, n, toy.rows(np.arange(k)), 0) for n, k in (("a", 0), ("b", 5))]
    assert toy.count(layout, shards, 4).rows == 5
    assert find_duplicates(layout, shards, "ID", pa.int64(), at_most=0).num_rows == 0
    assert find_duplicates(layout, [], "ID", pa.int64(), at_most=0).num_rows == 0


def test_shards_travel_in_receipts(store: Any) -> None:
    for shard in store.shards:
        assert Shard.from_json(shard.to_json()) == shard
        assert shard.low <= shard.high
    assert FILE in PROVENANCE
