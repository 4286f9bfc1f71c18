"""One run at a time on a store in object storage, where there are no locks.

The lock is an object that only one run can create. The run that holds it renews it; when it has not
been renewed for a while, or its process on this machine is gone, that run is taken for dead.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from galbatch.errors import SpecError
from galbatch.store.fence import Holder, Occupied, read_holder
from galbatch.store.locations import file_system

_log = logging.getLogger(__name__)

RENEWED_EVERY = 15.0
DEAD_AFTER = 90.0
"""Seconds without renewal."""
GRACE = 30.0
"""Seconds that a run which lost its lock has to end by itself."""
STOP = signal.SIGUSR2
_CHANGE_SOMETHING = 2


@contextmanager
def lease(lock: Path) -> Iterator[Holder]:
    """Hold a remote lock.

    A run that loses the lock is stopped by a signal that nobody else uses: programs that a script
    starts in the background ignore that of Ctrl-C, and libraries replace its handler.

    Parameters
    ----------
    lock : Path
        Remote.

    Yields
    ------
    Holder
        As the lock names it.

    Raises
    ------
    SpecError
        If another run holds it, the place cannot be written, or the lock was lost meanwhile.
    """
    mine = Holder()
    _take(lock, mine)
    ended, lost = threading.Event(), threading.Event()
    renewal = threading.Thread(target=_renew, args=(lock, mine, ended, lost), daemon=True)
    try:
        with _stoppable():
            renewal.start()
            try:
                yield mine
            finally:
                ended.set()
                renewal.join()
    except (KeyboardInterrupt, Exception) as error:
        # Libraries may make something else of what stops them.
        if lost.is_set() and not isinstance(error, SpecError):
            raise _lost(lock) from None
        raise
    finally:
        _give_back(lock, mine)


def _take(lock: Path, mine: Holder) -> None:
    if _create(lock, mine):
        return
    holder = read_holder(lock)
    if holder is not None and not _is_dead(lock, holder):
        raise Occupied(
            str(lock.parent),
            f"another run works on this store ({holder})",
            f"wait for it, or stop it; a run that died is noticed after {DEAD_AFTER:.0f} s",
        )
    lock.unlink(missing_ok=True)
    # Of two that found it dead at the same time, the second may have removed the first's.
    taken = _create(lock, mine)
    time.sleep(1)
    if not taken or read_holder(lock) != mine:
        raise Occupied(str(lock.parent), "another run took this store just now", "wait for it")


def _give_back(lock: Path, mine: Holder) -> None:
    try:
        if read_holder(lock) == mine:
            lock.unlink(missing_ok=True)
    except Exception as error:  # whatever a storage raises that cannot be reached
        _log.warning("%s could not be removed: %s; it is void in %.0f s", lock, error, DEAD_AFTER)


def _lost(lock: Path) -> SpecError:
    return SpecError(
        str(lock.parent),
        "could not hold this store any longer: its lock was not renewed in time, "
        "and another run may have it",
        "run again; finished work is kept",
    )


def _create(lock: Path, mine: Holder) -> bool:
    system, name = file_system(lock)
    try:
        # If-None-Match: the storage itself refuses a second one.
        system.pipe_file(name, mine.to_bytes(), mode="create")
    except FileExistsError:
        return False
    except OSError as error:
        if "PreconditionFailed" in str(error) or "412" in str(error):
            return False
        raise SpecError(
            str(lock.parent), f"cannot be written: {error}", "do the bucket and the keys exist?"
        ) from error
    return True


def _renew(lock: Path, mine: Holder, ended: threading.Event, lost: threading.Event) -> None:
    """Renew the lock regularly; stop the run before others may take it for dead."""
    system, name = file_system(lock)
    renewed = time.monotonic()
    while not ended.wait(RENEWED_EVERY):
        holder: Holder | None
        try:
            # A run that was suspended for long must not overwrite the lock of its successor.
            holder = read_holder(lock)
            if holder == mine:
                system.pipe_file(name, mine.to_bytes())
                renewed = time.monotonic()
        except Exception as error:  # the network may be back at the next turn
            _log.warning("%s could not be renewed: %s", lock, error)
            holder = mine
        if holder != mine or time.monotonic() - renewed > DEAD_AFTER - 2 * RENEWED_EVERY:
            lost.set()
            _stop(lock, ended)
            return


@contextmanager
def _stoppable() -> Iterator[None]:
    """A block that `STOP` interrupts, like Ctrl-C."""
    if threading.current_thread() is not threading.main_thread():
        # Handlers are the main thread's. Here it is the fence alone that stops what is written.
        yield
        return
    before = signal.signal(STOP, _interrupt)
    try:
        yield
    finally:
        signal.signal(STOP, before)


def _interrupt(signum: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _stop(lock: Path, ended: threading.Event) -> None:
    """End the run: by an exception in its main thread, and if that does not help, at once."""
    if signal.getsignal(STOP) is not _interrupt:
        return
    main = threading.main_thread().ident
    assert main is not None
    # A signal that is sent, not one that is feigned: it ends a wait as well.
    signal.pthread_kill(main, STOP)
    if not ended.wait(GRACE):
        print(f"error: {_lost(lock)}", file=sys.stderr, flush=True)
        os._exit(_CHANGE_SOMETHING)


def _is_dead(lock: Path, holder: Holder) -> bool:
    if holder.host == socket.gethostname() and holder.process:
        try:
            os.kill(holder.process, 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            return False
    try:
        return time.time() - lock.stat().st_mtime > DEAD_AFTER
    except FileNotFoundError:
        return True
