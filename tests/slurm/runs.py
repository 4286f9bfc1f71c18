"""A job for the real SLURM, small enough that its workers take most of the time."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import Any

from faults.campaign import begin_at, contents
from small import job_words, write_job

MODEL = job_words()["models"][0] | {"epochs": 12, "patience": 12}
CLUSTER = {"kind": "slurm", "workers": 2, "memory": "2 GiB", "interface": "lo", "queue": "main"}


def write_small(folder: Path, cluster: dict[str, Any] | None = None, **changes: Any) -> str:
    """Write `job.yaml` into a folder, for two workers of the queue unless told otherwise.

    Parameters
    ----------
    folder : Path
        Made if it is missing.
    cluster : dict, optional
        Replaces words of `CLUSTER`; with a `kind`, all of them.
    **changes
        Each replaces one of the job's words.

    Returns
    -------
    str
        The path of the job.
    """
    folder.mkdir(exist_ok=True)
    asked = cluster or {}
    words: dict[str, Any] = {
        "source": {"kind": "mock", "rows": 600, "seed": 3, "batch_rows": 200},
        "partition": {"rows": 150},
        "models": [MODEL],
        "sinks": [],
        "cluster": asked if "kind" in asked else CLUSTER | asked,
    }
    return write_job(folder, **words | changes)


def begun_at(stage: str, reference: Path, folder: Path, **changes: Any) -> Path:
    """A folder with the finished run in which all from a stage on has yet to be done."""
    begin_at(reference, folder, stage)
    shutil.rmtree(folder / "store.logs", ignore_errors=True)
    write_small(folder, **changes)
    return folder


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 of each file of catalogue, predictions and models, and what is in quarantine."""
    found = contents(folder).items()
    return {
        name: hashlib.sha256(data).hexdigest() if isinstance(data, bytes) else data
        for name, data in found
    }
