"""What many tests need."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings
from small import REPOSITORY, galbatch, write_job

pytest.register_assert_rewrite("contracts.sinks")

# How long an example takes says more about the machine, and what else it does, than about us.
settings.register_profile("galbatch", deadline=None)
settings.load_profile("galbatch")


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
    folder = tmp_path_factory.mktemp("small")
    done = galbatch("run", write_job(folder), cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder
