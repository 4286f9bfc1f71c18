"""What others read of the same files: astropy, pandas, polars and h5py, where they can."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import warnings
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import astropy.units as u
import h5py
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
from astropy.table import Table
from broken.truth import Catalogue, SourceFile


def contradictions(catalogue: Catalogue) -> Iterator[str]:
    """Where the truth of a file is not what others read of it."""
    for file in catalogue.files:
        if not file.readable:
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            columns = _columns(file, catalogue)
        lengths = {len(values) for values in columns.values()}
        if lengths != {len(file.records)}:
            yield f"{file.name}: {len(file.records)} records, others read {lengths}"
            continue
        for number, record in enumerate(file.records):
            truth = {"objid": record.id, "ra": record.ra, "dec": record.dec, **record.values}
            for name, values in columns.items():
                if name in truth and not _agree(
                    values[number], truth[name], (file.tolerance or {}).get(name, 0)
                ):
                    yield (
                        f"{file.name} row {record.row}: {name} is {truth[name]!r}, "
                        f"others read {values[number]!r}"
                    )


def _columns(file: SourceFile, catalogue: Catalogue) -> Mapping[str, Sequence[Any]]:
    content = unpacked(file)
    if ".csv" in file.name:
        delimiter = catalogue.source.get("format", {}).get("delimiter", ",")
        frame = pd.read_csv(io.BytesIO(content), dtype=str, keep_default_na=False, sep=delimiter)
        # The unit of the numbers is the survey's.
        return {name: frame[name].tolist() for name in frame if name not in ("ra", "dec")}
    if file.name.endswith(".parquet"):
        table = pl.read_parquet(io.BytesIO(content))
        return {
            name: table[name].cast(pl.String).to_list()
            if table[name].dtype == pl.Categorical
            else table[name].to_list()
            for name in table.columns
            if name not in ("ra", "dec") and name not in (file.tolerance or {})
        }
    if file.name.endswith(".hdf5"):
        with h5py.File(io.BytesIO(content)) as opened:
            return _hdf5(opened, set(file.tolerance or {}) | {"ra", "dec"})
    kind = "votable" if ".vot" in file.name else "fits"
    return _astropy(Table.read(io.BytesIO(content), format=kind), catalogue, file)


def unpacked(file: SourceFile) -> bytes:
    """What a file holds, without the compression that its name tells of."""
    match file.name.rpartition(".")[2]:
        case "gz":
            return gzip.decompress(file.content)
        case "bz2":
            return bz2.decompress(file.content)
        case "xz":
            return lzma.decompress(file.content)
        case "zst":
            with pa.input_stream(io.BytesIO(file.content), compression="zstd") as stream:
                return bytes(stream.read())
        case "zip":
            with zipfile.ZipFile(io.BytesIO(file.content)) as archive:
                return archive.read(archive.namelist()[0])
        case _:
            return file.content


def _hdf5(opened: h5py.File, without: set[str]) -> Mapping[str, Sequence[Any]]:
    found: dict[str, Sequence[Any]] = {}

    def visit(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            parts = {part: item[part] for part in item.dtype.names or ()}
            for part, values in (parts or {name.rpartition("/")[2]: item[()]}).items():
                if part not in without:
                    found[part] = [
                        one.decode() if isinstance(one, bytes) else one for one in values.tolist()
                    ]

    opened.visititems(visit)
    return found


def _astropy(table: Table, catalogue: Catalogue, file: SourceFile) -> Mapping[str, Sequence[Any]]:
    wanted = {column["name"]: column.get("unit", "") for column in catalogue.survey["columns"]}
    wanted |= {"ra": "deg", "dec": "deg"}
    found: dict[str, Sequence[Any]] = {}
    for name in table.colnames:
        column = table[name]
        values = [None if one is np.ma.masked else one for one in column.tolist()]
        unit = u.Unit(wanted.get(name, ""))
        if name in ("ra", "dec") and column.unit is None:
            continue
        if name in ("ra", "dec") or name in (file.tolerance or {}):
            said = u.Unit(str(column.unit))
            if said == u.hour:
                said = u.hourangle
            if said.physical_type not in (unit.physical_type, "unknown"):
                continue
            factor = said.to(unit, equivalencies=u.zero_point_flux(3630.7805477 * u.Jy))
            values = [None if one is None else float(one) * factor for one in values]
        if name == "ra":
            values = [None if one is None else one % 360 for one in values]
        found[name] = values
    return found


def _agree(read: Any, truth: Any, tolerance: float) -> bool:
    if truth is None or (isinstance(truth, float) and np.isnan(truth)):
        return read in (None, "") or read != read
    if isinstance(read, bytes):
        read = read.decode()
    if isinstance(read, float) and isinstance(truth, float):
        return abs(read - truth) <= max(tolerance, 1e-12) * max(abs(truth), 1)
    return bool(str(read) == str(truth) or read == truth)
