"""Write a simulated catalogue as a file in the survey's own column layout."""

from __future__ import annotations

import gzip
import math
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
from astropy.io import fits

from galbatch.errors import SpecError, did_you_mean
from galbatch.intake.types import item_type
from galbatch.mock.sky import sky_batches
from galbatch.spec.columns import Column
from galbatch.spec.survey import Survey

BATCH_ROWS = 65_536
_FITS_BLOCK = 2880
_FITS_CODES = {"int64": "K", "int32": "J", "int16": "I", "float32": "E", "float64": "D"}

Tables = Iterator[pa.Table]


def write_mock(survey: Survey, rows: int, seed: int, path: Path, *, force: bool = False) -> None:
    """Write a simulated catalogue of a survey.

    Streams: memory does not grow with `rows`. The file appears under its name when it is whole.
    An id that the survey makes of two columns is left out, as it is in the survey's own files.

    Parameters
    ----------
    survey : Survey
    rows : int
    seed : int
        Same seed, same sky.
    path : Path
        Ending in ``.csv``, ``.csv.gz``, ``.fits``, ``.fits.gz`` or ``.parquet``. Array-valued
        columns become space-separated strings in CSV.
    force : bool
        Replace the file if it exists.

    Raises
    ------
    SpecError
        If the survey has no mock, the ending is unknown, or the file exists or cannot be written.
    """
    name = path.name.lower()
    ending = next((ending for ending in _WRITERS if name.endswith(ending)), None)
    if ending is None:
        hint = did_you_mean(path.suffix, _WRITERS)
        raise SpecError(str(path), "unknown kind of file", hint)
    if path.is_dir():
        raise SpecError(str(path), "is a folder", f"{path / ('mock' + ending)}?")
    if path.exists() and not force:
        raise SpecError(str(path), "exists already", "--force replaces it")
    made = {survey.id.column} if survey.id.parts else set()
    columns = tuple(column for column in survey.stored_columns if column.name not in made)
    kept = [column.name for column in columns]
    batches = (table.select(kept) for table in sky_batches(survey, rows, seed, BATCH_ROWS))
    with _appearing(path) as temporary, temporary.open("wb") as file:
        if ending.endswith(".gz"):
            # No name and no time in the header: the same catalogue is the same bytes.
            with gzip.GzipFile("", "wb", 4, file, mtime=0) as packed:
                _WRITERS[ending](packed, columns, batches, rows)
        else:
            _WRITERS[ending](file, columns, batches, rows)


@contextmanager
def _appearing(path: Path) -> Iterator[Path]:
    """A temporary name beside `path` that becomes it, or vanishes."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        temporary.replace(path)
    except OSError as error:
        raise SpecError(str(path), f"cannot be written: {error.strerror or error}") from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def _write_csv(file: IO[Any], columns: tuple[Column, ...], batches: Tables, rows: int) -> None:
    schema = pa.schema(
        [
            pa.field(column.name, pa.string() if column.shape else item_type(column))
            for column in columns
        ]
    )
    options = pacsv.WriteOptions(quoting_style="none", quoting_header="none")
    with pacsv.CSVWriter(file, schema, write_options=options) as writer:
        for table in batches:
            writer.write_table(
                pa.table([_as_text(table[name]) for name in schema.names], schema=schema)
            )


def _as_text(values: pa.ChunkedArray[Any]) -> pa.ChunkedArray[Any]:
    """Array-valued columns as space-separated numbers; others as they are."""
    if not pa.types.is_fixed_size_list(values.type):
        return values
    lists: Any = values.combine_chunks()
    length = lists.type.list_size
    starts = np.arange(len(lists) + 1, dtype=np.int32) * np.int32(length)
    texts = pa.ListArray.from_arrays(pa.array(starts), lists.flatten().cast(pa.string()))
    joined: Any = pc.binary_join(texts, " ")
    return pa.chunked_array([joined], pa.string())


def _write_fits(file: IO[Any], columns: tuple[Column, ...], batches: Tables, rows: int) -> None:
    definitions = fits.ColDefs(
        [
            fits.Column(
                name=column.name,
                format=f"{math.prod(column.shape)}{_FITS_CODES.get(column.kind, 'A')}",
                unit=column.unit or None,
            )
            for column in columns
        ]
    )
    header = fits.BinTableHDU.from_columns(definitions, nrows=0, name="CATALOGUE").header
    header["NAXIS2"] = rows
    file.write(fits.PrimaryHDU().header.tostring().encode("ascii"))
    file.write(header.tostring().encode("ascii"))
    layout = np.dtype([_fits_field(column) for column in columns])
    for table in batches:
        records = np.zeros(len(table), layout)
        for column in columns:
            if column.kind != "string":
                records[column.name] = _numbers(table[column.name], column)
        file.write(records.tobytes())
    file.write(b"\0" * (-rows * layout.itemsize % _FITS_BLOCK))


def _fits_field(column: Column) -> tuple[Any, ...]:
    dtype = "S1" if column.kind == "string" else np.dtype(column.kind).newbyteorder(">")
    return (column.name, dtype, column.shape) if column.shape else (column.name, dtype)


def _numbers(values: pa.ChunkedArray[Any], column: Column) -> np.ndarray[Any, Any]:
    whole: Any = values.combine_chunks()
    if column.shape:
        if whole.null_count:
            return np.full((len(whole), *column.shape), np.nan)
        flat = whole.flatten().to_numpy(zero_copy_only=False)
        return np.asarray(flat.reshape(-1, *column.shape))
    return np.asarray(whole.to_numpy(zero_copy_only=False))


def _write_parquet(file: IO[Any], columns: tuple[Column, ...], batches: Tables, rows: int) -> None:
    writer: pq.ParquetWriter | None = None
    for table in batches:
        if writer is None:
            writer = pq.ParquetWriter(file, table.schema, compression="zstd", compression_level=1)
        writer.write_table(table)
    if writer is not None:
        writer.close()


_Writer = Callable[[Any, tuple[Column, ...], Tables, int], None]
_WRITERS: dict[str, _Writer] = {
    ".csv": _write_csv,
    ".csv.gz": _write_csv,
    ".fits": _write_fits,
    ".fits.gz": _write_fits,
    ".parquet": _write_parquet,
}
