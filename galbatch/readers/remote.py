"""Files in object storage: found there, and brought to a disk to be read."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from galbatch.errors import GalbatchError, SpecError, TransientError, refuse_secrets

_CHANGES = (
    *("ETag", "etag", "Content-MD5", "Digest"),
    *("LastModified", "Last-Modified", "last_modified", "updated", "mtime", "created"),
)
"""Where file systems say what changes with the content of a file, the surest first."""


def is_url(path: str) -> bool:
    """Whether a path is a URL that fsspec shall open."""
    return "://" in path


def expand_url(pattern: str) -> list[str]:
    """The files behind a URL or a glob of URLs, by name.

    Raises
    ------
    SpecError
        If there is none, or the place cannot be reached.
    """
    system, name = _opened(pattern)
    try:
        found = sorted(system.glob(name)) if "*" in name or "?" in name else [name]
        files = [system.unstrip_protocol(one) for one in found if system.isfile(one)]
        is_folder = not files and system.isdir(name)
    except Exception as error:  # every protocol raises errors of its own
        raise SpecError(pattern, f"cannot be reached: {error}", "are the keys right?") from error
    if not files:
        hint = f"{pattern.rstrip('/')}/* takes the files in it" if is_folder else ""
        raise SpecError(
            pattern, "is a folder, not a file" if is_folder else "there is no such file", hint
        )
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
    return int(info["size"]), next((str(info[word]) for word in _CHANGES if info.get(word)), "")


@contextmanager
def at_hand(path: str) -> Iterator[str]:
    """A path that readers can open: itself, or a copy on this machine's disk for a while.

    Whole files are copied: FITS and HDF5 are read here and there in them. Errors speak of the
    file by its own name.

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
            size = int(system.info(name)["size"])
            system.get_file(name, copy)
        came = Path(copy).stat().st_size
        if came != size:
            raise TransientError(path, f"{came:,} of its {size:,} bytes came: it is tried again")
        try:
            yield copy
        except GalbatchError as error:
            where = error.where.replace(copy, path)
            raise type(error)(where, error.problem, error.hint) from error


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
