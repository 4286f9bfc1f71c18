"""One store, one job, one run at a time."""

from __future__ import annotations

import errno
import fcntl
import json
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import IO, Any

from galbatch.errors import SpecError
from galbatch.store.commit import commit_bytes, explain_disk_errors, remove_unfinished
from galbatch.store.fence import Attempt, Holder, Occupied, read_holder, working_for
from galbatch.store.layout import Layout
from galbatch.store.lease import lease
from galbatch.store.locations import is_remote, remove_tree
from galbatch.store.receipts import Need, ReceiptBook

VERSION = 1
_ANOTHER = "choose another 'store', or delete it"
_STAGE, _UNIT = "store", "identity"
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Identity:
    """Who made a store.

    Parameters
    ----------
    job : str
        Name of the job.
    survey : str
        Name of the survey.
    source : mapping
        What the catalogue is made from (JSON values): a run with another source needs another
        store. What may change and only redo some work (a file's content) does not belong here.
    """

    job: str
    survey: str
    source: Mapping[str, Any]


@contextmanager
def hold(layout: Layout, identity: Identity) -> Iterator[bool]:
    """Work on a store: alone, and only if it is this job's (or new).

    A run that held it before and was killed writes there no more; the files that it left
    unfinished are removed.

    Parameters
    ----------
    layout : Layout
        Its folder is made where there is none.
    identity : Identity

    Yields
    ------
    bool
        Whether the store is new.

    Raises
    ------
    SpecError
        If the folder is no store, is another job's, or another run works on it.
    """
    _refuse_foreign(layout, identity)
    with _locked(layout):
        yield claim(layout, identity)


@contextmanager
def examine(layout: Layout) -> Iterator[bool]:
    """Lock a store to read it, whichever job made it.

    Parameters
    ----------
    layout : Layout

    Yields
    ------
    bool
        Whether it can be written.

    Raises
    ------
    SpecError
        If the folder is no store, or another run works on it.
    """
    if read_identity(layout) is None:
        raise SpecError(str(layout.root), "is no store of galbatch", "give the folder of a store")
    if is_remote(layout.root) or os.access(layout.root, os.W_OK):
        with _locked(layout):
            yield True
        return
    with ExitStack() as stack:
        try:
            # Others may read with us, but none write.
            lock = stack.enter_context(layout.lock.open("rb"))
        except OSError:
            pass
        else:
            _flock(layout, lock, fcntl.LOCK_SH)
        yield False


@contextmanager
def _locked(layout: Layout) -> Iterator[None]:
    with _lease_or_flock(layout) as holder, working_for(Attempt(layout.lock, holder.run)):
        if is_remote(layout.root):
            _make_scratch(layout.work)
        remove_unfinished(layout.work)
        remove_tree(layout.spill)
        yield


def _make_scratch(work: Path) -> None:
    """A store in object storage has it in the user's home, unless the job names another folder."""
    try:
        work.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SpecError(
            str(work), f"cannot be made: {error.strerror}", "name a folder for 'scratch' in the job"
        ) from error


@contextmanager
def _lease_or_flock(layout: Layout) -> Iterator[Holder]:
    if is_remote(layout.root):
        with lease(layout.lock) as holder:
            yield holder
        return
    try:
        layout.root.mkdir(parents=True, exist_ok=True)
        lock = layout.lock.open("ab")
    except OSError as error:
        problem = f"cannot be written: {error.strerror}"
        raise SpecError(f"store: {layout.root}", problem, "choose another place") from error
    with lock:
        _flock(layout, lock, fcntl.LOCK_EX)
        before, mine = read_holder(layout.lock), Holder()
        _write(layout, lock, mine.to_bytes())
        if before is not None:
            # It was killed, or stopped and its workers with it.
            remove_unfinished(layout.root)
        last = Holder(run="").to_bytes()
        try:
            yield mine
            last = b""
        finally:
            # Where there are no locks, another run may have it by now; or the store is gone.
            if read_holder(layout.lock) == mine:
                _write(layout, lock, last)


def _write(layout: Layout, lock: IO[bytes], page: bytes) -> None:
    with explain_disk_errors(layout.lock, len(page)):
        lock.truncate(0)
        lock.write(page)
        lock.flush()
        # Workers of other machines read it.
        os.fsync(lock.fileno())


