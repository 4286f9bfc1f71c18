"""What can be said about a file before it is read, and about one that breaks."""

from __future__ import annotations

import errno
import io
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pyarrow as pa

from galbatch.errors import DataError, GalbatchError, SpecError, TransientError, did_you_mean
from galbatch.readers.packed import PACKINGS, Unpackable, packing_of, unpacked

_MAGIC = {
    b"PAR1": "Parquet",
    b"SIMPLE  =": "FITS",
    b"\x89HDF\r\n\x1a\n": "HDF5",
    b"\x93NUMPY": "NumPy",
    b"%PDF": "PDF",
    b"\xff\xfe": "UTF-16 text",
    b"\xfe\xff": "UTF-16 text",
}
_TAR = slice(257, 262)
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
    packing = packing_of(start)
    if packing is not None:
        return "a zip archive" if packing.name == "zip" else packing.name
    for magic, name in _MAGIC.items():
        if start.startswith(magic):
            return name
    if start[_TAR] == b"ustar":
        return "a tar archive"
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
        case "UTF-16 text":
            hint = "save it as UTF-8: iconv -f UTF-16 -t UTF-8 FILE > NEW"
        case "a zip archive" | "a tar archive" | "gzip" | "bzip2" | "xz" | "Zstandard":
            hint = "unpack it first"
        case "Parquet" | "FITS" | "HDF5" | "VOTable" | "NumPy":
            hint = f"give it that ending, or say source.format: {{kind: {found.lower()}}}"
        case _:
            hint = ""
    return SpecError(path, problem, hint)


def opened(path: str) -> tuple[pa.NativeFile | io.BufferedReader, bytes]:
    """What a file holds as a stream, unpacked where it is packed, and its first bytes.

    Parameters
    ----------
    path : str
        Packed or not, whatever its name says.

    Returns
    -------
    tuple of stream and bytes
        The stream stands at its begin; it can be seeked in if the file is not packed. At most
        512 bytes.

    Raises
    ------
    SpecError
        If the file cannot be read, holds nothing, or is not packed as its name says.
    DataError
        If it is damaged.
    """
    start = head(path)
    packing = packing_of(start)
    try:
        if packing is None:
            _check_ending(path, start)
            return pa.OSFile(path), start
        with unpacked(path, packing) as stream:
            start = bytes(stream.read(512))
        if not start:
            raise SpecError(path, f"is empty once it is unpacked ({packing.name})")
        return unpacked(path, packing), start
    except OSError as error:
        raise broken(path, error, 0) from error


def _check_ending(path: str, start: bytes) -> None:
    """See that a file that is not packed has no name of one that is."""
    for packing in PACKINGS:
        if path.lower().endswith(packing.ending):
            packed = "gzipped" if packing.name == "gzip" else f"packed ({packing.name})"
            raise SpecError(
                path,
                f"ends in {packing.ending} but is {kind(start) or f'not {packed}'}",
                f"the download may have failed, or unpacked it: then drop the {packing.ending}",
            )


def broken(path: str, error: Exception, row: int) -> GalbatchError:
    """The error for a file that breaks after `row` rows, from what a library raised."""
    if isinstance(error, OSError) and error.errno in _PASSING:
        return TransientError(path, f"could not be read: {error.strerror}")
    if isinstance(error, Unpackable):
        what = "archive" if error.packing.name == "zip" else "stream"
        if error.early:
            return cut_short(path, row, f"the {error.packing.name} {what}")
        return DataError(
            path,
            f"is damaged after row {row:,} ({error.packing.name}: {error.problem[:200]})",
            f"fetch it again; {error.packing.check} checks it",
        )
    text = str(error)
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
