"""A job for a real queue, small enough that its workers take most of the time, and its runs."""

from __future__ import annotations

import hashlib
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from faults.campaign import Run, begin_at, contents
from slurm.service import Job, Slurm
from small import galbatch_process, job_words, write_job

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


def run_serially(folder: Path) -> Path:
    """Run the small job in a folder, without a queue."""
    write_small(folder, {"kind": "serial"})
    done = galbatch_process("run", "job.yaml", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder


def until(holds: Callable[[], bool], run: Run, seconds: float = 60.0) -> None:
    """Wait until something holds; what the run has said is shown if it does not."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, run.said
        time.sleep(0.1)


def working(slurm: Slurm, folder: Path) -> dict[str, int]:
    """The jobs whose workers have come, by node."""
    found = {}
    for job in slurm.jobs("RUNNING"):
        logs = (folder / "store.logs").glob(f"*-{job.number}.err")
        if any("Registered to:" in log.read_text() for log in logs):
            found[job.node] = job.number
    return found


def fits(folder: Path) -> bool:
    """Whether a fit is under way: it has left a checkpoint."""
    return any((folder / "store" / "work" / "staging").rglob("state.npz"))


def kept(folder: Path) -> dict[str, str]:
    """SHA-256 of each file of the store that is not temporary."""
    store = folder / "store"
    files = (path for path in store.rglob("*") if path.is_file())
    names = {path.relative_to(store).as_posix(): path for path in files}
    return {
        name: hashlib.sha256(path.read_bytes()).hexdigest()
        for name, path in names.items()
        if not name.startswith("work/")
    }


def said_lost(run: Run, jobs: list[Job]) -> bool:
    """Whether a run says of all these jobs, together or one by one, that they were lost."""
    line = re.compile(
        r"galbatch \w+: (?:\d+ jobs \(|job )([\d, ]+)\)? lost \(CANCELLED\).*; replaced$"
    )
    said = [found[1] for found in map(line.match, run.said) if found]
    return {str(job.number) for job in jobs} <= {n for text in said for n in text.split(", ")}
