"""The tests of this folder need a real SLURM, which is brought up for them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from daemons import folder_of_this_checkout
from slurm.runs import run_serially
from slurm.service import Slurm, why_not
from small import REPOSITORY


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker("slurm")


@pytest.fixture(scope="session")
def slurm() -> Iterator[Slurm]:
    """A SLURM of this checkout."""
    if reason := why_not():
        pytest.skip(reason)
    with folder_of_this_checkout("slurm") as folder:
        found = Slurm(folder)
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
    return run_serially(tmp_path_factory.mktemp("reference"))
