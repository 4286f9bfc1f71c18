"""HATS catalogues as sources: the Parquet files of their pixels.

The naming is that of the hats library, against which the tests check it: importing that library
takes seconds, which every worker would pay for a list of files.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from galbatch.errors import SpecError

PIXEL_COLUMNS = ("Norder", "Dir", "Npix")
"""Columns of older catalogues that repeat what the path of the file says."""

_PIXEL_FILE = re.compile(r"(^|/)Norder=\d+/Dir=\d+/Npix=\d+[^/]*(/[^/]+)?$")
_PROPERTIES = ("hats.properties", "properties")
_COLLECTION = "collection.properties"
_WITHOUT_ROWS_OF_THEIR_OWN = ("margin", "index", "association", "map")
_ROWS = "hats_nrows"
_AT_ONCE = 8
_HIGHEST_ORDER = 29
_PIXELS_PER_FOLDER = 10_000


def is_pixel_file(path: str) -> bool:
    """Whether a file holds (rows of) a pixel, judging by its path."""
    return _PIXEL_FILE.search(Path(path).as_posix()) is not None


def pixel_files(folder: Path) -> tuple[str, ...] | None:
    """The files of a HATS catalogue, or of the primary catalogue of a HATS collection.

    Parameters
    ----------
    folder : Path

    Returns
    -------
    tuple of str or None
        In the order of the pixels on the sky; None for a folder that is neither.

    Raises
    ------
    SpecError
        If the catalogue is not whole, or holds no rows of its own (a margin cache, an index).
    """
    catalogue = _catalogue(folder)
    if catalogue is None:
        return None
    folder, found = catalogue
    return tuple(str(path) for path in _files(folder, found.get("hats_npix_suffix", ".parquet")))


def check_rows(folder: Path) -> None:
    """Compare the rows that a HATS catalogue says it has with those of its files.

    Every file's footer is read for that: a fraction of a millisecond each on a disk.

    Parameters
    ----------
    folder : Path
        Of a catalogue or a collection. Other folders, and files that cannot be read,
        are not checked: their reader reports them.

    Raises
    ------
    SpecError
        If they differ: rows were lost on the way here, or somebody added some.
    """
    catalogue = _catalogue(folder)
    if catalogue is None:
        return
    folder, found = catalogue
    stated, suffix = found.get(_ROWS, ""), found.get("hats_npix_suffix", ".parquet")
    if not stated.isdecimal():
        return
    files = list(_files(folder, suffix))
    try:
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            rows = sum(pool.map(_footer_rows, files))
    except (OSError, pa.ArrowException):
        return
    if rows != int(stated):
        every = folder / "dataset" / "**" / f"*{suffix.strip('/')}"
        raise SpecError(
            str(folder),
            f"says that it has {int(stated):,} rows ({_ROWS}), its {len(files)} files hold "
            f"{rows:,}",
            f"copy it again; to read what there is, name the files: {every}",
        )


def _footer_rows(path: Path) -> int:
    return int(pq.read_metadata(path).num_rows)


def _catalogue(folder: Path) -> tuple[Path, dict[str, str]] | None:
    """Where a catalogue is and what its properties say, or None for something else."""
    found = _properties(folder)
    if found is None and (folder / _COLLECTION).is_file():
        primary = _read_properties(folder / _COLLECTION).get("hats_primary_table_url", "")
        if not primary:
            raise SpecError(str(folder / _COLLECTION), "does not name 'hats_primary_table_url'")
        if not (folder / primary).is_dir():
            problem = f"its primary catalogue '{primary}' is not there"
            raise SpecError(str(folder), problem, "copy the collection again, with all its folders")
        folder = folder / primary
        found = _properties(folder)
        if found is None:
            hint = (
                f"expected {folder / _PROPERTIES[0]}: is the copy, or the run that makes it, done?"
            )
            raise SpecError(str(folder), "is no HATS catalogue", hint)
    if found is None or not (folder / "dataset").is_dir():
        return None
    kind = found.get("dataproduct_type", "")
    if kind in _WITHOUT_ROWS_OF_THEIR_OWN:
        whose = found.get("hats_primary_table_url", "")
        hint = f"name the catalogue that it belongs to{f': {whose}' if whose else ''}"
        raise SpecError(str(folder), f"is a HATS {kind}, not a catalogue of objects", hint)
    return folder, found


def _properties(folder: Path) -> dict[str, str] | None:
    for name in _PROPERTIES:
        if (folder / name).is_file():
            return _read_properties(folder / name)
    return None


def _read_properties(path: Path) -> dict[str, str]:
    properties: dict[str, str] = {}
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        key, equals, value = line.partition("=")
        if equals and not line.lstrip().startswith(("#", "!")):
            properties[key.strip()] = re.sub(r"\\(.)", r"\1", value.strip())
    return properties


def _files(folder: Path, suffix: str) -> Iterator[Path]:
    listed = _listed(folder)
    pixels = listed if listed is not None else set(_present(folder, suffix))
    if not pixels:
        raise SpecError(str(folder), "the HATS catalogue has no pixels", "is the copy whole?")
    files: list[Path] = []
    missing: list[Path] = []
    for order, pixel in sorted(
        pixels, key=lambda one: (one[1] << 2 * (_HIGHEST_ORDER - one[0]), one)
    ):
        place = folder / "dataset" / f"Norder={order}"
        place /= f"Dir={pixel // _PIXELS_PER_FOLDER * _PIXELS_PER_FOLDER}"
        place /= f"Npix={pixel}" + ("" if suffix == "/" else suffix)
        # Files that begin with these are no data to any reader of Parquet folders.
        inside = (
            sorted(one for one in place.iterdir() if one.name[0] not in "._" and one.is_file())
            if place.is_dir()
            else [place] * place.is_file()
        )
        files += inside
        if not inside:
            missing.append(place)
    if missing:
        problem = f"{len(missing)} of the {len(pixels)} pixels of the HATS catalogue are not there"
        raise SpecError(str(folder), f"{problem}, e.g. {missing[0]}", "copy it again")
    yield from files


def _listed(folder: Path) -> set[tuple[int, int]] | None:
    """Order and number of the pixels that there should be, if the catalogue says."""
    path = folder / "partition_info.csv"
    if not path.is_file():
        return None
    with path.open(encoding="utf-8", newline="") as file:
        try:
            return {(int(row["Norder"]), int(row["Npix"])) for row in csv.DictReader(file)}
        except (KeyError, TypeError, ValueError) as error:
            problem = "expected the columns Norder and Npix, with whole numbers"
            raise SpecError(str(path), problem, "copy the catalogue again") from error


def _present(folder: Path, suffix: str) -> Iterator[tuple[int, int]]:
    name = re.compile(r"Npix=(\d+)" + ("" if suffix == "/" else re.escape(suffix)))
    for path in folder.glob("dataset/Norder=*/Dir=*/Npix=*"):
        pixel = name.fullmatch(path.name)
        order = re.fullmatch(r"Norder=(\d+)", path.parents[1].name)
        if pixel and order and int(order[1]) <= _HIGHEST_ORDER:
            yield int(order[1]), int(pixel[1])