def _flock(layout: Layout, lock: IO[bytes], kind: int) -> None:
    try:
        fcntl.flock(lock, kind | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
            # Some cluster file systems are mounted without locks: better to run than not to.
            _log.warning(
                "%s: this disk has no locks; start one run at a time: "
                "a second one takes the store over, and the first one stops",
                layout.root,
            )
        else:
            raise Occupied(
                str(layout.root),
                f"another run works on this store{_holder(layout.lock)}",
                "wait for it, or stop it",
            ) from error


def claim(layout: Layout, identity: Identity) -> bool:
    """Write who made the store, or see that it was the same.

    A receipt keeps it as well: the file is written again where it is lost.

    Parameters
    ----------
    layout : Layout
    identity : Identity

    Returns
    -------
    bool
        Whether the store is new.

    Raises
    ------
    SpecError
        If the folder is no store or another job's.
    """
    found, record = check_identity(layout, identity), _record(identity)
    page = _page(identity)
    if not layout.identity.is_file() or layout.identity.read_bytes() != page:
        if found is not None:
            _log.warning("%s was lost or damaged: written again", layout.identity)
        commit_bytes(layout.identity, page)
    digest, book = sha256(page).hexdigest(), ReceiptBook(layout)
    need = Need(_STAGE, _UNIT, record)
    receipt = book.get(_STAGE, _UNIT)
    if receipt is None or receipt.digest != digest or not book.holds(receipt, need):
        outputs = {layout.relative(layout.identity): digest}
        book.put(need.receipt(digest=digest, rows=0, outputs=outputs, seconds=0.0))
    return found is None


def check_identity(layout: Layout, identity: Identity) -> Identity | None:
    """See that a store is new or was made by the same, and write nothing.

    Parameters
    ----------
    layout : Layout
    identity : Identity

    Returns
    -------
    Identity or None
        Who made it; None for a new one.

    Raises
    ------
    SpecError
        If the folder is no store or another job's.
    """
    _refuse_foreign(layout, identity)
    found = read_identity(layout, identity)
    if found is not None:
        _refuse_others(layout, found, identity, _record(identity)["source"])
    return found


def _refuse_others(
    layout: Layout, found: Identity, identity: Identity, source: Mapping[str, Any]
) -> None:
    if (found.job, found.survey) != (identity.job, identity.survey):
        raise SpecError(
            str(layout.root),
            f"was made by job '{found.job}' (survey {found.survey}), "
            f"this is job '{identity.job}' (survey {identity.survey})",
            _ANOTHER,
        )
    keys = sorted(found.source.keys() | source.keys())
    changed = [key for key in keys if found.source.get(key) != source.get(key)]
    if changed:
        key = changed[0]
        raise SpecError(
            str(layout.root),
            f"was made from another source: {', '.join(changed)} differs "
            f"({_short(found.source.get(key))} then, {_short(source.get(key))} now)",
            _ANOTHER,
        )


def read_identity(layout: Layout, asking: Identity | None = None) -> Identity | None:
    """Who made the store, or None where there is none yet.

    Where its file is lost or damaged, its receipt says so.

    Parameters
    ----------
    layout : Layout
    asking : Identity, optional
        Of the job that asks: to say how to repair the file by hand where the receipt is lost as
        well.

    Raises
    ------
    SpecError
        If it was made by a newer galbatch, or both are damaged.
    """
    problem = ""
    try:
        page = json.loads(layout.identity.read_text(encoding="utf-8"))
        if page["version"] != VERSION:
            raise SpecError(
                str(layout.root),
                f"was made by another galbatch (store version {page['version']}, not {VERSION})",
                _ANOTHER,
            )
        return Identity(page["job"], page["survey"], page["source"])
    except (FileNotFoundError, NotADirectoryError):
        pass
    except (IsADirectoryError, ValueError, KeyError, TypeError) as error:
        problem = f"is damaged: {error}"
    receipt = ReceiptBook(layout).get(_STAGE, _UNIT)
    if receipt is not None:
        return Identity(**receipt.depends)
    if problem:
        raise SpecError(str(layout.identity), problem, _by_hand(asking))
    return None


def _record(identity: Identity) -> dict[str, Any]:
    """The identity as it is after it was written and read back."""
    record: dict[str, Any] = json.loads(
        json.dumps(asdict(identity), sort_keys=True, allow_nan=False)
    )
    return record


def _page(identity: Identity) -> bytes:
    page = {"version": VERSION, **_record(identity)}
    return (json.dumps(page, indent=2, sort_keys=True) + "\n").encode()


def _by_hand(mine: Identity | None) -> str:
    if mine is None:
        return "'galbatch run' with its job says what to write"
    text = json.dumps({"version": VERSION, **_record(mine)}, sort_keys=True)
    return f"if job '{mine.job}' made this store, write this into the file: {text}"


def _refuse_foreign(layout: Layout, identity: Identity) -> None:
    root = layout.root
    if root.is_file():
        raise SpecError(str(root), "is a file, not a folder", "choose another 'store'")
    if layout.identity.exists() or not root.is_dir():
        return
    if read_identity(layout) is not None:
        return
    if (layout.receipts / "ingest").is_dir():
        raise SpecError(str(layout.identity), "is gone", _by_hand(identity))
    # A first run may have been killed between the lock and the identity.
    others = sorted(
        entry.name
        for entry in root.iterdir()
        if entry.name != layout.lock.name and not entry.name.startswith(f".{layout.identity.name}.")
    )
    if others:
        raise SpecError(
            str(root),
            f"is not empty and no store of galbatch (it holds {', '.join(others[:3])}"
            + (", ..." if len(others) > 3 else ")"),
            "choose another 'store'",
        )


def _holder(path: Path) -> str:
    holder = read_holder(path)
    return f" ({holder})" if holder else ""


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
