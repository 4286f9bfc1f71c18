"""A job small enough for tests, and the command line to run it with."""

from __future__ import annotations

import io
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import chdir, contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest
import yaml

from galbatch.cli import main
from galbatch.stages import train
from galbatch.stages.fit_process import FitResult, fit_here
from galbatch.stages.site import Site

REPOSITORY = Path(__file__).resolve().parent.parent
ROWS = 1500
TIMEOUT = 280
_UNSHOWN = (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning)
"""Warnings that a process of Python does not show unasked."""


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


def galbatch(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run the command line in this process: what it prints, says beside it and exits with.

    It is the same but for the seconds in which a process imports its libraries. Fits are done in
    this process, too. Signals, workers and all that ends with a process need `galbatch_process`.
    """
    out, err = io.StringIO(), io.StringIO()
    with chdir(cwd), redirect_stdout(out), redirect_stderr(err), _as_in_a_process(arguments):
        try:
            main()
            code: Any = 0
        except SystemExit as ended:
            code = ended.code
    words = ["galbatch", *arguments]
    return subprocess.CompletedProcess(words, code or 0, out.getvalue(), err.getvalue())


@contextmanager
def _as_in_a_process(arguments: tuple[str, ...]) -> Iterator[None]:
    """Give the command line its words, and take back all that it sets for its process."""
    kept = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGALRM)}
    with pytest.MonkeyPatch.context() as patched, warnings.catch_warnings():
        warnings.resetwarnings()
        for category in _UNSHOWN:
            warnings.simplefilter("ignore", category)
        patched.setattr(sys, "argv", ["galbatch", *arguments])
        patched.setattr(sys, "unraisablehook", sys.unraisablehook)
        patched.setattr(train, "fit_in_subprocess", _fit_quietly)
        try:
            yield
        finally:
            for number, handler in kept.items():
                signal.signal(number, handler)


def _fit_quietly(
    site: Site, model: str, folder: Path, report: Callable[[int, int, str], None]
) -> FitResult:
    """Fit here; what TensorFlow says goes where a process of its own would write it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return fit_here(site, model, folder, report)


def galbatch_process(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run the command line as a user would."""
    return subprocess.run(
        [sys.executable, "-m", "galbatch.cli", *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
    )


def of_photometric(contents: dict[str, bytes | str]) -> dict[str, bytes | str]:
    """What a job with the first model alone makes the same."""
    other = ("thesis", "collection.properties")
    return {name: data for name, data in contents.items() if not any(o in name for o in other)}


def partitions(folder: Path, table: str) -> list[Path]:
    """The files of a table of a store with a sky."""
    return sorted((folder / "store" / table / "dataset").rglob("Npix=*.parquet"))
