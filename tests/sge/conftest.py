"""The tests of this folder need a real Grid Engine, which is brought up for them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from services import as_surroundings, brought_up
from sge.service import GridEngine, why_not


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker("sge")


@pytest.fixture(scope="session")
def grid_engine() -> Iterator[GridEngine]:
    """A Grid Engine of this checkout."""
    with brought_up("sge", GridEngine, why_not()) as queue:
        yield queue


@pytest.fixture(autouse=True)
def surroundings(grid_engine: GridEngine) -> Iterator[None]:
    """Each test begins with an empty queue."""
    with as_surroundings(grid_engine):
        yield
