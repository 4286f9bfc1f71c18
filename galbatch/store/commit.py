"""Files appear whole or not at all."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

import pyarrow as pa

from galbatch.errors import SpecError, TransientError
from galbatch.store import fence
from galbatch.store.locations import file_system, is_remote, remove_tree

TEMPORARY = ".tmp"
"""Ending of a file that is being written; it also starts with a dot, so datasets overlook it."""


class NewFile(AbstractContextManager["NewFile"]):
    """A file under a temporary name, which is moved to its place when it is whole.

    A process that is killed here leaves either the old file or the new one, never a part. In object
    storage, where a file appears whole or not at all, it is uploaded when it is complete. When
    another run has taken over the store, the file is thrown away.

    Parameters
    ----------
    path : Path
        Its final path; missing folders are made.
    private : bool, optional
        Whether nobody but the user may read it; on a disk.

    Raises
    ------
    SpecError
        From every method that writes: the disk is full or the folder cannot be written.
    """

    def __init__(self, path: Path, private: bool = False) -> None:
        self._path = path
        name = f".{path.name}.{uuid.uuid4().hex[:12]}{TEMPORARY}"
        self._remote = is_remote(path)
        self._temporary = (
            Path(tempfile.gettempdir(), name) if self._remote else path.with_name(name)
        )
        self._hash = hashlib.sha256()
        self._size = 0
        with self._explained():
            self._temporary.parent.mkdir(parents=True, exist_ok=True)
            if private:
                self._temporary.touch(mode=0o600)
            self._file = self._temporary.open("wb")

    closed = False

    def write(self, data: bytes | memoryview | pa.Buffer) -> int:
        """Add to the file."""
        view = memoryview(data)
        self._size += view.nbytes
        with self._explained():
            self._file.write(view)
        self._hash.update(view)
        return view.nbytes

    def tell(self) -> int:
        """Bytes written."""
        return self._size

    def flush(self) -> None:
        """Nothing: `commit` flushes the file."""

    def commit(self, check: Callable[[Path], None] | None = None) -> str:
        """Read the file back and move it to its place.

        Parameters
        ----------
        check : callable, optional
            Given the temporary file; raises when its content is not as it should be.

        Returns
        -------
        str
            SHA-256 of the file.

        Raises
        ------
        Fenced
            If another run has taken over the store.
        TransientError
            If the file reads back different from what was written.
        """
        digest = self._hash.hexdigest()
        with self._explained():
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            if digest_file(self._temporary) != digest:
                raise TransientError(str(self._path), "reads back different from what was written")
            if check is not None:
                check(self._temporary)
            fence.check()
            if self._remote:
                _upload(self._temporary, self._path)
                if digest_file(self._path) != digest:
                    fence.check()  # or it is the file of another run
                    self._path.unlink(missing_ok=True)
                    raise TransientError(str(self._path), "did not arrive as it was sent")
            else:
                self._temporary.replace(self._path)
                _sync_folder(self._path.parent)
        return digest

    def __exit__(self, *_: object) -> None:
        # What is still to be flushed goes to a file that is thrown away, perhaps on a full disk.
        with suppress(OSError):
            self._file.close()
        _remove(self._temporary)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise _explained(error, self._path, self._size) from error


def commit_bytes(
    path: Path,
    data: bytes | pa.Buffer,
    check: Callable[[Path], None] | None = None,
    *,
    private: bool = False,
) -> str:
    """Write a file whole or not at all.

    Parameters
    ----------
    path : Path
        Its final path; missing folders are made.
    data : bytes or pyarrow.Buffer
    check : callable, optional
        Given the temporary file; raises when its content is not as it should be.
    private : bool, optional
        Whether nobody but the user may read it; on a disk.

    Returns
    -------
    str
        SHA-256 of the file.

    Raises
    ------
    SpecError
        If the disk is full or the folder cannot be written.
    TransientError
        If the file reads back different from what was written.
    """
    with NewFile(path, private) as file:
        file.write(data)
        return file.commit(check)


def commit_folder(prepared: Path, final: Path) -> None:
    """Move a folder of finished files to its place, instead of what was there.

    Killed in between, there is nothing at `final` rather than half of it (in object storage,
    perhaps some of the files: what is there counts when its receipt does).

    Parameters
    ----------
    prepared : Path
        On the same disk as `final`, or on any disk where that is in object storage.
    final : Path

    Raises
    ------
    Fenced
        If another run has taken over the store.
    SpecError
        If the disk is full or the folder cannot be written.
    """
    if is_remote(final):
        fence.check()
        remove_tree(final)
        for path in sorted(path for path in prepared.rglob("*") if path.is_file()):
            commit_bytes(final / path.relative_to(prepared).as_posix(), path.read_bytes())
        remove_tree(prepared)
        return
    size = 0
    old = final.with_name(f".{final.name}.{uuid.uuid4().hex[:12]}{TEMPORARY}")
    try:
        for path in sorted(prepared.rglob("*")):
            if path.is_file():
                size += path.stat().st_size
                with path.open("rb") as file:
                    os.fsync(file.fileno())
            else:
                _sync_folder(path)
        _sync_folder(prepared)
        final.parent.mkdir(parents=True, exist_ok=True)
        fence.check()
        if final.exists():
            final.rename(old)
        prepared.rename(final)
        _sync_folder(final.parent)
    except OSError as error:
        raise _explained(error, final, size) from error
    finally:
        _remove(old)


def digest_file(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_output(path: Path) -> str:
    """One digest for a file, or for all files of a folder.

    Parameters
    ----------
    path : Path

    Returns
    -------
    str
        The SHA-256 of the file, or that of ``<path in the folder>  <digest>`` lines, sorted.
    """
    if not path.is_dir():
        return digest_file(path)
    files = [entry for entry in path.rglob("*") if entry.is_file()]
    lines = sorted(f"{file.relative_to(path).as_posix()}  {digest_file(file)}\n" for file in files)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def sync_files(paths: Iterable[Path]) -> None:
    """Flush files that a library wrote to the disk, so that they survive a power cut.

    Parameters
    ----------
    paths : iterable of Path
        On this machine's disks.
    """
    folders = set()
    for path in paths:
        with path.open("rb") as file:
            os.fsync(file.fileno())
        folders.add(path.parent)
    for folder in sorted(folders):
        _sync_folder(folder)


@contextmanager
def explain_disk_errors(path: Path, size: int = 0) -> Iterator[None]:
    """Turn a full disk, or a folder that cannot be written, into a message for the user.

    Parameters
    ----------
    path : Path
        What is being written.
    size : int
        Bytes that it needs.

    Raises
    ------
    SpecError
        Instead of the OSError.
    """
    try:
        yield
    except OSError as error:
        raise _explained(error, path, size) from error


def remove_unfinished(folder: Path) -> None:
    """Remove what a killed process left unfinished anywhere below a folder."""
    if not is_remote(folder) and folder.is_dir():
        for entry in list(folder.rglob(f".*{TEMPORARY}")):
            _remove(entry)


def human_size(size: int) -> str:
    """``1.5 GiB`` from a number of bytes."""
    value = float(size)
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit == "bytes" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"


def _explained(error: OSError, path: Path, size: int) -> Exception:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return SpecError(
            str(path),
            f"no space left on device: {human_size(size)} needed, {_free(path)} free",
            "make room or put 'store' on another disk, and run again: finished work is kept",
        )
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return SpecError(str(path), f"cannot be written: {error.strerror}", "whose folder is it?")
    if error.errno in (errno.ENOTDIR, errno.EEXIST, errno.EISDIR):
        return SpecError(str(path), f"cannot be written: {error.strerror}", "is a file in the way?")
    return error


def _upload(file: Path, path: Path) -> None:
    system, name = file_system(path)
    system.put_file(str(file), name)


def _free(path: Path) -> str:
    parent = next(folder for folder in path.parents if folder.exists())
    try:
        return human_size(shutil.disk_usage(parent).free)
    except OSError:
        return "unknown"


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (
            errno.EINVAL,
            errno.ENOTSUP,
        ):  # some network disks cannot do this
            raise
    finally:
        os.close(descriptor)


def _remove(path: Path) -> None:
    # Also called while another error is raised, which must not be hidden.
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
        return
    try:
        path.unlink(missing_ok=True)
    except OSError:
        return
