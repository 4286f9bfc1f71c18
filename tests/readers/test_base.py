"""Which files, and which reader for them."""

from __future__ import annotations

from pathlib import Path

import pytest

from galbatch.errors import SpecError
from galbatch.readers import expand, open_reader
from galbatch.readers.csv import CsvReader
from galbatch.readers.fits import FitsReader
from galbatch.readers.hdf5 import Hdf5Reader
from galbatch.readers.parquet import ParquetReader
from galbatch.readers.votable import VotableReader
from galbatch.spec.formats import CsvFormat, FitsFormat


@pytest.mark.parametrize(
    ("name", "reader"),
    [
        ("alhambra.csv", CsvReader),
        ("alhambra.csv.gz", CsvReader),
        ("A.CSV", CsvReader),
        ("a.parquet", ParquetReader),
        ("a.pq", ParquetReader),
        ("a.fits", FitsReader),
        ("a.v2.FITS.gz", FitsReader),
        ("a.hdf5", Hdf5Reader),
        ("a.h5", Hdf5Reader),
        ("a.vot", VotableReader),
        ("a.votable.gz", VotableReader),
        ("A.XML.gz", VotableReader),
        ("a/Norder=1/Dir=0/Npix=3.data", ParquetReader),
        ("a/Norder=1/Dir=0/Npix=3/part0", ParquetReader),
    ],
)
def test_by_ending(name: str, reader: type) -> None:
    assert isinstance(open_reader(None, name), reader)


def test_the_job_has_the_last_word() -> None:
    reader = open_reader(CsvFormat(delimiter=";"), "catalogue.parquet")
    assert isinstance(reader, CsvReader)
    assert reader.delimiter == ";"
    table = open_reader(FitsFormat(hdu="PHOT"), "x")
    assert isinstance(table, FitsReader)
    assert table.hdu == "PHOT"


@pytest.mark.parametrize("name", ["catalogue", "catalogue.dat", "catalogue.gz", "csv"])
def test_an_ending_that_says_nothing(name: str) -> None:
    with pytest.raises(SpecError, match=r"its ending is none of \.csv, .*source\.format"):
        open_reader(None, name)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("b.csv", "a.csv", ".half.csv", "c.fits", "deep/d.csv", "odd[1].csv"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_expand(folder: Path) -> None:
    assert expand(["*.csv"]) == ("a.csv", "b.csv", "odd[1].csv")
    assert expand(["c.fits", "*.csv", "a.csv"]) == ("c.fits", "a.csv", "b.csv", "odd[1].csv")
    assert expand(["odd[1].csv"]) == ("odd[1].csv",)
    assert expand(["**/*.csv"]) == ("a.csv", "b.csv", "deep/d.csv", "odd[1].csv")
    assert expand([f"{folder}/deep/*"]) == (f"{folder}/deep/d.csv",)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("x*.parquet", r"x\*\.parquet: no file matches"),
        ("c.fts", r"c\.fts: there is no such file \(did you mean 'c\.fits'\?\)"),
        ("none/a.csv", "there is no folder 'none' either"),
    ],
)
@pytest.mark.usefixtures("folder")
def test_expand_finds_nothing(path: str, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        expand([path])
