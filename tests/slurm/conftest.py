"""The tests of this folder need a real SLURM, which is brought up for them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from services import as_surroundings, brought_up
from slurm.runs import run_serially
from slurm.service import Slurm, why_not


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker("slurm")


@pytest.fixture(scope="session")
def slurm() -> Iterator[Slurm]:
    """A SLURM of this checkout."""
    with brought_up("slurm", Slurm, why_not()) as queue:
        yield queue


@pytest.fixture(autouse=True)
def surroundings(slurm: Slurm) -> Iterator[None]:
    """Each test begins with an empty queue and all nodes up."""
    with as_surroundings(slurm):
        yield


@pytest.fixture(scope="session")
def reference(slurm: Slurm, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the small job of `slurm.runs` has run, serially."""
    return run_serially(tmp_path_factory.mktemp("reference"))
