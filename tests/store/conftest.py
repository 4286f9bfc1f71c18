"""A small survey, its shards and its store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from galbatch.spec.survey import Survey
from galbatch.store.layout import Layout
from galbatch.store.partitions import PixelCounts, plan_partitions
from galbatch.store.publish import finish_catalogue, finish_extension
from galbatch.store.shard_rows import count_pixels, read_pixels, read_row_range
from galbatch.store.shard_schema import catalogue_schema
from galbatch.store.shards import Shard, sort_rows, write_shard
from galbatch.store.tables import FILE, HEALPIX, ROW, annotate, commit_parquet, read_partition
from galbatch.values import Partition, PredictedColumn

NAMES = {number: f"file {number}" for number in range(100)}

MODEL = "photometric"
PREDICTED = (
    PredictedColumn("z_mode", "float32", "", "src.redshift.phot;meta.main", "mode of p(z)"),
    PredictedColumn("abs_mag_b", "float32", "mag", "phot.mag;em.opt.B", "absolute magnitude"),
    PredictedColumn("z_pdf", "list<float32>[4]", "", "", "quantiles of p(z)"),
)


def make_survey(sky: bool = True) -> Survey:
    words = {
        "name": "toy",
        "title": "A toy survey",
        "id": {"column": "ID"},
        "bands": [
            {"name": "r", "wavelength": 6200, "width": 1000, "value": "r", "error": "dr"},
        ],
        "reference_band": "r",
        "columns": [
            {"name": "ID", "dtype": "int64", "ucd": "meta.id;meta.main"},
            {"name": "RA", "unit": "deg", "ucd": "pos.eq.ra", "description": "right ascension"},
            {"name": "Dec", "unit": "deg", "ucd": "pos.eq.dec"},
            {"name": "r", "dtype": "float32", "unit": "mag", "ucd": "phot.mag;em.opt.R"},
            {"name": "dr", "dtype": "float32", "unit": "mag"},
            {"name": "field", "dtype": "string"},
            {"name": "mags", "dtype": "float32", "shape": [3], "unit": "mag"},
        ],
    }
    if sky:
        words["sky"] = {"ra": "RA", "dec": "Dec"}
    return Survey.model_validate(words)


def make_rows(ids: np.ndarray, seed: int = 0, sky: bool = True) -> pa.Table:
    """Catalogue rows whose values follow from their id."""
    n = len(ids)
    rng = np.random.default_rng(seed)
    healpix = rng.integers(2**55, 2**55 + 2**50, n)
    columns = {
        "ID": ids,
        "RA": 10 + ids / 1000,
        "Dec": -5 + ids / 1000,
        "r": (20 + ids / 100).astype(np.float32),
        "dr": np.where(ids % 7 == 0, np.nan, 0.1).astype(np.float32),
        "field": [f"f{number % 3}" for number in ids],
        "mags": pa.FixedSizeListArray.from_arrays(np.repeat(ids, 3).astype(np.float32), 3),
    }
    if sky:
        columns[HEALPIX] = healpix
    return pa.table(columns)


def make_shard(layout: Layout, name: str, rows: pa.Table, file: int, first: int = 1) -> Shard:
    n = rows.num_rows
    rows = rows.append_column(FILE, pa.array(np.full(n, file, np.int32)))
    rows = rows.append_column(ROW, pa.array(np.arange(first, first + n)))
    return write_shard(layout, name, rows, file=file)


def count_rows(
    layout: Layout, shards: Sequence[Shard], order: int, without: pa.Table | None = None
) -> PixelCounts:
    return PixelCounts.total(count_pixels(layout, shards, order, without).values(), order)


def read_rows_of(
    layout: Layout,
    shards: Sequence[Shard],
    partition: Partition,
    schema: pa.Schema,
    size: int = 0,
    without: pa.Table | None = None,
) -> pa.Table:
    """The rows of one partition, as the ingest reads them."""
    if partition.kind == "rows":
        places = (partition.index * size, (partition.index + 1) * size)
        return sort_rows(read_row_range(layout, shards, places, schema, without), "ID")
    shift = 2 * (29 - partition.order)
    pixels = (partition.index << shift, (partition.index + 1) << shift)
    return sort_rows(read_pixels(layout, shards, pixels, schema, without), "ID")


@dataclass
class Store:
    layout: Layout
    survey: Survey
    shards: tuple[Shard, ...]
    partitions: tuple[Partition, ...]
    histogram: PixelCounts

    def predict(self, partitions: tuple[Partition, ...], shift: float = 0.0) -> None:
        for partition in partitions:
            table = read_partition(self.layout, partition, [HEALPIX, "ID", "RA", "Dec"])
            ids = table["ID"].to_numpy()
            table = table.append_column("z_mode", pa.array((ids / 1e3 + shift).astype(np.float32)))
            table = table.append_column("abs_mag_b", pa.array((-20 - ids / 1e3).astype(np.float32)))
            pdf = pa.FixedSizeListArray.from_arrays(np.repeat(ids, 4).astype(np.float32), 4)
            table = annotate(table.append_column("z_pdf", pdf), (*self.survey.columns, *PREDICTED))
            commit_parquet(self.layout.partition(partition, MODEL), table, {"model": MODEL})

    def publish(self, partitions: tuple[Partition, ...], catalogue: str = "c1") -> tuple[str, ...]:
        return finish_extension(
            self.layout, self.survey, MODEL, partitions, [c.name for c in PREDICTED],
            fingerprint="m1", catalogue=catalogue, histogram=self.histogram,
        )  # fmt: skip


def make_store(root: Path) -> Store:
    """3000 rows from two files in three shards, as a finished catalogue."""
    layout, survey = Layout(root), make_survey()
    shards = (
        make_shard(layout, "0-0", make_rows(np.arange(0, 1500), 0), file=0),
        make_shard(layout, "0-1", make_rows(np.arange(1500, 2000), 1), file=0, first=1501),
        make_shard(layout, "1-0", make_rows(np.arange(2000, 3000), 2), file=1),
    )
    histogram = count_rows(layout, shards, 9)
    partitions = plan_partitions(histogram, 400)
    schema = catalogue_schema(layout, shards, "ID", NAMES)
    for partition in partitions:
        table = read_rows_of(layout, shards, partition, schema)
        commit_parquet(
            layout.partition(partition), annotate(table, survey.columns), {"survey": "toy"}
        )
    finish_catalogue(layout, survey, partitions, fingerprint="c1", histogram=histogram)
    return Store(layout, survey, shards, partitions, histogram)


class Toy:
    """What tests make their own stores of (test modules cannot import one another)."""

    model = MODEL
    predicted = PREDICTED
    survey = staticmethod(make_survey)
    rows = staticmethod(make_rows)
    shard = staticmethod(make_shard)
    store = staticmethod(make_store)
    count = staticmethod(count_rows)
    read = staticmethod(read_rows_of)


@pytest.fixture
def toy() -> Toy:
    return Toy()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return make_store(tmp_path / "store")
