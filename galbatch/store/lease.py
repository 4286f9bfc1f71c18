"""One run at a time on a store in object storage, where there are no locks.

The lock is an object that only one can create. Whoever holds it renews it; when it has not been
renewed for a while, or its process on this machine is gone, the run that held it is dead.
"""

from __future__ import annotations

import _thread
import json
import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from galbatch.errors import SpecError
from galbatch.store.places import file_system

_log = logging.getLogger(__name__)

RENEWED_EVERY = 15.0
DEAD_AFTER = 90.0
"""Seconds without renewal."""


@contextmanager
def lease(lock: Path) -> Iterator[None]:
    """Hold a remote lock.

    Parameters
    ----------
    lock : Path
        Remote.

    Raises
    ------
    SpecError
        If another run holds it, or the place cannot be written.
    """
    mine = {"run": uuid.uuid4().hex, "process": os.getpid(), "host": socket.gethostname()}
    if not _create(lock, mine):
        holder = _read(lock)
        if holder is not None and not _is_dead(lock, holder):
            raise SpecError(
                str(lock.parent),
                f"another run works on this store "
                f"(process {holder.get('process')} on {holder.get('host')})",
                f"wait for it, or stop it; a run that died is noticed after {DEAD_AFTER:.0f} s",
            )
        lock.unlink(missing_ok=True)
        # Of two that found it dead at the same time, the second may have removed the first's.
        taken = _create(lock, mine)
        time.sleep(1)
        if not taken or _read(lock) != mine:
            raise SpecError(str(lock.parent), "another run took this store just now", "wait for it")
    ended, lost = threading.Event(), threading.Event()
    renewal = threading.Thread(target=_renew, args=(lock, mine, ended, lost), daemon=True)
    renewal.start()
    try:
        yield
    except KeyboardInterrupt:
        if lost.is_set():
            raise SpecError(
                str(lock.parent),
                "could not hold this store any longer: its lock was not renewed in time, "
                "and another run may have it",
                "run again; finished work is kept",
            ) from None
        raise
    finally:
        ended.set()
        renewal.join()
        if _read(lock) == mine:
            lock.unlink(missing_ok=True)


def _create(lock: Path, mine: dict[str, Any]) -> bool:
    system, name = file_system(lock)
    try:
        # If-None-Match: the storage itself refuses a second one.
        system.pipe_file(name, json.dumps(mine).encode(), mode="create")
    except FileExistsError:
        return False
    except OSError as error:
        if "PreconditionFailed" in str(error) or "412" in str(error):
            return False
        raise SpecError(
            str(lock.parent), f"cannot be written: {error}", "do the bucket and the keys exist?"
        ) from error
    return True


def _read(lock: Path) -> dict[str, Any] | None:
    try:
        words: dict[str, Any] = json.loads(lock.read_bytes())
    except (FileNotFoundError, ValueError):
        return None
    return words


def _renew(lock: Path, mine: dict[str, Any], ended: threading.Event, lost: threading.Event) -> None:
    """Say every now and then that we live; stop the run before others may think it dead."""
    system, name = file_system(lock)
    renewed = time.monotonic()
    while not ended.wait(RENEWED_EVERY):
        try:
            # Whoever was suspended for long must not write over the lock of its successor.
            holder = _read(lock)
            if holder == mine:
                system.pipe_file(name, json.dumps(mine).encode())
                renewed = time.monotonic()
        except Exception as error:  # the network may be back at the next turn
            _log.warning("%s could not be renewed: %s", lock, error)
            holder = mine
        if holder != mine or time.monotonic() - renewed > DEAD_AFTER - 2 * RENEWED_EVERY:
            lost.set()
            _thread.interrupt_main()
            return


def _is_dead(lock: Path, holder: dict[str, Any]) -> bool:
    if holder.get("host") == socket.gethostname():
        try:
            os.kill(int(holder["process"]), 0)
        except ProcessLookupError:
            return True
        except (PermissionError, KeyError, ValueError):
            return False
    try:
        return time.time() - lock.stat().st_mtime > DEAD_AFTER
    except FileNotFoundError:
        return True
