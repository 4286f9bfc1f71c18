"""What 100 draws of the fluxes cost, against predicting once.

    python benchmarks/monte_carlo_speed.py [--rows 4096] [--draws 100] [--repeat 3]

The default model on a simulated ALHAMBRA sky, trained for an epoch (its size is what counts). Then,
one thread, in memory, in turns, with the median of all turns: the same rows without draws and with
them (target: at most as many times the time of one pass as there are draws).
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
from pathlib import Path

import numpy as np
import pyarrow as pa
import yaml

from galbatch.mock.observe import mock_batches
from galbatch.models.base import Model
from galbatch.models.families import load_model
from galbatch.spec import load_survey


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=4096)
    parser.add_argument("--draws", type=int, default=100)
    parser.add_argument("--repeat", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = trained(Path(temporary))
        models = {draws: load_model(folder, monte_carlo=draws) for draws in (0, arguments.draws)}
        batches = mock_batches(load_survey("alhambra"), arguments.rows, 8, arguments.rows)
        measure(models, pa.concat_tables(batches), arguments.repeat)


def trained(folder: Path) -> Path:
    """Folder of the model."""
    job = folder / "job.yaml"
    words = {
        "name": "monte_carlo_speed",
        "survey": "alhambra",
        "source": {"kind": "mock", "rows": 8000, "seed": 1},
        "store": str(folder / "store"),
        "models": [{"kind": "photometric", "epochs": 1}],
        "cluster": {"kind": "serial"},
    }
    job.write_text(yaml.safe_dump(words), encoding="utf-8")
    subprocess.run([sys.executable, "-m", "galbatch.cli", "run", str(job)], check=True)
    return folder / "store" / "models" / "photometric"


def measure(models: dict[int, Model], table: pa.Table, repeat: int) -> None:
    """Time both in turns."""
    spent: dict[int, list[float]] = {draws: [] for draws in models}
    for _ in range(repeat):
        for draws, model in models.items():
            began = time.process_time()
            model.predict(table)
            spent[draws].append(time.process_time() - began)
    once, many = (float(np.median(seconds)) for seconds in spent.values())
    draws = max(models)
    print(f"\n{table.num_rows} rows: {once:.3f} s without draws, {many:.2f} s with {draws}")
    print(f"{many / once:.1f} times one pass (target: at most {draws})")


if __name__ == "__main__":
    main()
