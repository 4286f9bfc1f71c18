"""A job small enough for tests, and the command line to run it with."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

REPOSITORY = Path(__file__).resolve().parent.parent
ROWS = 1500
TIMEOUT = 280


def job_words(**changes: Any) -> dict[str, Any]:
    """The words of a small job; each of `changes` replaces one."""
    words = {
        "name": "small",
        "survey": "alhambra",
        "source": {"kind": "mock", "rows": ROWS, "seed": 3, "batch_rows": 400},
        "store": "store",
        "partition": {"rows": 400},
        "split": {"kind": "sky", "order": 10},
        "models": [
            {
                "kind": "photometric",
                "members": 1,
                "width": 16,
                "layers": 1,
                "bins": 40,
                "epochs": 2,
            },
            {"kind": "thesis", "epochs": 1},
        ],
        "sinks": [{"kind": "duckdb", "path": "small.duckdb"}],
        "cluster": {"kind": "serial"},
    }
    return words | changes


def write_job(folder: Path, **changes: Any) -> str:
    """Write `job.yaml` into a folder and return its path."""
    path = folder / "job.yaml"
    path.write_text(yaml.safe_dump(job_words(**changes)), encoding="utf-8")
    return str(path)


def galbatch(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command line as a user would."""
    return subprocess.run(
        [sys.executable, "-m", "galbatch.cli", *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        env={**os.environ, **environment},
    )


def of_photometric(contents: dict[str, bytes | str]) -> dict[str, bytes | str]:
    """What a job with the first model alone makes the same."""
    other = ("thesis", "collection.properties")
    return {name: data for name, data in contents.items() if not any(o in name for o in other)}


def partitions(folder: Path, table: str) -> list[Path]:
    """The files of a table of a store with a sky."""
    return sorted((folder / "store" / table / "dataset").rglob("Npix=*.parquet"))
