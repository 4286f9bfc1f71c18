"""Spectra, masks and cutouts: the same arrays from every format that has them."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zarr
from astropy.io import fits

from galbatch.columns import to_numpy
from galbatch.errors import GalbatchError, SpecError
from galbatch.readers import Batch, open_reader

ROWS = 37
PIXELS = 4096
TYPES = {
    "id": pa.int64(),
    "flux": pa.fixed_shape_tensor(pa.float32(), [PIXELS], dim_names=["wavelength"]),
    "ivar": pa.fixed_shape_tensor(pa.float32(), [PIXELS], dim_names=["wavelength"]),
    "mask": pa.fixed_shape_tensor(pa.uint8(), [PIXELS]),
    "cutout": pa.fixed_shape_tensor(pa.float32(), [5, 8, 8], dim_names=["band", "y", "x"]),
}
Arrays = dict[str, np.ndarray]
SHAPED = [name for name in TYPES if name != "id"]


def make_arrays(rows: int = ROWS) -> Arrays:
    random = np.random.default_rng(2)
    flux = random.normal(size=(rows, PIXELS)).astype(np.float32)
    flux[::5, 100:200] = np.nan
    return {
        "id": np.arange(rows) + 2**60,
        "flux": flux,
        "ivar": random.uniform(size=(rows, PIXELS)).astype(np.float32),
        "mask": random.integers(0, 256, (rows, PIXELS)).astype(np.uint8),
        "cutout": random.normal(size=(rows, 5, 8, 8)).astype(np.float32),
    }


_CODES = {"f4": "E", "f8": "D", "u1": "B", "i2": "I", "i8": "K"}


def fits_column(name: str, values: np.ndarray) -> fits.Column:
    shape = values.shape[1:]
    code = f"{int(np.prod(shape))}{_CODES[values.dtype.str[1:]]}"
    dim = f"({','.join(map(str, reversed(shape)))})" if len(shape) > 1 else None
    return fits.Column(name, code, dim=dim, array=values)


def write_fits_vectors(arrays: Arrays, path: Path) -> None:
    columns = [fits_column(name, values) for name, values in arrays.items()]
    rows = len(arrays["id"])
    fits.BinTableHDU.from_columns(columns, nrows=rows).writeto(path)


def write_fits_images(arrays: Arrays, path: Path) -> None:
    """As surveys of spectra do: a table, and images with a row for each of its rows."""
    table = fits.BinTableHDU.from_columns([fits_column("id", arrays["id"])], name="FIBERMAP")
    images = [fits.ImageHDU(values, name=name) for name, values in arrays.items() if name != "id"]
    wavelength = fits.ImageHDU(np.linspace(3600, 9800, PIXELS), name="WAVELENGTH")
    fits.HDUList([fits.PrimaryHDU(), wavelength, images[0], table, *images[1:]]).writeto(path)


def write_fits_images_packed(arrays: Arrays, path: Path) -> None:
    plain = path.with_suffix("")
    write_fits_images(arrays, plain)
    path.write_bytes(gzip.compress(plain.read_bytes(), 1))


def write_hdf5(arrays: Arrays, path: Path) -> None:
    with h5py.File(path, "w") as file:
        for name, values in arrays.items():
            chunks = (min(8, len(values)), *values.shape[1:]) if len(values) else None
            file.create_dataset(f"spectra/{name}", data=values, chunks=chunks)
        file["spectra/wavelength"] = np.linspace(3600, 9800, PIXELS)


def write_hdf5_compound(arrays: Arrays, path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["spectra"] = structured(arrays)


def write_zarr(arrays: Arrays, path: Path) -> None:
    group = zarr.open_group(str(path), mode="w")
    for name, values in arrays.items():
        shape = values.shape[1:]
        group.create_array(name, data=values, chunks=(4, *shape), shards=(16, *shape), fill_value=0)
    group.create_array("wavelength", data=np.linspace(3600, 9800, PIXELS))


def write_zarr_2(arrays: Arrays, path: Path) -> None:
    group = zarr.open_group(str(path), mode="w", zarr_format=2)
    for name, values in arrays.items():
        group.create_array(name, data=values, chunks=(7, *values.shape[1:]))


def as_tensors(arrays: Arrays) -> pa.Table:
    columns = {}
    for name, values in arrays.items():
        columns[name] = pa.array(values) if name == "id" else tensor(values)
    return pa.table(columns)


def tensor(values: np.ndarray) -> pa.Array:
    flat = pa.array(values.reshape(-1))
    size = int(np.prod(values.shape[1:]))
    kind = pa.fixed_shape_tensor(flat.type, values.shape[1:])
    return kind.wrap_array(pa.FixedSizeListArray.from_arrays(flat, size))


def nested(values: np.ndarray, kind: str) -> pa.Array:
    """Lists of lists, of a kind."""
    found = pa.array(values.reshape(-1))
    for size in reversed(values.shape[1:]):
        offsets = np.arange(0, len(found) + 1, size)
        if kind == "fixed":
            found = pa.FixedSizeListArray.from_arrays(found, size)
        elif kind == "large":
            found = pa.LargeListArray.from_arrays(offsets.astype(np.int64), found)
        else:
            found = pa.ListArray.from_arrays(offsets.astype(np.int32), found)
    return found


def write_parquet(arrays: Arrays, path: Path) -> None:
    pq.write_table(as_tensors(arrays), path, row_group_size=30)


def write_parquet_lists(kind: str) -> Callable[[Arrays, Path], None]:
    def write(arrays: Arrays, path: Path) -> None:
        columns = {
            name: pa.array(values) if name == "id" else nested(values, kind)
            for name, values in arrays.items()
        }
        pq.write_table(pa.table(columns), path, row_group_size=30)

    return write


def write_npz(arrays: Arrays, path: Path) -> None:
    np.savez_compressed(path, **arrays, wavelength=np.linspace(3600, 9800, PIXELS))


def structured(arrays: Arrays) -> np.ndarray:
    layout = [(name, one.dtype, one.shape[1:]) for name, one in arrays.items()]
    rows = np.zeros(len(arrays["id"]), layout)
    for name, one in arrays.items():
        rows[name] = one
    return rows


def write_npy(arrays: Arrays, path: Path) -> None:
    np.save(path, structured(arrays))


WRITERS: dict[str, tuple[str, Callable[[Arrays, Path], None]]] = {
    "FITS vectors": ("fits", write_fits_vectors),
    "FITS images": ("fits", write_fits_images),
    "FITS images, packed": ("fits.gz", write_fits_images_packed),
    "HDF5": ("hdf5", write_hdf5),
    "HDF5, compound": ("hdf5", write_hdf5_compound),
    "Zarr 3, shards": ("zarr", write_zarr),
    "Zarr 2": ("zarr", write_zarr_2),
    "Parquet tensors": ("parquet", write_parquet),
    "Parquet lists": ("parquet", write_parquet_lists("plain")),
    "Parquet large lists": ("parquet", write_parquet_lists("large")),
    "Parquet fixed-size lists": ("parquet", write_parquet_lists("fixed")),
    "npz": ("npz", write_npz),
    "npy": ("npy", write_npy),
}
every_format = pytest.mark.parametrize("format", WRITERS)


def write(folder: Path, format: str, arrays: Arrays) -> str:
    ending, writer = WRITERS[format]
    path = folder / f"spectra.{ending}"
    writer(arrays, path)
    return str(path)


def spelled(path: str) -> dict[str, str]:
    """How the file spells each column: FITS writes names of images in capitals."""
    return {name.lower(): name for name in open_reader(None, path).header(path).names}


def read(path: str, types: dict[str, pa.DataType] = TYPES, rows: int = 10) -> list[Batch]:
    names = spelled(path)
    asked = {names.get(name, name): kind for name, kind in types.items()}
    batches = open_reader(None, path).batches(path, asked, rows)
    found = list(batches)
    assert batches.records == sum(len(batch.rows) + len(batch.rejected) for batch in found)
    back = {spelling: name for name, spelling in names.items()}
    return [
        Batch(
            batch.rows,
            batch.table.rename_columns([back[name] for name in batch.table.column_names]),
            batch.rejected,
        )
        for batch in found
    ]


def joined(batches: list[Batch]) -> pa.Table:
    return pa.concat_tables([batch.table for batch in batches])


def said(path: str, types: dict[str, pa.DataType]) -> str:
    with pytest.raises(GalbatchError) as caught:
        read(path, types)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@every_format
@pytest.mark.parametrize("rows", [1, 10, 16, 100])
def test_the_same_arrays_whatever_the_batch(tmp_path: Path, format: str, rows: int) -> None:
    arrays = make_arrays(ROWS if rows > 1 else 3)
    batches = read(write(tmp_path, format, arrays), rows=rows)
    assert all(0 < len(batch.rows) <= rows for batch in batches)
    table = joined(batches)
    assert dict(zip(table.schema.names, table.schema.types, strict=True)) == TYPES
    for name, values in arrays.items():
        np.testing.assert_array_equal(to_numpy(table[name]), values)
        assert table[name].null_count == 0
    storage = table["flux"].combine_chunks().storage
    assert storage.flatten().null_count == 0


@every_format
def test_the_header_says_the_shapes(tmp_path: Path, format: str) -> None:
    path = write(tmp_path, format, make_arrays(3))
    header = open_reader(None, path).header(path)
    found = {column.name.lower(): column for column in header.columns}
    assert {*TYPES} <= {*found}
    if format not in ("Parquet lists", "Parquet large lists", "Parquet fixed-size lists"):
        kind = found["cutout"].type
        assert isinstance(kind, pa.FixedShapeTensorType)
        assert list(kind.shape) == [5, 8, 8]
    if format.startswith("FITS images"):
        assert {column.name for column in header.columns if column.beside} == {
            name.upper() for name in SHAPED
        }


@every_format
def test_no_rows(tmp_path: Path, format: str) -> None:
    path = write(tmp_path, format, make_arrays(0))
    assert {*TYPES} <= {*spelled(path)}
    assert read(path) == []


@every_format
def test_axes_in_another_order(tmp_path: Path, format: str) -> None:
    arrays = make_arrays(3)
    arrays["cutout"] = np.ascontiguousarray(np.moveaxis(arrays["cutout"], 1, -1))
    path = write(tmp_path, format, arrays)
    if format in ("Parquet lists", "Parquet large lists"):  # each row has lengths of its own
        (batch,) = read(path, {"cutout": TYPES["cutout"]})
        assert len(batch.rows) == 0
        assert [row.row for row in batch.rejected] == [1, 2, 3]
        assert "expected an array of shape (5, 8, 8), got 8 values" in batch.rejected[0].reason
        return
    message = said(path, {"cutout": TYPES["cutout"]})
    assert "expected rows of shape (5, 8, 8), the file holds rows of shape (8, 8, 5)" in message


@every_format
def test_axes_of_another_number(tmp_path: Path, format: str) -> None:
    path = write(tmp_path, format, make_arrays(3))
    flat = said(path, {"cutout": pa.fixed_shape_tensor(pa.float32(), [320])})
    assert "expected rows of shape (320,), the file holds" in flat
    deep = said(path, {"flux": pa.fixed_shape_tensor(pa.float32(), [64, 64])})
    assert "expected rows of shape (64, 64), the file holds" in deep


@every_format
def test_rows_of_another_length(tmp_path: Path, format: str) -> None:
    path = write(tmp_path, format, make_arrays(3))
    types = {"flux": pa.fixed_shape_tensor(pa.float32(), [4000])}
    if format in ("Parquet lists", "Parquet large lists"):
        (batch,) = read(path, types)
        assert len(batch.rejected) == 3
        assert batch.rejected[0].reason == (
            "column 'flux': expected an array of shape (4000,), got 4096 values"
        )
    else:
        assert "expected rows of shape (4000,), the file holds" in said(path, types)


@every_format
def test_wider_floats_are_refused_and_narrower_ones_widened(tmp_path: Path, format: str) -> None:
    arrays = make_arrays(3)
    arrays["ivar"] = arrays["ivar"].astype(np.float64) / 3
    path = write(tmp_path, format, arrays)
    message = said(path, TYPES)
    assert "'ivar'" in message.lower()
    assert "the file holds float64, which float32 would round: write dtype: float64" in message
    wide = pa.fixed_shape_tensor(pa.float64(), [PIXELS])
    table = joined(read(path, {"flux": wide, "ivar": wide}))
    np.testing.assert_array_equal(to_numpy(table["flux"]), arrays["flux"].astype(np.float64))
    np.testing.assert_array_equal(to_numpy(table["ivar"]), arrays["ivar"])


@every_format
def test_integers_must_fit(tmp_path: Path, format: str) -> None:
    arrays = make_arrays(3)
    arrays["mask"] = arrays["mask"].astype(np.int16)
    arrays["mask"][1, 7] = 256
    path = write(tmp_path, format, arrays)
    (batch,) = read(path, {"id": pa.int64(), "mask": TYPES["mask"]})
    assert batch.rows.tolist() == [1, 3]
    (rejected,) = batch.rejected
    assert rejected.row == 2
    assert "expected values of uint8 in the array" in rejected.reason
    np.testing.assert_array_equal(to_numpy(batch.table["mask"]), arrays["mask"][[0, 2]])
    floats = pa.fixed_shape_tensor(pa.float32(), [PIXELS])
    np.testing.assert_array_equal(
        to_numpy(joined(read(path, {"mask": floats}))["mask"]), arrays["mask"]
    )
    assert "the file holds float32" in said(path, {"flux": TYPES["mask"]})


@every_format
def test_numbers_where_arrays_are_wanted_and_the_other_way_round(
    tmp_path: Path, format: str
) -> None:
    path = write(tmp_path, format, make_arrays(3))
    assert "expected rows of shape (4096,), the file holds int64" in said(
        path, {"id": TYPES["flux"]}
    )
    assert "expected one number per row, the file holds" in said(path, {"cutout": pa.float32()})


@pytest.mark.parametrize("format", [one for one in WRITERS if "Zarr" not in one])
@pytest.mark.parametrize("share", [0.3, 0.95])
def test_a_file_that_is_cut_short(tmp_path: Path, format: str, share: float) -> None:
    arrays = make_arrays()
    path = write(tmp_path, format, arrays)
    whole = Path(path).read_bytes()
    Path(path).write_bytes(whole[: int(share * len(whole))])
    batches: list[Batch] = []
    with pytest.raises(GalbatchError) as caught:
        reader = open_reader(None, path)
        names = {"FLUX": TYPES["flux"], "MASK": TYPES["mask"], "CUTOUT": TYPES["cutout"]}
        types = names if "images" in format else {name: TYPES[name] for name in SHAPED}
        batches.extend(reader.batches(path, types, 5))
    assert "early" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("cut", [True, False])
def test_a_chunk_of_zarr_that_is_damaged(tmp_path: Path, cut: bool) -> None:
    for format in ("Zarr 3, shards", "Zarr 2"):
        folder = tmp_path / format[:6]
        folder.mkdir()
        path = write(folder, format, make_arrays())
        chunk = max((Path(path) / "flux").rglob("*"), key=lambda file: file.stat().st_size)
        content = bytearray(chunk.read_bytes())
        content[len(content) // 2 :] = b"" if cut else bytes(len(content) - len(content) // 2)
        chunk.write_bytes(content)
        assert "is damaged after row" in said(path, {"flux": TYPES["flux"]})


def test_missing_rows_stay_missing(tmp_path: Path) -> None:
    flux = pa.array([[1.0, 2.0], None, [np.nan, 3.0], [None, 4.0]] * 2, pa.list_(pa.float32()))
    wide = [None if row is None else row * 200 for row in flux.to_pylist()]
    path = str(tmp_path / "a.parquet")
    for kind in (pa.list_(pa.float32()), pa.list_(pa.float32(), 400), pa.large_list(pa.float32())):
        pq.write_table(pa.table({"flux": pa.array(wide, kind)}), path)
        table = joined(read(path, {"flux": pa.fixed_shape_tensor(pa.float64(), [400])}, 3))
        assert table["flux"].is_null().to_pylist() == [False, True, False, False] * 2
        values = to_numpy(table["flux"])
        assert np.isnan(values[[2, 3], 0]).all()
        assert (values[[2, 3], 1] == [3, 4]).all()
        assert table["flux"].combine_chunks().storage[3].as_py().count(None) == 0


def test_a_missing_integer_inside_a_row_costs_the_row(tmp_path: Path) -> None:
    path = str(tmp_path / "a.fits")
    values = np.array([[1, 2], [-1, 3]], np.int16).repeat(200, axis=1)
    column = fits.Column("mask", "400I", null=-1, array=values)
    fits.BinTableHDU.from_columns([column]).writeto(path)
    (batch,) = read(path, {"mask": pa.fixed_shape_tensor(pa.int16(), [400])})
    assert batch.rows.tolist() == [1]
    assert (
        "expected values of int16 in the array, got none at value 1 of 400"
        in batch.rejected[0].reason
    )
    (batch,) = read(path, {"mask": pa.fixed_shape_tensor(pa.float32(), [400])})
    assert np.isnan(to_numpy(batch.table["mask"])[1, 0])


def test_ragged_lists_cost_their_rows(tmp_path: Path) -> None:
    path = str(tmp_path / "a.parquet")
    rows = [[1.0] * 300, [2.0] * 299, None, [3.0] * 300]
    pq.write_table(pa.table({"flux": pa.array(rows, pa.list_(pa.float32()))}), path)
    (batch,) = read(path, {"flux": pa.fixed_shape_tensor(pa.float32(), [300])})
    assert batch.rows.tolist() == [1, 3, 4]
    assert [row.row for row in batch.rejected] == [2]
    assert to_numpy(batch.table["flux"])[[0, 2], 0].tolist() == [1.0, 3.0]
    assert batch.table["flux"].is_null().to_pylist() == [False, True, False]


def test_formats_of_text_say_where_arrays_are_read_from(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("id,flux\n1,1 2 3\n")
    message = said(str(path), {"id": pa.int64(), "flux": TYPES["flux"]})
    assert "expected rows of shape (4096,), the file holds text: take FITS, HDF5, Zarr" in message


def test_arrays_of_a_votable(tmp_path: Path) -> None:
    from astropy.table import Table

    path = str(tmp_path / "a.vot")
    flux = np.random.default_rng(1).normal(size=(4, 300)).astype(np.float32)
    Table({"id": np.arange(4), "flux": flux, "cube": flux.reshape(4, 3, 100)}).write(
        path, format="votable"
    )
    table = joined(read(path, {"flux": pa.fixed_shape_tensor(pa.float32(), [300])}, 3))
    np.testing.assert_array_equal(to_numpy(table["flux"]), flux)
    assert "expected rows of shape (3, 100), the file holds" in said(
        path, {"cube": pa.fixed_shape_tensor(pa.float32(), [3, 100])}
    )


def test_permuted_axes_are_refused(tmp_path: Path) -> None:
    path = str(tmp_path / "a.parquet")
    kind = pa.fixed_shape_tensor(pa.float32(), [2, 3], permutation=[1, 0])
    storage = pa.FixedSizeListArray.from_arrays(pa.array(np.zeros(6, np.float32)), 6)
    pq.write_table(pa.table({"x": kind.wrap_array(storage)}), path)
    with pytest.raises(SpecError, match="the axes of its arrays are permuted"):
        read(path, {"x": pa.fixed_shape_tensor(pa.float32(), [2, 3])})
