"""The tests of this folder need a real Grid Engine, which is brought up for them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from daemons import folder_of_this_checkout
from sge.service import GridEngine, why_not
from small import REPOSITORY


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker("sge")


@pytest.fixture(scope="session")
def grid_engine() -> Iterator[GridEngine]:
    """A Grid Engine of this checkout."""
    if reason := why_not():
        pytest.skip(reason)
    with folder_of_this_checkout("sge") as folder:
        found = GridEngine(folder)
        found.down()  # what a session that was killed has left
        try:
            found.up()
            yield found
        finally:
            found.down()


@pytest.fixture(autouse=True)
def surroundings(grid_engine: GridEngine, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Each test begins with an empty queue."""
    for name, value in grid_engine.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PYTHONPATH", f"{REPOSITORY}{os.pathsep}{REPOSITORY / 'tests'}")
    yield
    grid_engine.clear()
