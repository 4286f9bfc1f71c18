"""Files in object storage: found there, and brought to a disk to be read."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

from galbatch.errors import GalbatchError, NoFileError, SpecError, TransientError, refuse_secrets

_CHANGES = (
    *("ETag", "etag", "Content-MD5", "Digest"),
    *("LastModified", "Last-Modified", "last_modified", "updated", "mtime", "created"),
)
"""Where file systems say what changes with the content of a file, the surest first."""


def is_url(path: str) -> bool:
    """Whether a path is a URL that fsspec shall open."""
    return "://" in path


def expand_url(pattern: str, folders: tuple[str, ...] = ()) -> list[str]:
    """The files behind a URL or a glob of URLs, by name.

    Parameters
    ----------
    pattern : str
    folders : tuple of str
        Endings of folders that are one file each.

    Raises
    ------
    NoFileError
        If there is none.
    SpecError
        If the place cannot be reached, or is a folder.
    """
    system, name = _opened(pattern)
    try:
        found = sorted(system.glob(name)) if "*" in name or "?" in name else [name]
        files = [
            system.unstrip_protocol(one).rstrip("/")
            for one in found
            if (one.rstrip("/").lower().endswith(folders) and system.isdir(one))
            or system.isfile(one)
        ]
        is_folder = not files and system.isdir(name)
    except Exception as error:  # every protocol raises errors of its own
        raise SpecError(pattern, f"cannot be reached: {error}", "are the keys right?") from error
    if is_folder:
        hint = f"{pattern.rstrip('/')}/* takes the files in it"
        raise SpecError(pattern, "is a folder, not a file", hint)
    if not files:
        raise NoFileError(pattern, "there is no such file")
    return files


def stamp_url(path: str) -> tuple[int, str]:
    """Size in bytes, and what changes when the content does.

    Raises
    ------
    SpecError
        If there is no such file.
    TransientError
        If the place cannot be reached.
    """
    system, name = _opened(path)
    with _explained(path):
        info: dict[str, Any] = system.info(name)
        if info.get("type") == "directory":
            return _stamp_folder(system, name)
    return int(info["size"]), _change(info)


def _change(info: Mapping[str, Any]) -> str:
    return next((str(info[word]) for word in _CHANGES if info.get(word)), "")


def _stamp_folder(system: Any, name: str) -> tuple[int, str]:
    files = system.find(name, detail=True)
    digest = sha256()
    for file in sorted(files):
        digest.update(f"{file} {files[file]['size']} {_change(files[file])}\n".encode())
    return sum(int(one["size"]) for one in files.values()), digest.hexdigest()


@contextmanager
def at_hand(path: str) -> Iterator[str]:
    """A path that readers can open: itself, or a copy on this machine's disk for a while.

    Whole files are copied: FITS and HDF5 are read here and there in them, and a Zarr folder is a
    file. Errors speak of the file by its own name.

    Raises
    ------
    SpecError
        If there is no such file.
    TransientError
        If it cannot be fetched, or other bytes come than there are: a copy that ends early could
        pass for a shorter file.
    """
    if not is_url(path):
        yield path
        return
    system, name = _opened(path)
    with tempfile.TemporaryDirectory(prefix="galbatch-") as folder:
        copy = str(Path(folder) / Path(name).name)
        with _explained(path):
            size = _fetch(system, name, copy)
        came = _bytes(Path(copy))
        if came != size:
            raise TransientError(path, f"{came:,} of its {size:,} bytes came: it is tried again")
        try:
            yield copy
        except GalbatchError as error:
            where = error.where.replace(copy, path)
            raise type(error)(where, error.problem, error.hint) from error


def _fetch(system: Any, name: str, copy: str) -> int:
    """Copy a file, or a folder that is one; the bytes that there are."""
    info = system.info(name)
    if info.get("type") != "directory":
        system.get_file(name, copy)
        return int(info["size"])
    size = 0
    for file, one in system.find(name, detail=True).items():
        target = Path(copy) / file[len(name) :].strip("/")
        if ".." in target.parts:
            raise ValueError(f"'{file}' lies outside of the folder")
        target.parent.mkdir(parents=True, exist_ok=True)
        system.get_file(file, str(target))
        size += int(one["size"])
    return size


def _bytes(copy: Path) -> int:
    files = [file for file in copy.rglob("*") if file.is_file()] if copy.is_dir() else [copy]
    return sum(file.stat().st_size for file in files)


@contextmanager
def _explained(path: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise SpecError(path, "there is no such file") from None
    except Exception as error:  # every protocol raises errors of its own
        what = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise TransientError(path, f"could not be fetched: {what}") from error


def _opened(path: str) -> tuple[Any, str]:
    refuse_secrets(path, "source.paths")
    from fsspec.core import url_to_fs

    try:
        system, name = url_to_fs(path, use_listings_cache=False)
    except (ImportError, ValueError) as error:
        hint = "install galbatch[s3]" if path.startswith("s3") else ""
        raise SpecError(path, f"cannot be opened: {error}", hint) from error
    return system, str(name)
