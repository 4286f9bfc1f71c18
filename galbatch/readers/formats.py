"""The table of formats: a new one is a file with its reader, and an entry here.

The readers are imported when they are needed: astropy, h5py and zarr take longer to import than a
small file takes to read.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from galbatch.readers.base import Reader
from galbatch.readers.hats import PIXEL_COLUMNS, is_pixel_file
from galbatch.spec.base import Settings
from galbatch.spec.formats import (
    CsvFormat,
    DesiCoaddFormat,
    FitsFormat,
    Hdf5Format,
    NumpyFormat,
    ParquetFormat,
    SdssPlateFormat,
    SdssSpecFormat,
    VotableFormat,
    ZarrFormat,
)


@dataclass(frozen=True)
class FileFormat:
    """A format of files, and what reads it.

    Parameters
    ----------
    options : type
        What a job may say of it, ``source.format``; without arguments, the defaults.
    endings : tuple of str
        Of its files' names, in small letters: ``(".fits", ".fit")``.
    reader : callable
        Makes the reader, of the options and the path of a file.
    packable : bool
        Whether such a file is read packed, too. Of the formats that are not, no part could be
        read without the rest.
    folder : bool
        Whether a folder with such an ending is one file.
    """

    options: type[Settings]
    endings: tuple[str, ...]
    reader: Callable[[Any, str], Reader]
    packable: bool = False
    folder: bool = False


def _csv(options: CsvFormat, path: str) -> Reader:
    from galbatch.readers.csv import CsvReader

    return CsvReader(options.delimiter)


def _parquet(options: ParquetFormat, path: str) -> Reader:
    from galbatch.readers.parquet import ParquetReader

    return ParquetReader(leave_out=PIXEL_COLUMNS if is_pixel_file(path) else ())


def _fits(options: FitsFormat, path: str) -> Reader:
    from galbatch.readers.fits import FitsReader

    return FitsReader(options.hdu)


def _hdf5(options: Hdf5Format, path: str) -> Reader:
    from galbatch.readers.hdf5 import Hdf5Reader

    return Hdf5Reader(options.group)


def _zarr(options: ZarrFormat, path: str) -> Reader:
    from galbatch.readers.zarr import ZarrReader

    return ZarrReader(options.group)


def _numpy(options: NumpyFormat, path: str) -> Reader:
    from galbatch.readers.numpy_files import NumpyReader

    return NumpyReader()


def _votable(options: VotableFormat, path: str) -> Reader:
    from galbatch.readers.votable import VotableReader

    return VotableReader(options.table, overflow=options.overflow == "accept")


def _sdss_spec(options: SdssSpecFormat, path: str) -> Reader:
    from galbatch.readers.sdss import SdssSpecReader

    return SdssSpecReader()


def _sdss_plate(options: SdssPlateFormat, path: str) -> Reader:
    from galbatch.readers.sdss import SdssPlateReader

    return SdssPlateReader()


def _desi_coadd(options: DesiCoaddFormat, path: str) -> Reader:
    from galbatch.readers.desi import DesiCoaddReader

    return DesiCoaddReader()


FORMATS: list[FileFormat] = [
    FileFormat(CsvFormat, (".csv",), _csv, packable=True),
    FileFormat(ParquetFormat, (".parquet", ".pq", ".parq"), _parquet),
    FileFormat(FitsFormat, (".fits", ".fit"), _fits, packable=True),
    FileFormat(Hdf5Format, (".hdf5", ".h5"), _hdf5),
    FileFormat(ZarrFormat, (".zarr",), _zarr, folder=True),
    FileFormat(NumpyFormat, (".npz", ".npy"), _numpy),
    FileFormat(VotableFormat, (".vot", ".votable", ".xml"), _votable, packable=True),
    FileFormat(SdssSpecFormat, (), _sdss_spec),
    FileFormat(SdssPlateFormat, (), _sdss_plate),
    FileFormat(DesiCoaddFormat, (), _desi_coadd),
]
"""The first whose ending a file has reads it; those without an ending are asked for by name."""
