"""Where a store is: a folder on a disk, or a place in object storage (`s3://bucket/folder`)."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import takewhile
from pathlib import Path
from typing import IO, Any, cast

from galbatch.errors import SpecError, refuse_secrets


def location(text: str) -> Path:
    """The path that a user means.

    Parameters
    ----------
    text : str
        A folder, or a URL that fsspec knows. Keys and endpoints come from the environment
        (``AWS_PROFILE``, ``AWS_ENDPOINT_URL``, ...), never from a job.

    Returns
    -------
    Path
        Absolute. One in object storage behaves like a path but is no `pathlib.Path`: see
        `is_remote`.

    Raises
    ------
    SpecError
        If the package that knows such places is not installed, or it cannot be reached.
    """
    if "://" not in text:
        return Path(text).expanduser().absolute()
    refuse_secrets(text, "store")
    from upath import UPath

    protocol = text.partition("://")[0]
    try:
        # Other processes write there as well: a listing that is remembered would be wrong.
        found = cast(Path, UPath(text.rstrip("/"), use_listings_cache=False))
    except (ImportError, ValueError) as error:
        hint = "install galbatch[s3]" if protocol in ("s3", "s3a") else ""
        raise SpecError(text, f"cannot be opened: {error}", hint) from error
    try:
        found.exists()
    except Exception as error:  # every storage has exceptions of its own for a missing key
        what = str(error).splitlines()[0] if str(error) else type(error).__name__
        hint = "do the bucket, the keys and the endpoint exist? They come from the environment"
        raise SpecError(text, f"cannot be reached: {what}", hint) from error
    return found


def is_remote(path: Path) -> bool:
    """Whether a path is in object storage: there files appear whole, and there are no folders."""
    return not isinstance(path, Path)


def file_system(path: Path) -> tuple[Any, str]:
    """The fsspec file system of a remote path, and its name there."""
    remote = cast(Any, path)
    return remote.fs, remote.path


def check_writable(folder: Path, setting: str) -> None:
    """Check that files may be written into a folder, which need not exist; nothing is written.

    Parameters
    ----------
    folder : Path
    setting : str
        Of the job, for the message.

    Raises
    ------
    SpecError
        If it cannot be made or written. Object storage is not checked.
    """
    if is_remote(folder):
        return
    nearest = next(path for path in (folder, *folder.parents) if path.exists())
    if not nearest.is_dir():
        raise SpecError(f"{setting}: {folder}", f"{nearest} is a file, not a folder")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise SpecError(
            f"{setting}: {folder}", f"{nearest} cannot be written", "choose another place"
        )


def missing(path: Path) -> list[Path]:
    """The folders that must be made for a path to be there, the innermost first."""
    if is_remote(path):
        return []
    return list(takewhile(lambda folder: not folder.exists(), (path, *path.parents)))


@contextmanager
def readable(path: Path) -> Iterator[Path | IO[bytes]]:
    """The path, or an open file where pyarrow cannot open the path."""
    if not is_remote(path):
        yield path
        return
    with path.open("rb") as file:
        yield file


@contextmanager
def local_copy(path: Path) -> Iterator[Path]:
    """A file or folder for libraries that read disks only: itself, or a temporary copy."""
    if not is_remote(path):
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="galbatch-") as folder:
        copy = Path(folder) / path.name
        _fetch(path, copy)
        yield copy


def lasting_copy(path: Path) -> Path:
    """As `local_copy`, for as long as this process lives."""
    if not is_remote(path):
        return path
    folder = tempfile.mkdtemp(prefix="galbatch-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    copy = Path(folder) / path.name
    _fetch(path, copy)
    return copy


def _fetch(path: Path, copy: Path) -> None:
    """Copy a remote file, or all files below a remote folder, to a disk."""
    files = [path] if path.is_file() else [one for one in path.rglob("*") if one.is_file()]
    for file in files:
        target = copy if file == path else copy / file.relative_to(path).as_posix()
        target.parent.mkdir(parents=True, exist_ok=True)
        with file.open("rb") as source, target.open("wb") as sink:
            shutil.copyfileobj(source, sink)


def empty(folder: Path) -> None:
    """Remove all that is in a folder, if it is there."""
    if is_remote(folder):
        remove_tree(folder)
    elif folder.is_dir():
        for entry in list(folder.iterdir()):
            if entry.is_dir() and not entry.is_symlink():
                remove_tree(entry)
            else:
                entry.unlink(missing_ok=True)


def remove_tree(path: Path) -> None:
    """Remove a folder and all below it, if it is there."""
    if not is_remote(path):
        shutil.rmtree(path, ignore_errors=True)
        return
    system, name = file_system(path)
    if system.exists(name):
        system.rm(name, recursive=True)
