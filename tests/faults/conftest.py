"""A queue, and what takes a while in earnest noticed at once."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from queues import StubQueue
from shared import made_once
from slurm.runs import write_small
from small import REPOSITORY, galbatch

from galbatch.cluster import queue, workers


@pytest.fixture(scope="session")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the small job of `slurm.runs` has run, in this process."""

    def make(folder: Path) -> None:
        write_small(folder, {"kind": "serial"})
        done = galbatch("run", "job.yaml", cwd=folder)
        assert done.returncode == 0, done.stderr

    return made_once(tmp_path_factory, "of-a-queue", make)


@pytest.fixture
def stub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], StubQueue]]:
    made: list[StubQueue] = []
    for tool in ("bash", "flock", "setsid"):
        if shutil.which(tool) is None:
            pytest.skip(f"no '{tool}' here")

    def make(kind: str) -> StubQueue:
        found = StubQueue(tmp_path / "queue", kind)
        monkeypatch.setenv("PATH", found.path)
        monkeypatch.setenv("PYTHONPATH", f"{REPOSITORY}{os.pathsep}{REPOSITORY / 'tests'}")
        made.append(found)
        return found

    yield make
    for found in made:
        found.kill()


@pytest.fixture
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """What takes a while is noticed at once."""
    monkeypatch.setattr(workers, "SILENCE", 0.3)
    monkeypatch.setattr(workers, "EVERY", 0.05)
    monkeypatch.setattr(queue, "ASKED_EVERY", 0.2)
