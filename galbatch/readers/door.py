"""What can be said about a file before it is read, and about one that breaks."""

from __future__ import annotations

import errno
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pyarrow as pa

from galbatch.errors import DataError, GalbatchError, SpecError, TransientError, did_you_mean

GZIP = b"\x1f\x8b"
_MAGIC = {
    GZIP: "gzip",
    b"PAR1": "Parquet",
    b"SIMPLE  =": "FITS",
    b"\x89HDF\r\n\x1a\n": "HDF5",
    b"PK\x03\x04": "a zip archive",
    b"\x28\xb5\x2f\xfd": "Zstandard",
    b"BZh": "bzip2",
    b"\xfd7zXZ": "xz",
    b"%PDF": "PDF",
    b"\xff\xfe": "UTF-16 text",
    b"\xfe\xff": "UTF-16 text",
}
_WEB = (b"<!doctype", b"<html", b"<head")
_PASSING = {errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EAGAIN, errno.EREMOTEIO}


def head(path: str) -> bytes:
    """The first bytes of a file (at most 512).

    Raises
    ------
    SpecError
        If there is no such file, or it is a folder, empty or closed to the user.
    """
    try:
        with Path(path).open("rb") as file:
            start = file.read(512)
    except FileNotFoundError:
        raise SpecError(path, "there is no such file") from None
    except IsADirectoryError:
        raise no_file(path) from None
    except PermissionError:
        raise SpecError(path, "may not be read", "ask its owner, or chmod u+r") from None
    except OSError as error:
        raise broken(path, error, 0) from error
    if not start:
        raise SpecError(path, "is empty (0 bytes)", "did the download or the copy finish?")
    return start


def no_file(folder: str) -> SpecError:
    """The error for a folder where a file should be."""
    hint = f"{Path(folder) / '*'} takes the files in it"
    if (Path(folder) / "dataset").is_dir():
        hint = "a HATS catalogue has hats.properties in it: is the copy, or the run, done?"
    return SpecError(folder, "is a folder, not a file", hint)


def kind(start: bytes) -> str:
    """What a file is, judging by its first bytes: ``"FITS"``, ..., or ``""`` for unknown."""
    for magic, name in _MAGIC.items():
        if start.startswith(magic):
            return name
    text = start.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if text.startswith(_WEB):
        return "a web page"
    if text.startswith(b"<?xml"):
        # A page may be XML too.
        text = text.partition(b"?>")[2].lstrip()
        if text.startswith(_WEB):
            return "a web page"
        return "VOTable" if b"votable" in text else "XML"
    return "VOTable" if text.startswith(b"<votable") else ""


def not_that(path: str, wanted: str, start: bytes) -> SpecError:
    """The error for a file that is something other than `wanted`."""
    found = kind(start)
    problem = f"expected {wanted}, this is {found}" if found else f"is not {wanted}"
    match found:
        case "a web page":
            hint = "the download may have failed: open it in a browser"
        case "gzip":
            hint = "if the ending .gz is missing, add it"
        case "Parquet" | "FITS" | "HDF5" | "VOTable":
            hint = f"give it that ending, or say source.format: {{kind: {found.lower()}}}"
        case _:
            hint = ""
    return SpecError(path, problem, hint)


def unzipped(path: str) -> tuple[bool, bytes]:
    """Whether a file is gzipped, and the first bytes of what it holds.

    Raises
    ------
    SpecError
        If the file cannot be read, or ends in .gz and is not gzipped.
    """
    start = head(path)
    if start.startswith(GZIP):
        try:
            with pa.input_stream(path, compression="gzip") as stream:
                return True, stream.read(512)
        except OSError as error:
            raise broken(path, error, 0) from error
    if path.lower().endswith(".gz"):
        raise SpecError(
            path,
            f"ends in .gz but is {kind(start) or 'not gzipped'}",
            "the download may have failed, or unpacked it: then drop the .gz",
        )
    return False, start


def broken(path: str, error: Exception, row: int) -> GalbatchError:
    """The error for a file that breaks after `row` rows, from what a library raised."""
    if isinstance(error, OSError) and error.errno in _PASSING:
        return TransientError(path, f"could not be read: {error.strerror}")
    text = str(error)
    lower = text.lower()
    if "truncated compressed" in lower:
        return cut_short(path, row, "the gzip stream")
    if "zlib" in lower or "inflate" in lower:
        return DataError(
            path, f"is damaged after row {row:,} (gzip)", "fetch it again; gzip -t checks it"
        )
    first_line = text.strip().splitlines()[0] if text.strip() else type(error).__name__
    return DataError(path, f"is damaged after row {row:,}: {first_line[:200]}", "fetch it again")


def cut_short(path: str, row: int, what: str, of: int | None = None) -> DataError:
    """The error for a file that ends too early."""
    total = f" of {of:,}" if of is not None else ""
    return DataError(
        path, f"{what} ends early, after row {row:,}{total}", "the download may be incomplete"
    )


def must_have(path: str, wanted: Iterable[str], found: Sequence[str]) -> None:
    """Check that all columns to read are there.

    Raises
    ------
    SpecError
        If one is not.
    """
    for name in wanted:
        if name not in found:
            raise SpecError(path, f"has no column '{name}'", did_you_mean(name, found))


def only_once(
    path: str, types: Mapping[str, pa.DataType], found: Sequence[str]
) -> dict[str, pa.DataType]:
    """The columns to read without those of which the file has two, if they come as they are.

    Raises
    ------
    SpecError
        If one that is wanted as something is there twice: nobody can say which is meant.
    """
    counts = Counter(found)
    for name, wanted in types.items():
        if counts[name] > 1 and not pa.types.is_null(wanted):
            raise SpecError(path, f"has {counts[name]} columns called '{name}'", "rename them")
    return {name: wanted for name, wanted in types.items() if counts[name] == 1}
