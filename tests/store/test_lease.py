"""A lock that must be renewed: it outlives a bad connection, and is never shared."""

from __future__ import annotations

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


def test_who_cannot_renew_stops_before_others_may_take_over(
    lock: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    system, _ = room.file_system(lock)
    write = type(system).pipe_file

    def broken(self: Any, path: str, value: bytes, mode: str = "overwrite") -> None:
        if mode == "overwrite":
            raise OSError("503 Slow Down")
        write(self, path, value, mode=mode)

    monkeypatch.setattr(type(system), "pipe_file", broken)
    began = time.monotonic()
    with pytest.raises(SpecError, match="could not hold this store"), lease(lock):
        wait()
    assert time.monotonic() - began < 20


def test_the_lock_of_a_successor_is_not_written_over(lock: Path) -> None:
    with pytest.raises(SpecError, match="could not hold this store"), lease(lock):
        lock.write_bytes(b'{"run": "another"}')
        wait()
    assert lock.read_bytes() == b'{"run": "another"}'
