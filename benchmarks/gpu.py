"""Rows per second of a GPU against one CPU core: cleaning, predicting, and 100 draws of the fluxes.

    python benchmarks/gpu.py [--rows 200000] [--draws 100] [--draw-rows 8192] [--repeat 3]
                             [--model FOLDER]

Without FOLDER, a trained photometric model for ALHAMBRA (``store/models/photometric``), one is
trained for an epoch first, which takes TensorFlow: its size, not its skill, is what counts. With
it, cupy and onnxruntime are enough. Rows of a simulated sky lie in memory; the copies to the card
and back are part of what is measured. GPU and core take turns, in one run, and the median of all
turns is shown; before that both work once, unmeasured: kernels are compiled and constants copied.
Where there is no GPU, it says so and measures nothing.
"""

from __future__ import annotations

import os

# Before NumPy is imported: the comparison is by core.
os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "ARROW_NUM_THREADS": "1"}

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import yaml

from galbatch.arrays import computing_with, device_kind, wait_for, worker_namespace
from galbatch.columns import to_numpy
from galbatch.flux.bands import BandReader
from galbatch.mock.observe import mock_batches
from galbatch.models.families import load_model
from galbatch.spec import load_survey
from galbatch.spec.job import PhotometricModel
from galbatch.spec.survey import Survey

LIBRARIES = ("numpy", "cupy-cuda12x", "onnxruntime-gpu", "onnxruntime", "tensorflow")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--draws", type=int, default=100)
    parser.add_argument("--draw-rows", type=int, default=8192)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--model", type=Path, help="folder of a trained model")
    arguments = parser.parse_args()
    xp = worker_namespace()
    if xp is np:
        print("skipped: no GPU: cupy is not installed, or finds no CUDA device")
        return
    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.model or trained(Path(temporary))
        table = pa.concat_tables(
            mock_batches(load_survey("alhambra"), arguments.rows, 8, arguments.rows)
        )
        print(f"{device_kind(xp)}, {datetime.now(UTC):%Y-%m-%d}, {', '.join(libraries())}")
        works = work(folder, table, arguments.draws, arguments.draw_rows)
        measure(xp, works, arguments.repeat)
        print(f"largest difference of a column: {difference(xp, folder, table):.1e}")


def libraries() -> list[str]:
    """Names and versions of those that matter and are there."""
    found = []
    for name in LIBRARIES:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    return found


def trained(folder: Path) -> Path:
    """Folder of a model that was trained for an epoch."""
    job = folder / "job.yaml"
    words = {
        "name": "gpu",
        "survey": "alhambra",
        "source": {"kind": "mock", "rows": 8000, "seed": 1},
        "store": str(folder / "store"),
        "models": [{"kind": "photometric", "epochs": 1}],
        "cluster": {"kind": "serial"},
    }
    job.write_text(yaml.safe_dump(words), encoding="utf-8")
    subprocess.run([sys.executable, "-m", "galbatch.cli", "run", str(job)], check=True)
    return folder / "store" / "models" / "photometric"


def work(
    folder: Path, table: pa.Table, draws: int, draw_rows: int
) -> dict[str, tuple[int, Callable[[Any], Any]]]:
    """What is measured, by its name: how many rows, and what is done with a namespace."""
    model, drawing = load_model(folder), load_model(folder, monte_carlo=draws)
    reader = BandReader.of(
        PhotometricModel.model_validate(model.card.spec),
        Survey.model_validate(model.card.reading),
        model.card.bands,
    )
    few = table.slice(0, draw_rows)
    return {
        "clean": (table.num_rows, lambda xp: reader.read(table, xp)),
        "predict": (table.num_rows, lambda xp: model.predict(table)),
        f"predict with {draws} draws": (few.num_rows, lambda xp: drawing.predict(few)),
    }


def measure(
    xp: Any, works: dict[str, tuple[int, Callable[[Any], Any]]], repeat: int
) -> dict[str, tuple[float, float]]:
    """Print and return rows per second of the GPU and of the core, by the name of the work."""
    found = {}
    print(f"\n{'rows/s':30}{'GPU':>14}{'one core':>14}{'ratio':>9}")
    for name, (rows, call) in works.items():
        spent: dict[Any, list[float]] = {xp: [], np: []}
        for turn in range(repeat + 1):
            for device, seconds in spent.items():
                elapsed = time_of(device, call)
                if turn:
                    seconds.append(elapsed)
        gpu, core = (rows / float(np.median(seconds)) for seconds in spent.values())
        found[name] = gpu, core
        print(f"{name:30}{gpu:14,.0f}{core:14,.0f}{gpu / core:9.1f}")
    return found


def time_of(xp: Any, call: Callable[[Any], Any]) -> float:
    """Seconds, until the card has done all of it."""
    with computing_with(xp):
        began = time.perf_counter()
        call(xp)
        if xp is not np:
            wait_for(xp)
        return time.perf_counter() - began


def difference(xp: Any, folder: Path, table: pa.Table) -> float:
    """The largest |GPU - CPU| / (1 + |CPU|) of all predicted columns, of rows at hand."""
    model, rows = load_model(folder, monte_carlo=4), table.slice(0, 20_000)
    with computing_with(np):
        here = model.predict(rows)
    with computing_with(xp):
        there = model.predict(rows)
    worst = 0.0
    for name in here.column_names:
        cpu, gpu = (to_numpy(one[name]).astype(np.float64) for one in (here, there))
        away = np.abs(gpu - cpu) / (1 + np.abs(cpu))
        worst = max(worst, float(np.nanmax(away, initial=0.0)))
    return worst


if __name__ == "__main__":
    main()
