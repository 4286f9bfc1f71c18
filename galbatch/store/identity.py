"""One store, one job, one run at a time."""

from __future__ import annotations

import errno
import fcntl
import json
import logging
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from galbatch.errors import SpecError
from galbatch.store.commit import commit_bytes
from galbatch.store.layout import Layout
from galbatch.store.lease import lease
from galbatch.store.places import is_remote

VERSION = 1
_ANOTHER = "choose another 'store', or delete it"
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
    _refuse_foreign(layout)
    if is_remote(layout.root):
        with lease(layout.lock):
            fresh = not layout.identity.exists()
            claim(layout, identity)
            yield fresh
        return
    try:
        layout.root.mkdir(parents=True, exist_ok=True)
        lock = layout.lock.open("a+", encoding="utf-8")
    except OSError as error:
        raise SpecError(str(layout.root), f"cannot be written: {error.strerror}") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                # Some cluster file systems are mounted without locks: better to run than not to.
                _log.warning("%s: this disk has no locks; start one run at a time", layout.root)
            else:
                raise SpecError(
                    str(layout.root),
                    f"another run works on this store{_holder(layout.lock)}",
                    "wait for it, or stop it",
                ) from error
        lock.truncate(0)
        lock.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        lock.flush()
        fresh = not layout.identity.exists()
        claim(layout, identity)
        yield fresh


def claim(layout: Layout, identity: Identity) -> None:
    """Write who made the store, or see that it was the same.

    Parameters
    ----------
    layout : Layout
    identity : Identity

    Raises
    ------
    SpecError
        If the folder is no store or another job's.
    """
    _refuse_foreign(layout)
    record = json.loads(json.dumps(asdict(identity), sort_keys=True, allow_nan=False))
    found = read_identity(layout)
    if found is None:
        page = {"version": VERSION, **record}
        commit_bytes(layout.identity, (json.dumps(page, indent=2, sort_keys=True) + "\n").encode())
        return
    if (found.job, found.survey) != (identity.job, identity.survey):
        raise SpecError(
            str(layout.root),
            f"was made by job '{found.job}' (survey {found.survey}), "
            f"this is job '{identity.job}' (survey {identity.survey})",
            _ANOTHER,
        )
    source = record["source"]
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


def read_identity(layout: Layout) -> Identity | None:
    """Who made the store, or None where there is none yet.

    Raises
    ------
    SpecError
        If it was made by a newer galbatch, or the file is damaged.
    """
    try:
        page = json.loads(layout.identity.read_text(encoding="utf-8"))
        if page["version"] != VERSION:
            raise SpecError(
                str(layout.root),
                f"was made by another galbatch (store version {page['version']}, not {VERSION})",
                _ANOTHER,
            )
        return Identity(page["job"], page["survey"], page["source"])
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise SpecError(str(layout.identity), f"is damaged: {error}", _ANOTHER) from error


def _refuse_foreign(layout: Layout) -> None:
    root = layout.root
    if root.is_file():
        raise SpecError(str(root), "is a file, not a folder", "choose another 'store'")
    if layout.identity.exists() or not root.is_dir():
        return
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
    text = path.read_text(encoding="utf-8").strip()
    return f" ({text})" if text else ""


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
