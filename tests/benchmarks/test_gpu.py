"""The benchmark of the GPU: it measures on whatever is like cupy, or says that there is none."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import strict_cupy
from card import on_card
from gpu import difference, measure, work
from small import REPOSITORY

from galbatch.arrays import worker_namespace
from galbatch.mock.observe import mock_batches
from galbatch.spec import load_survey


def test_without_a_gpu_it_says_so() -> None:
    if worker_namespace() is not np:
        pytest.skip("there is a GPU: it would measure")
    script = str(REPOSITORY / "benchmarks/gpu.py")
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, cwd=REPOSITORY)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("skipped: no GPU: ") and done.stdout.count("\n") == 1


def test_it_measures_both(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = finished / "store/models/photometric"
    table = pa.concat_tables(mock_batches(load_survey("alhambra"), 300, 8, 300))
    with on_card():
        found = measure(strict_cupy, work(folder, table, 2, 50), repeat=1)
        assert difference(strict_cupy, folder, table) < 2e-5
    assert list(found) == ["clean", "predict", "predict with 2 draws"]
    assert all(min(speeds) > 0 for speeds in found.values())
    assert "one core" in capsys.readouterr().out
