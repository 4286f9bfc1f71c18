"""Columns as the bytes of a file, one function per format; by hand where a library is too good."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import warnings
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from xml.sax.saxutils import escape

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from astropy.io import fits, votable

_TNULL = -999
_ARROW = {
    "int32": pa.int32(), "int64": pa.int64(), "uint64": pa.uint64(),
    "float32": pa.float32(), "float64": pa.float64(), "text": pa.string(),
}  # fmt: skip
_FITS = {"int32": "J", "int64": "K", "uint64": "K", "float32": "E", "float64": "D"}
_VOTABLE = {"int32": "int", "int64": "long", "float32": "float", "float64": "double"}


@dataclass
class Column:
    """One column: `values` are as the file shall have them, None where there is none."""

    name: str
    kind: str
    values: list[Any]
    unit: str | None = None
    notes: dict[str, Any] = field(default_factory=dict)


def packed(content: bytes, ending: str) -> bytes:
    """Compressed as the ending of the name says."""
    match ending:
        case ".gz":
            return gzip.compress(content, mtime=0)
        case ".bz2":
            return bz2.compress(content)
        case ".xz":
            return lzma.compress(content)
        case ".zst":
            return bytes(pa.Codec("zstd").compress(content, asbytes=True))
        case ".zip":
            stream = io.BytesIO()
            with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
                archive.writestr("table.csv", content)
            return stream.getvalue()
        case _:
            return content


def parquet(columns: Sequence[Column], group_rows: int, text: pa.DataType) -> bytes:
    """Parquet; the unit is in the metadata of each field."""
    arrays, fields = [], []
    for column in columns:
        kind = column.notes["type"] if column.kind == "odd" else _ARROW[column.kind]
        if column.kind == "text":
            kind = text
        plain = text.value_type if pa.types.is_dictionary(text) and column.kind == "text" else kind
        array = pa.array(column.values, plain)
        arrays.append(array.dictionary_encode() if pa.types.is_dictionary(kind) else array)
        unit = {} if column.unit is None else {b"unit": column.unit.encode()}
        fields.append(pa.field(column.name, arrays[-1].type, metadata=unit))
    stream = io.BytesIO()
    table = pa.Table.from_arrays(arrays, schema=pa.schema(fields))
    pq.write_table(table, stream, row_group_size=group_rows)
    return stream.getvalue()


def _numpy(column: Column) -> np.ndarray[Any, Any]:
    """For formats without a null: NaN in floats, `_TNULL` in integers, nothing in text."""
    if column.kind == "text":
        return np.array(["" if value is None else value for value in column.values], dtype=str)
    empty = np.nan if column.kind.startswith("float") else _TNULL
    if column.kind == "uint64":
        empty = 0
    values = [empty if value is None else value for value in column.values]
    return np.array(values, dtype=column.kind)


def fits_hdu(columns: Sequence[Column], name: str = "") -> fits.BinTableHDU:
    """A binary table; TNULL says which integers are none."""
    made = []
    for column in columns:
        array = _numpy(column)
        if column.kind == "text":
            width = max(1, *(len(text) for text in array.tolist())) if len(array) else 1
            made.append(fits.Column(column.name, f"{width}A", array=array, unit=column.unit))
            continue
        words: dict[str, Any] = {"unit": column.unit}
        if column.kind == "uint64":
            words["bzero"] = 2**63
        elif column.kind.startswith("int") and None in column.values:
            words["null"] = _TNULL
        made.append(fits.Column(column.name, _FITS[column.kind], array=array, **words))
    return fits.BinTableHDU.from_columns(made, name=name or None)


def fits_file(hdus: Sequence[fits.BinTableHDU]) -> bytes:
    """A FITS file of these tables."""
    stream = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about units it does not know
        fits.HDUList([fits.PrimaryHDU(), *hdus]).writeto(stream)
    return stream.getvalue()


def hdf5(groups: Sequence[tuple[str, Sequence[Column]]], *, compound: bool, fixed: bool) -> bytes:
    """HDF5: a group of datasets for each, or one compound dataset."""
    stream = io.BytesIO()
    with h5py.File(stream, "w", libver="latest") as file:
        for group, columns in groups:
            arrays = {column.name: _hdf5(column, fixed or compound) for column in columns}
            if compound:
                kinds = [(name, array.dtype) for name, array in arrays.items()]
                table = np.empty(len(columns[0].values), dtype=kinds)
                for name, array in arrays.items():
                    table[name] = array
                file.create_dataset(f"{group}/table" if group else "table", data=table)
                continue
            place = file.require_group(group) if group else file
            for column in columns:
                array = arrays[column.name]
                text = column.kind == "text" and not fixed
                made = place.create_dataset(
                    column.name, data=array, dtype=h5py.string_dtype() if text else None
                )
                if column.unit is not None:
                    made.attrs["unit"] = column.unit
    return stream.getvalue()


def _hdf5(column: Column, fixed: bool) -> np.ndarray[Any, Any]:
    array = _numpy(column)
    if column.kind != "text":
        return array
    texts = [text.encode() if fixed else text for text in array.tolist()]
    return np.array(texts, dtype="S" if fixed else object)


def votable_table(columns: Sequence[Column], name: str, *, nrows: bool) -> str:
    """A TABLE element with its rows as TABLEDATA."""
    rows = len(columns[0].values)
    lines = [f'<TABLE name="{name}"' + (f' nrows="{rows}"' if nrows else "") + ">"]
    for column in columns:
        unit = "" if column.unit is None else f' unit="{escape(column.unit)}"'
        ascii_only = all(str(value).isascii() for value in column.values)
        kind = f'datatype="{"char" if ascii_only else "unicodeChar"}" arraysize="*"'
        if column.kind != "text":
            kind = f'datatype="{_VOTABLE[column.kind]}"'
        inside = ""
        if column.kind.startswith("int") and None in column.values:
            inside = f'<VALUES null="{_TNULL}"/>'
        lines.append(
            f'<FIELD name="{column.name}" ID="{column.name}" {kind}{unit}>{inside}</FIELD>'
        )
    lines.append("<DATA><TABLEDATA>")
    for row in zip(*(column.values for column in columns), strict=True):
        cells = "".join(f"<TD>{_cell(value)}</TD>" for value in row)
        lines.append(f"<TR>{cells}</TR>")
    lines.append("</TABLEDATA></DATA></TABLE>")
    return "\n".join(lines)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return repr(value) if isinstance(value, float) else escape(str(value))


def votable_file(tables: Sequence[str], status: str = "", *, after: bool = False) -> bytes:
    """A VOTable of these TABLE elements, with what a service says of its answer."""
    info = f'<INFO name="QUERY_STATUS" value="{status}">{status}</INFO>' if status else ""
    body = "\n".join(tables)
    inside = f"{body}\n{info}" if after else f"{info}\n{body}"
    return (
        '<?xml version="1.0" encoding="utf-8"?>\n'
        '<VOTABLE version="1.4" xmlns="http://www.ivoa.net/xml/VOTable/v1.3">\n'
        f'<RESOURCE type="results">\n{inside}\n</RESOURCE>\n</VOTABLE>\n'
    ).encode()


def votable_binary(content: bytes, layout: str) -> bytes:
    """The same VOTable with its rows as `binary` or `binary2`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        document = votable.parse(io.BytesIO(content), verify="ignore")
        stream = io.BytesIO()
        document.to_xml(stream, tabledata_format=layout)
    return stream.getvalue()
