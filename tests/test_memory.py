"""Memory is promised: a task takes no more than `plan` says, and smaller batches are tried."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from small import galbatch, galbatch_process, partitions, write_job
from world import site_of

from galbatch.models.photometric import Photometric
from galbatch.plan import plan
from galbatch.run import execute as runner
from galbatch.run.loop import run
from galbatch.run.store import opened
from galbatch.store.commit import digest_file


@pytest.mark.parametrize("survey", ["alhambra", pytest.param("jpas", marks=pytest.mark.faults)])
def test_a_task_takes_no_more_than_was_promised(survey: str, tmp_path: Path) -> None:
    write_job(
        tmp_path,
        survey=survey,
        source={"kind": "mock", "rows": 80_000, "seed": 1},
        partition={"rows": 40_000},
        models=[{"kind": "photometric", "epochs": 1, "max_rows": 2_000}],
        cluster={"kind": "local", "workers": 1, "memory": "3 GiB"},
    )
    done = galbatch_process("run", "job.yaml", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    shown = json.loads(galbatch("status", "job.yaml", "--json", cwd=tmp_path).stdout)
    measured = {stage["stage"]: stage["peak_memory"] for stage in shown["stages"]}
    site = site_of(tmp_path)
    for stage in plan(site.job, site.survey):
        promised = stage.memory(site)
        assert 0 < measured[stage.name] <= promised, (stage.name, measured[stage.name] / promised)


GREEDY = """
from pathlib import Path
from types import SimpleNamespace
import sys
import numpy as np
from galbatch.run.execute import execute

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 2**20

def greedy(site, task, report):
    # One small piece in the middle of it all stays, as a cache does.
    pieces = [np.ones(2_000) for _ in range(20_000)]
    kept.append(pieces[10_000])
    return ()

kept = []
stage = SimpleNamespace(name="greedy", where="workers", run=greedy)
before = resident()
result = execute(stage, None, SimpleNamespace(unit="one"), None)
print(result.error, result.peak_memory / 2**20 - before, resident() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_what_a_task_took_is_given_back() -> None:
    environment = {**os.environ, "MALLOC_TRIM_THRESHOLD_": str(1 << 30)}
    environment["MALLOC_MMAP_THRESHOLD_"] = str(1 << 30)
    done = subprocess.run(
        [sys.executable, "-c", GREEDY], env=environment, capture_output=True, text=True, check=True
    )
    error, peak, left = done.stdout.split()
    assert error == "None"
    assert float(peak) > 250
    assert float(left) < 50


class Watch:
    """Remembers what was tried again."""

    def __init__(self) -> None:
        self.again: list[str] = []

    def retry(self, result: Any, attempt: int) -> None:
        self.again.append(str(result.error))

    def __getattr__(self, name: str) -> Any:
        return lambda *_: None


def predict_with(folder: Path, most: int, monkeypatch: pytest.MonkeyPatch) -> tuple[Watch, Any]:
    """Predict a partition again where a model has memory for so many rows."""
    whole = Photometric.predict

    def predict(self: Photometric, table: pa.Table) -> pa.Table:
        if table.num_rows > most:
            raise MemoryError
        return whole(self, table)

    monkeypatch.setattr(Photometric, "predict", predict)
    monkeypatch.setattr(runner, "SMALLER", (90, 20))
    site, watch = site_of(folder), Watch()
    with opened(site):
        return watch, run(plan(site.job, site.survey), site, lambda: nullcontext(None), watch)


def test_a_partition_that_runs_out_of_memory_is_tried_in_smaller_batches(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(finished, copy)
    monkeypatch.chdir(copy)
    victim = max(partitions(copy, "predictions/photometric"), key=lambda path: path.stat().st_size)
    before = digest_file(victim)
    victim.unlink()
    watch, outcome = predict_with(copy, 25, monkeypatch)
    assert len(watch.again) == 2
    assert "ran out of memory" in watch.again[0]
    assert outcome.quarantined == ()
    assert digest_file(victim) == before


def test_one_that_never_fits_is_quarantined_and_the_rest_goes_on(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(finished, copy)
    monkeypatch.chdir(copy)
    victim, other = partitions(copy, "predictions/photometric")[:2]
    victim.unlink()
    _, outcome = predict_with(copy, 5, monkeypatch)
    (row,) = outcome.quarantined
    assert row.file.startswith("predict o")
    assert "ran out of memory" in row.reason
    assert other.exists()
    monkeypatch.undo()
    again = galbatch("run", "job.yaml", cwd=copy)
    assert again.returncode == 0, again.stderr
    assert victim.exists()
