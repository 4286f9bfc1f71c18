"""The store in the hands of other programs: values and units, with no galbatch in between."""

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
from astropy import units
from astropy.table import Table, vstack
from small import ROWS, partitions

TABLES = ("catalogue", "predictions/photometric")
VECTOR = "z_quantiles"
MEANING = {
    "catalogue": {
        "RA": ("deg", "pos.eq.ra;meta.main"),
        "F365W": ("mag", "phot.mag;em.opt.U"),
        "ID": ("", "meta.id;meta.main"),
    },
    "predictions/photometric": {
        "RA": ("deg", "pos.eq.ra;meta.main"),
        "abs_mag_b": ("mag", "phys.magAbs;em.opt.B"),
        "z_mode": ("", "src.redshift.phot;meta.main"),
        VECTOR: ("", "stat.pdf;src.redshift.phot"),
    },
}
"""Unit and UCD of some columns."""


@pytest.fixture(scope="module", params=TABLES)
def table(request: pytest.FixtureRequest) -> str:
    """The catalogue, or a model's predictions."""
    return str(request.param)


@pytest.fixture(scope="module")
def truth(finished: Path, table: str) -> dict[str, np.ndarray]:
    """What pyarrow reads, file by file: columns by name, in the order of the ids."""
    tables = [pq.ParquetFile(path).read() for path in partitions(finished, table)]
    rows = pa.concat_tables(tables).sort_by("ID")
    assert rows.num_rows == ROWS
    return {name: values(rows[name].to_pylist()) for name in rows.column_names}


def values(column: Any) -> np.ndarray:
    """Numbers, or lists of numbers, as an array; what is missing is NaN."""
    first = np.asarray(column[0])
    if first.dtype.kind in "US":
        return np.asarray(column, dtype=str)
    if first.ndim:
        return np.stack([np.asarray(row, float) for row in column])
    return np.array([np.nan if one is None or one is pd.NA else one for one in column])


def agree(found: dict[str, np.ndarray], truth: dict[str, np.ndarray], wanted: set[str]) -> None:
    """The same columns and values, in the order of the ids."""
    assert set(found) == wanted
    order = np.argsort(found["ID"])
    for name in sorted(wanted):
        column, expected = found[name][order], truth[name]
        assert column.shape == expected.shape, name
        np.testing.assert_array_equal(column, expected, err_msg=name)


def glob(folder: Path, table: str) -> str:
    return f"{folder}/store/{table}/dataset/**/Npix=*.parquet"


def test_duckdb(finished: Path, table: str, truth: dict[str, np.ndarray]) -> None:
    query = f"SELECT * FROM read_parquet('{glob(finished, table)}', hive_partitioning = false)"
    relation = duckdb.sql(query)
    columns = list(zip(*relation.fetchall(), strict=True))
    found = {name: values(column) for name, column in zip(relation.columns, columns, strict=True)}
    agree(found, truth, set(truth))


def test_duckdb_joins_the_predictions_by_id(finished: Path) -> None:
    one, other = (f"read_parquet('{glob(finished, table)}')" for table in TABLES)
    joined = duckdb.sql(f"SELECT count(*), count(F365W), count(z_mode) FROM {one} JOIN {other} "
                        "USING (ID)").fetchall()  # fmt: skip
    assert joined == [(ROWS, ROWS, ROWS)]


def test_polars(finished: Path, table: str, truth: dict[str, np.ndarray]) -> None:
    frame = pl.read_parquet(glob(finished, table), hive_partitioning=False)
    found = {name: values(frame[name].to_list()) for name in frame.columns}
    agree(found, truth, set(truth))


def test_polars_reads_lazily_what_is_asked_for(finished: Path) -> None:
    scan = pl.scan_parquet(glob(finished, TABLES[1]), hive_partitioning=False)
    near = scan.filter(pl.col("z_mode") < 0.5).select("ID", "z_mode").collect()
    assert near.columns == ["ID", "z_mode"]
    assert 0 < near.height < ROWS


def test_pandas(finished: Path, table: str, truth: dict[str, np.ndarray]) -> None:
    frame = pd.read_parquet(finished / "store" / table / "dataset")
    added = {"Norder", "Dir", "Npix"} & set(frame.columns)
    found = {name: values(frame[name].tolist()) for name in frame.columns if name not in added}
    agree(found, truth, set(truth))


def test_astropy(finished: Path, table: str, truth: dict[str, np.ndarray]) -> None:
    read = [
        Table.read(path, format="parquet.votable") for path in partitions(finished, table)
    ]  # fmt: skip
    rows = vstack(read, metadata_conflicts="silent")
    found = {name: np.asarray(rows[name]) for name in rows.colnames}
    agree(found, truth, set(truth))
    for name, (unit, ucd) in MEANING[table].items():
        for part in read:
            assert (part[name].unit or units.dimensionless_unscaled) == units.Unit(unit), name
            assert part[name].meta["ucd"] == ucd, name
            assert part[name].description, name


def test_lsdb(finished: Path, truth: dict[str, np.ndarray], table: str) -> None:
    import dask
    import lsdb

    with dask.config.set(scheduler="synchronous"):
        catalogue = lsdb.open_catalog(finished / "store")
        if table != "catalogue":
            catalogue = catalogue.load_extension("photometric")
        frame = catalogue.compute()
    assert len(frame) == ROWS
    names = set(frame.columns) & set(truth)
    # lsdb makes the index of the HEALPix pixel.
    assert names >= set(truth) - {"_healpix_29"}
    found = {name: values(frame[name].tolist()) for name in names}
    agree(found, truth, names)


def test_units_are_in_every_file(finished: Path, table: str) -> None:
    """Where those find them who read by pandas, Polars or DuckDB: in the fields' metadata."""
    folder = finished / "store" / table / "dataset"
    for path in (*partitions(finished, table), folder / "_metadata", folder / "_common_metadata"):
        schema = pq.read_schema(path)
        for name, (unit, ucd) in MEANING[table].items():
            words = schema.field(name).metadata or {}
            assert words.get(b"unit", b"").decode() == unit, (path.name, name)
            assert words[b"ucd"].decode() == ucd, (path.name, name)


def test_duckdb_finds_the_units_without_another_library(finished: Path, table: str) -> None:
    """They are in the VOTable header too, a key of the file's metadata."""
    path = str(partitions(finished, table)[0])
    query = "SELECT value FROM parquet_kv_metadata(?) WHERE key = 'IVOA.VOTable-Parquet.content'"
    ((found,),) = duckdb.execute(query, [path]).fetchall()
    header = bytes(found).decode()
    assert 'name="RA"' in header
    assert 'unit="deg"' in header
    assert pl.read_parquet_metadata(path)["IVOA.VOTable-Parquet.content"] == header
