"""What every reader promises, held for each format over the same table."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zipfile
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
import zarr
from astropy.io import fits
from astropy.io.votable import from_table
from astropy.table import Table

from galbatch.errors import DataError, SpecError
from galbatch.readers import Batch, open_reader

ROWS = 1000
TYPES = {
    "ID": pa.int64(),
    "RA": pa.float64(),
    "F365W": pa.float32(),
    "Satur_Flag": pa.int16(),
    "name": pa.string(),
    "MAG_AUTO": pa.list_(pa.float32(), 3),
}


def make_table(rows: int) -> pa.Table:
    random = np.random.default_rng(1)
    magnitude = np.round(random.normal(24, 2, rows), 3).astype(np.float32)
    magnitude[::7], magnitude[::11] = 99, -99
    vectors = np.round(random.normal(22, 1, 3 * rows), 3).astype(np.float32)
    return pa.table(
        {
            "ID": np.arange(rows) + 81_473_306_375,
            "RA": random.uniform(0, 360, rows),
            "F365W": magnitude,
            "Satur_Flag": random.integers(0, 2, rows).astype(np.int16),
            "name": [f"galaxy {row}" for row in range(rows)],
            "MAG_AUTO": pa.FixedSizeListArray.from_arrays(pa.array(vectors), 3),
        }
    )


def write_csv(table: pa.Table, path: Path) -> None:
    columns = {name: table[name].to_pylist() for name in table.column_names}
    columns["MAG_AUTO"] = [" ".join(str(np.float32(v)) for v in row) for row in columns["MAG_AUTO"]]
    columns["F365W"] = [str(np.float32(v)) for v in columns["F365W"]]
    pyarrow.csv.write_csv(pa.table(columns), path)


def zipped(content: bytes) -> bytes:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("folder/catalogue", content)
    return archive.getvalue()


def zstd(content: bytes) -> bytes:
    return pa.Codec("zstd").compress(content, asbytes=True)


PACK: dict[str, Callable[[bytes], bytes]] = {
    "gz": gzip.compress,
    "bz2": lambda content: bz2.compress(content, 1),
    "xz": lambda content: lzma.compress(content, preset=0),
    "zst": zstd,
    "zip": zipped,
}


def packed(write: Callable[[pa.Table, Path], None], path: Path, table: pa.Table) -> None:
    """Write a file, then pack it as its ending says."""
    plain = path.with_suffix(".plain")
    write(table, plain)
    path.write_bytes(PACK[path.suffix[1:]](plain.read_bytes()))


def write_csv_packed(table: pa.Table, path: Path) -> None:
    packed(write_csv, path, table)


def write_fits_packed(table: pa.Table, path: Path) -> None:
    packed(write_fits, path, table)


def write_parquet(table: pa.Table, path: Path) -> None:
    pq.write_table(table, path, row_group_size=300, write_page_checksum=True)


def write_fits(table: pa.Table, path: Path) -> None:
    size = table.num_rows
    vectors = table["MAG_AUTO"].combine_chunks().flatten().to_numpy().reshape(size, 3)
    columns = [
        fits.Column("ID", "K", array=table["ID"].to_numpy()),
        fits.Column("RA", "D", unit="deg", array=table["RA"].to_numpy()),
        fits.Column("F365W", "E", array=table["F365W"].to_numpy()),
        fits.Column("Satur_Flag", "I", array=table["Satur_Flag"].to_numpy()),
        fits.Column("name", "12A", array=np.array(table["name"].to_pylist(), dtype="S12")),
        fits.Column("MAG_AUTO", "3E", array=vectors),
    ]
    fits.BinTableHDU.from_columns(columns, nrows=size).writeto(path)


def write_hdf5(table: pa.Table, path: Path) -> None:
    with h5py.File(path, "w") as file:
        for name in table.column_names:
            column = table[name]
            if name == "MAG_AUTO":
                flat = column.combine_chunks().flatten().to_numpy()
                values = flat.reshape(table.num_rows, 3)
            elif name == "name":
                values = np.array(column.to_pylist(), dtype="S12")
            else:
                values = column.to_numpy()
            file.create_dataset(f"photometry/{name}", data=values)


def arrays_of(table: pa.Table) -> dict[str, np.ndarray]:
    """The columns as NumPy has them."""
    vectors = table["MAG_AUTO"].combine_chunks().flatten().to_numpy()
    names = [name for name in table.column_names if name not in ("name", "MAG_AUTO")]
    return {name: table[name].to_numpy() for name in names} | {
        "name": np.array(table["name"].to_pylist(), dtype="U12"),
        "MAG_AUTO": vectors.reshape(table.num_rows, 3),
    }


def write_zarr(table: pa.Table, path: Path) -> None:
    group = zarr.open_group(str(path), mode="w")
    for name, values in arrays_of(table).items():
        if name == "name":
            values = values.astype(np.dtypes.StringDType())
        group.create_array(name, data=values, chunks=(300, *values.shape[1:]))


def write_zarr_2(table: pa.Table, path: Path) -> None:
    group = zarr.open_group(str(path), mode="w", zarr_format=2)
    for name, values in arrays_of(table).items():
        stored = values.astype("S12") if name == "name" else values
        group.create_array(f"phot/{name}", data=stored, chunks=(300, *values.shape[1:]))


def write_npz(table: pa.Table, path: Path) -> None:
    np.savez_compressed(path, **arrays_of(table))


def write_npy(table: pa.Table, path: Path) -> None:
    arrays = arrays_of(table)
    layout = [(name, one.dtype, one.shape[1:]) for name, one in arrays.items()]
    rows = np.zeros(table.num_rows, layout)
    for name, one in arrays.items():
        rows[name] = one
    np.save(path, rows)


def write_votable(table: pa.Table, path: Path, serialization: str = "tabledata") -> None:
    columns = {name: table[name].to_numpy() for name in table.column_names if name != "MAG_AUTO"}
    columns["name"] = np.array(table["name"].to_pylist(), dtype=object if table else "U9")
    vectors = table["MAG_AUTO"].combine_chunks().flatten().to_numpy()
    columns["MAG_AUTO"] = vectors.reshape(table.num_rows, 3)
    whole = from_table(Table(columns))
    plain = path.with_suffix(".plain")
    whole.to_xml(str(plain), tabledata_format=serialization)
    content = plain.read_bytes()
    path.write_bytes(PACK[path.suffix[1:]](content) if path.suffix[1:] in PACK else content)


def write_binary(table: pa.Table, path: Path) -> None:
    write_votable(table, path, "binary")


def write_binary2(table: pa.Table, path: Path) -> None:
    write_votable(table, path, "binary2")


WRITERS: dict[str, Callable[[pa.Table, Path], None]] = {
    "csv": write_csv,
    "csv.gz": write_csv_packed,
    "csv.bz2": write_csv_packed,
    "csv.xz": write_csv_packed,
    "csv.zst": write_csv_packed,
    "csv.zip": write_csv_packed,
    "parquet": write_parquet,
    "fits": write_fits,
    "fits.gz": write_fits,
    "fits.bz2": write_fits_packed,
    "hdf5": write_hdf5,
    "zarr": write_zarr,
    "2.zarr": write_zarr_2,
    "npz": write_npz,
    "npy": write_npy,
    "vot": write_votable,
    "xml": write_binary,
    "votable": write_binary2,
    "vot.gz": write_votable,
}
WHOLE = ("parquet", "hdf5", "npz", "npy", "vot", "xml", "votable", "vot.gz", "csv.zip")
"""Formats of which nothing is readable when their end is missing."""
FILES = [ending for ending in WRITERS if not ending.endswith("zarr")]
CUT = [ending for ending in FILES if ending != "csv"]
"""A CSV file that is cut between two rows is a shorter one."""
every_format = pytest.mark.parametrize("ending", WRITERS)


def write(folder: Path, ending: str, rows: int = ROWS) -> tuple[str, pa.Table]:
    table = make_table(rows)
    path = folder / f"catalogue.{ending}"
    WRITERS[ending](table, path)
    return str(path), table


def read(path: str, types: dict[str, pa.DataType] = TYPES, rows: int = 128) -> list[Batch]:
    found = open_reader(None, path).batches(path, types, rows)
    batches = list(found)
    # The law of rows.
    assert found.records == sum(len(batch.rows) + len(batch.rejected) for batch in batches)
    return batches


def joined(batches: list[Batch]) -> pa.Table:
    return pa.concat_tables([batch.table for batch in batches])


@every_format
def test_columns_come_in_file_order(tmp_path: Path, ending: str) -> None:
    path, table = write(tmp_path, ending)
    found = open_reader(None, path).header(path).names
    if ending in ("npz", "npy"):  # as they were saved
        assert sorted(found) == sorted(table.column_names)
    elif ending == "hdf5" or ending.endswith("zarr"):
        assert list(found) == sorted(table.column_names)
    else:
        assert list(found) == table.column_names


@every_format
@pytest.mark.parametrize("rows", [1, 128, 1000, 5000])
def test_same_rows_whatever_the_batch(tmp_path: Path, ending: str, rows: int) -> None:
    path, table = write(tmp_path, ending, ROWS if rows > 1 else 10)
    batches = read(path, rows=rows)
    assert all(0 < len(batch.rows) <= rows for batch in batches)
    assert all(len(batch.rows) == batch.table.num_rows for batch in batches)
    numbers = np.concatenate([batch.rows for batch in batches])
    assert numbers.dtype == np.int64
    np.testing.assert_array_equal(numbers, np.arange(1, table.num_rows + 1))
    assert joined(batches).to_pylist() == table.to_pylist()
    assert not any(batch.rejected for batch in batches)


@every_format
def test_types_are_as_asked_for(tmp_path: Path, ending: str) -> None:
    path, _ = write(tmp_path, ending)
    for batch in read(path):
        assert dict(zip(batch.table.schema.names, batch.table.schema.types, strict=True)) == TYPES


@every_format
def test_reads_only_what_is_asked_for(tmp_path: Path, ending: str) -> None:
    path, table = write(tmp_path, ending)
    batches = read(path, {"F365W": pa.float32(), "ID": pa.int64()})
    assert joined(batches).to_pydict() == table.select(["F365W", "ID"]).to_pydict()


@every_format
def test_a_file_without_rows_yields_nothing(tmp_path: Path, ending: str) -> None:
    path, table = write(tmp_path, ending, rows=0)
    assert sorted(open_reader(None, path).header(path).names) == sorted(table.column_names)
    assert read(path) == []


@every_format
def test_a_column_that_is_not_there(tmp_path: Path, ending: str) -> None:
    path, _ = write(tmp_path, ending)
    with pytest.raises(SpecError, match=r"has no column 'F356W' \(did you mean 'F365W'\?\)"):
        read(path, {"F356W": pa.float32()})


@every_format
def test_text_where_a_number_is_wanted_rejects_the_row(tmp_path: Path, ending: str) -> None:
    path, _ = write(tmp_path, ending, rows=3)
    (batch,) = read(path, {"ID": pa.int64(), "name": pa.float32()})
    assert len(batch.rows) == 0
    assert [row.row for row in batch.rejected] == [1, 2, 3]
    assert batch.rejected[0].reason == "column 'name': expected a number, got 'galaxy 0'"
    assert batch.rejected[0].file == path


@every_format
def test_vectors_of_another_length(tmp_path: Path, ending: str) -> None:
    path, _ = write(tmp_path, ending, rows=3)
    types = {"MAG_AUTO": pa.list_(pa.float32(), 60)}
    if ending.startswith("csv"):
        (batch,) = read(path, types)
        assert "expected 60 numbers, got" in batch.rejected[0].reason
    else:
        with pytest.raises(SpecError, match=r"'MAG_AUTO': expected 60 values per row, .* holds 3"):
            read(path, types)


@every_format
def test_no_such_file(tmp_path: Path, ending: str) -> None:
    path = str(tmp_path / f"none.{ending}")
    with pytest.raises(SpecError, match="there is no such file"):
        open_reader(None, path).header(path)
    with pytest.raises(SpecError, match="there is no such file"):
        read(path)


@every_format
def test_a_folder_is_no_file(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"folder.{ending}"
    path.mkdir()
    zarr_ = ending.endswith("zarr")
    problem = "is a folder, but no Zarr group" if zarr_ else "is a folder, not a file"
    with pytest.raises(SpecError, match=problem):
        open_reader(None, str(path)).header(str(path))


@every_format
def test_an_empty_file(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"empty.{ending}"
    path.touch()
    with pytest.raises(SpecError, match="is empty"):
        open_reader(None, str(path)).header(str(path))
    with pytest.raises(SpecError, match="is empty"):
        read(str(path))


@pytest.mark.parametrize("ending", CUT)
@pytest.mark.parametrize("size", [12, 1100])
def test_hardly_more_than_the_beginning(tmp_path: Path, ending: str, size: int) -> None:
    path, _ = write(tmp_path, ending)
    Path(path).write_bytes(Path(path).read_bytes()[:size])
    with pytest.raises(DataError) as caught:
        read(path)
    assert "\n" not in str(caught.value)


@every_format
def test_records_are_counted_apart(tmp_path: Path, ending: str) -> None:
    path, table = write(tmp_path, ending)
    batches = open_reader(None, path).batches(path, {"name": pa.float32()}, 128)
    rejected = sum(len(batch.rejected) for batch in batches)
    assert rejected == batches.records == table.num_rows


@every_format
def test_no_permission(tmp_path: Path, ending: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path, _ = write(tmp_path, ending, rows=1)

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(SpecError, match="may not be read"):
        open_reader(None, path).header(path)


def two_files() -> bytes:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("[Content_Types].xml", "<?xml version='1.0'?>")
        file.writestr("xl/workbook.xml", "<?xml version='1.0'?>")
    return archive.getvalue()


TWO_FILES = two_files()


@every_format
@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"<!DOCTYPE html>\n<html><body>404</body></html>\n", "a web page"),
        (TWO_FILES, "zip archive"),
    ],
)
def test_something_else_under_that_name(
    tmp_path: Path, ending: str, content: bytes, what: str
) -> None:
    path = tmp_path / f"catalogue.{ending}"
    path.write_bytes(content)
    with pytest.raises(SpecError, match=what):
        open_reader(None, str(path)).header(str(path))
    with pytest.raises(SpecError, match=what):
        read(str(path))


@pytest.mark.parametrize("ending", CUT)
@pytest.mark.parametrize("share", [0.3, 0.9])
def test_a_file_that_is_cut_short(tmp_path: Path, ending: str, share: float) -> None:
    path, table = write(tmp_path, ending, rows=20_000)
    whole = Path(path).read_bytes()
    Path(path).write_bytes(whole[: int(share * len(whole))])
    batches: list[Batch] = []
    with pytest.raises(DataError, match="early") as caught:
        batches.extend(open_reader(None, path).batches(path, TYPES, 128))
    assert "the download may be incomplete" in str(caught.value)
    assert "\n" not in str(caught.value)
    if ending in WHOLE:
        assert not batches
        return
    before = sum(len(batch.rows) for batch in batches)
    assert f"after row {before:,}" in str(caught.value)
    assert 0.5 * share < before / table.num_rows < share + 0.1
    assert joined(batches).to_pylist() == table.slice(0, before).to_pylist()


@pytest.mark.parametrize(
    "ending",
    ["csv.gz", "csv.bz2", "csv.xz", "csv.zst", "csv.zip", "fits.gz", "parquet", "vot.gz", "npz"],
)
def test_a_damaged_file(tmp_path: Path, ending: str) -> None:
    path, _ = write(tmp_path, ending, rows=20_000)
    content = bytearray(Path(path).read_bytes())
    middle = len(content) // 2
    content[middle : middle + 64] = bytes(64)
    Path(path).write_bytes(content)
    with pytest.raises(DataError) as caught:
        read(path)
    assert "after row" in str(caught.value)
    assert "\n" not in str(caught.value)
