"""What many tests need."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from small import REPOSITORY


@pytest.fixture(scope="session")
def survey_data() -> Path:
    """Folder with real survey data, or skip."""
    folder = Path(os.environ.get("GALBATCH_DATA", REPOSITORY.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no survey data: {folder} is not a folder (set GALBATCH_DATA)")
    return folder
