"""Packed files: what is read, and what is said of those that cannot be."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from astropy.io import fits
from astropy.table import Table

from galbatch.errors import DataError, GalbatchError, SpecError
from galbatch.readers import open_reader
from galbatch.readers.opening import opened
from galbatch.readers.packed import packing_of

TEXT = b"ID,RA\n1,2.5\n2,3.5\n"


def zipped(content: bytes, *more: str) -> bytes:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("tables/", b"")
        file.writestr("tables/catalogue.csv", content)
        for name in more:
            file.writestr(name, b"1,2\n")
    return archive.getvalue()


PACK: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": lambda content: pa.Codec("zstd").compress(content, asbytes=True),
    ".zip": zipped,
}
STREAMS = [ending for ending in PACK if ending != ".zip"]
PADDED = [".gz", ".bz2", ".xz"]
every_packing = pytest.mark.parametrize("ending", PACK)


def write(folder: Path, content: bytes, name: str) -> str:
    path = folder / name
    path.write_bytes(content)
    return str(path)


def positions(path: str) -> list[float]:
    batches = list(open_reader(None, path).batches(path, {"RA": pa.float64()}, 100))
    return [value for batch in batches for value in batch.table["RA"].to_pylist()]


def said(path: str) -> str:
    with pytest.raises(GalbatchError) as caught:
        positions(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@every_packing
@pytest.mark.parametrize("named", [True, False])
def test_text_by_name_or_by_content(tmp_path: Path, ending: str, named: bool) -> None:
    path = write(tmp_path, PACK[ending](TEXT), "A.CSV" + (ending.upper() if named else ""))
    assert open_reader(None, path).header(path).names == ("ID", "RA")
    assert positions(path) == [2.5, 3.5]


@every_packing
def test_the_other_formats_that_may_be_packed(tmp_path: Path, ending: str) -> None:
    plain = tmp_path / "plain"
    fits.BinTableHDU.from_columns([fits.Column("RA", "D", array=np.array([2.5, 3.5]))]).writeto(
        plain
    )
    assert positions(write(tmp_path, PACK[ending](plain.read_bytes()), "a.fits" + ending)) == [
        2.5,
        3.5,
    ]
    Table({"RA": [2.5, 3.5]}).write(plain, format="votable", overwrite=True)
    for name in ("a.vot", "a.xml"):
        packed = PACK[ending](plain.read_bytes())
        assert positions(write(tmp_path, packed, name + ending)) == [2.5, 3.5]


@pytest.mark.parametrize("ending", STREAMS)
def test_streams_one_after_the_other(tmp_path: Path, ending: str) -> None:
    pack = PACK[ending]
    path = write(tmp_path, pack(TEXT) + pack(b"") + pack(b"3,4.5\n"), "a.csv" + ending)
    assert positions(path) == [2.5, 3.5, 4.5]


@pytest.mark.parametrize("ending", PADDED)
@pytest.mark.parametrize("zeros", [4, 512, 200_000])
def test_zeros_behind_the_stream(tmp_path: Path, ending: str, zeros: int) -> None:
    content = PACK[ending](TEXT) + bytes(zeros) + PACK[ending](b"3,4.5\n") + bytes(zeros)
    assert positions(write(tmp_path, content, "a.csv" + ending)) == [2.5, 3.5, 4.5]


@pytest.mark.parametrize("ending", STREAMS)
def test_something_else_behind_the_stream(tmp_path: Path, ending: str) -> None:
    many = TEXT + b"3,4.5\n" * 50_000
    for rest in (b"x", b"something else", bytes(3) + b"\1" * 40):
        path = write(tmp_path, PACK[ending](many) + rest, "a.csv" + ending)
        assert "is damaged after row 4" in said(path)


@every_packing
def test_a_file_that_is_cut_short(tmp_path: Path, ending: str) -> None:
    whole = PACK[ending](TEXT + np.random.default_rng(1).bytes(50_000).hex().encode())
    for size in (len(whole) // 2, len(whole) - 1):
        path = write(tmp_path, whole[:size], "a.csv" + ending)
        with pytest.raises(DataError, match=r"(stream|archive) ends early, after row"):
            positions(path)


@every_packing
def test_a_file_that_is_damaged(tmp_path: Path, ending: str) -> None:
    whole = bytearray(PACK[ending](TEXT + np.random.default_rng(1).bytes(50_000).hex().encode()))
    whole[30_000:30_040] = bytes(40)
    path = write(tmp_path, bytes(whole), "a.csv" + ending)
    with pytest.raises(DataError, match=r"is damaged after row \d"):
        positions(path)


@every_packing
def test_a_name_that_promises_too_much(tmp_path: Path, ending: str) -> None:
    message = said(write(tmp_path, TEXT, "a.csv" + ending))
    assert f"ends in {ending} but is not" in message
    assert f"then drop the {ending}" in message
    message = said(write(tmp_path, b"<html><body>404</body></html>", "a.csv" + ending))
    assert f"ends in {ending} but is a web page" in message


@every_packing
def test_nothing_in_it(tmp_path: Path, ending: str) -> None:
    assert "is empty once it is unpacked" in said(write(tmp_path, PACK[ending](b""), "a.csv"))


@every_packing
def test_something_else_in_it(tmp_path: Path, ending: str) -> None:
    twice = write(tmp_path, PACK[ending](gzip.compress(TEXT)), "a.csv")
    assert "expected CSV, this is gzip (unpack it first)" in said(twice)
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as file:
        file.addfile(tarfile.TarInfo("a.csv"))
    tar = write(tmp_path, PACK[ending](archive.getvalue()), "a.csv")
    assert "expected CSV, this is a tar archive" in said(tar)


def test_a_zip_archive_of_several_files(tmp_path: Path) -> None:
    path = write(tmp_path, zipped(TEXT, "b.csv", "c.csv"), "a.csv.zip")
    assert "holds 3 files, not one: tables/catalogue.csv, b.csv, c.csv (unpack it" in said(path)
    many = write(tmp_path, zipped(TEXT, *(f"{n}.csv" for n in range(90))), "a.csv.zip")
    assert "holds 91 files, not one: tables/catalogue.csv, 0.csv, 1.csv, 2.csv, 3.csv, ..." in said(
        many
    )


def test_what_a_mac_adds_to_a_zip_archive(tmp_path: Path) -> None:
    path = write(tmp_path, zipped(TEXT, "__MACOSX/tables/._catalogue.csv"), "a.csv.zip")
    assert positions(path) == [2.5, 3.5]


def test_zip_archives_that_cannot_be_read(tmp_path: Path) -> None:
    empty = io.BytesIO()
    zipfile.ZipFile(empty, "w").close()
    assert "the zip archive is empty" in said(write(tmp_path, empty.getvalue(), "a.csv.zip"))
    # In both places where the archive says how its file is packed: flags, method.
    for place, value, words in ((6, 1, "is encrypted"), (8, 9, "packed in a way that cannot")):
        content = bytearray(zipped(TEXT).replace(b"tables/", b"file", 0))
        local = content.index(b"tables/catalogue.csv") - 30
        central = content.rindex(b"tables/catalogue.csv") - 46
        content[local + place] = content[central + place + 2] = value
        assert words in said(write(tmp_path, bytes(content), "a.csv.zip"))


def test_a_column_that_is_called_like_a_packing(tmp_path: Path) -> None:
    assert packing_of(b"BZh9_mag,RA\n") is None
    assert positions(write(tmp_path, b"BZh9_mag,RA\n1,2.5\n", "a.csv")) == [2.5]


def test_only_what_is_not_packed_can_be_seeked_in(tmp_path: Path) -> None:
    for content, seekable in ((TEXT, True), *((pack(TEXT), False) for pack in PACK.values())):
        stream, start = opened(write(tmp_path, content, "a.csv"))
        with stream:
            assert (start, stream.seekable()) == (TEXT, seekable)
            assert bytes(stream.read(6)) == b"ID,RA\n"


def test_a_packed_file_without_an_ending_of_a_table(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"its ending is none of .* nor .*\.bz2.* behind \.csv"):
        open_reader(None, str(tmp_path / "a.parquet.gz"))
