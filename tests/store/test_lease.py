"""A lock that must be renewed: it outlives a bad connection, and is never shared."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from upath import UPath

from galbatch.errors import SpecError
from galbatch.store import lease as room
from galbatch.store.lease import lease


@pytest.fixture
def lock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setattr(room, "RENEWED_EVERY", 0.05)
    monkeypatch.setattr(room, "DEAD_AFTER", 1.0)
    path = UPath("memory://store/lock")
    yield cast(Path, path)
    path.unlink(missing_ok=True)


def wait() -> None:
    end = time.monotonic() + 30
    while time.monotonic() < end:
        time.sleep(0.05)


def test_a_renewal_that_fails_is_tried_again(lock: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    system, _ = room.file_system(lock)
    write, failures = type(system).pipe_file, []

    def unreliable(self: Any, path: str, value: bytes, mode: str = "overwrite") -> None:
        if mode == "overwrite" and len(failures) < 3:
            failures.append(1)
            raise OSError("503 Slow Down")
        write(self, path, value, mode=mode)

    monkeypatch.setattr(type(system), "pipe_file", unreliable)
    with lease(lock):
        time.sleep(0.5)
        assert len(failures) == 3 and lock.exists()
    assert not lock.exists()


@pytest.mark.parametrize("interrupt", [signal.default_int_handler, signal.SIG_IGN, sys.exit])
def test_who_cannot_renew_stops_before_others_may_take_over(
    lock: Path, monkeypatch: pytest.MonkeyPatch, interrupt: Any
) -> None:
    system, _ = room.file_system(lock)
    write = type(system).pipe_file

    def broken(self: Any, path: str, value: bytes, mode: str = "overwrite") -> None:
        if mode == "overwrite":
            raise OSError("503 Slow Down")
        write(self, path, value, mode=mode)

    monkeypatch.setattr(type(system), "pipe_file", broken)
    began, before = time.monotonic(), signal.getsignal(room.STOP)
    # As in the background of a script, and as some libraries have it.
    usual = signal.signal(signal.SIGINT, interrupt)
    try:
        with pytest.raises(SpecError, match="could not hold this store"), lease(lock):
            time.sleep(30)
    finally:
        signal.signal(signal.SIGINT, usual)
    assert time.monotonic() - began < 20
    assert signal.getsignal(room.STOP) == before


def test_what_a_library_makes_of_the_interruption_hides_nothing(lock: Path) -> None:
    with pytest.raises(SpecError, match="could not hold this store"), lease(lock):
        lock.write_bytes(b'{"run": "another"}')
        try:
            wait()
        except KeyboardInterrupt:
            raise RuntimeError("the event loop is closed") from None


def test_an_interruption_by_the_user_is_none_of_the_lease(lock: Path) -> None:
    with pytest.raises(KeyboardInterrupt), lease(lock):
        raise KeyboardInterrupt
    assert not lock.exists()


def test_who_does_not_hear_is_ended() -> None:
    script = """
        import time
        from upath import UPath
        from galbatch.store import lease
        lease.RENEWED_EVERY = lease.GRACE = 0.2
        lock = UPath("memory://store/lock")
        with lease.lease(lock):
            lock.write_bytes(b"{}")
            while True:
                try:
                    time.sleep(60)
                except KeyboardInterrupt:
                    pass
    """
    ended = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        check=False,
        capture_output=True,
        encoding="utf-8",
        timeout=60,
    )
    assert ended.returncode == 2
    (line,) = ended.stderr.splitlines()
    assert line.startswith("error: memory://store: could not hold this store any longer")


def test_the_lock_of_a_successor_is_not_written_over(lock: Path) -> None:
    with pytest.raises(SpecError, match="could not hold this store"), lease(lock):
        lock.write_bytes(b'{"run": "another"}')
        wait()
    assert lock.read_bytes() == b'{"run": "another"}'
