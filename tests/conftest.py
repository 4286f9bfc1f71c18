"""What many tests need."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from hypothesis import settings
from shared import made_once
from small import REPOSITORY, galbatch, write_job

pytest.register_assert_rewrite("contracts.sinks")

# How long an example takes says more about the machine, and what else it does, than about us.
settings.register_profile("galbatch", deadline=None)
settings.load_profile("galbatch")


SLOW_FIRST = (
    "faults/test_faults.py",
    "faults/test_queue.py",
    "faults/test_submit.py",
    "training/test_fit.py",
    "test_run.py",
    "test_memory.py",
    "test_object_storage.py",
    "stages/test_gasnet.py",
    "stages/test_ssp_mixture.py",
    "stages/test_arrays.py",
    "faults/test_fence.py",
    "faults/test_allocation.py",
    "test_lifecycle.py",
    "test_cluster.py",
    "training/test_transfer.py",
    "test_bad_input.py",
    "training/test_augment.py",
)
"""Files that take longest. The workers of pytest-xdist take one at a time: begun last, one of
these would keep a worker busy when the other has nothing left to do."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    first = {REPOSITORY / "tests" / name: place for place, name in enumerate(SLOW_FIRST)}
    items.sort(key=lambda item: first.get(item.path, len(first)))


@pytest.fixture(scope="session")
def survey_data() -> Path:
    """Folder with real survey data, or skip."""
    folder = Path(os.environ.get("GALBATCH_DATA", REPOSITORY.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no survey data: {folder} is not a folder (set GALBATCH_DATA)")
    return folder


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which a small job has run, serially."""

    def make(folder: Path) -> None:
        write_job(folder)
        done = galbatch("run", "job.yaml", cwd=folder)
        assert done.returncode == 0, done.stderr

    return made_once(tmp_path_factory, "small", make)


@pytest.fixture
def copy(finished: Path, tmp_path: Path) -> Path:
    """Another such folder, which may be changed."""
    return shutil.copytree(finished, tmp_path / "copy")
