"""The tests of this folder need a real SLURM, which is brought up for them."""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from slurm.runs import write_small
from slurm.service import Slurm, missing
from small import REPOSITORY, galbatch_process


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker("slurm")


@pytest.fixture(scope="session")
def slurm() -> Iterator[Slurm]:
    """A SLURM of this checkout; a session of pytest waits for another that uses it."""
    if reason := missing():
        pytest.skip(reason)
    name = hashlib.sha256(str(REPOSITORY).encode()).hexdigest()[:8]
    place = Path("/tmp", f"galbatch-slurm-{name}")  # the path of a socket must be short
    with place.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        found = Slurm(place)
        found.down()  # what a session that was killed has left
        try:
            found.up()
            yield found
        finally:
            found.down()


@pytest.fixture(autouse=True)
def surroundings(slurm: Slurm, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Each test begins with an empty queue and all nodes up."""
    for name, value in slurm.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PYTHONPATH", f"{REPOSITORY}{os.pathsep}{REPOSITORY / 'tests'}")
    yield
    slurm.clear()


@pytest.fixture(scope="session")
def reference(slurm: Slurm, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the small job of `slurm.runs` has run, serially."""
    folder = tmp_path_factory.mktemp("reference")
    write_small(folder, {"kind": "serial"})
    done = galbatch_process("run", "job.yaml", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder
