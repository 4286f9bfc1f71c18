"""What a second worker brings: the same simulated J-PAS catalogue, by one worker and by two.

    python benchmarks/workers.py [--rows 600000] [--repeat 2]

Each stage's rows/s with two workers over those with one, of wall time, the better of some turns
(target: at least 1.8 for ingest and predict). Needs two cores that nothing else uses; the driver,
which has its share of them, is part of what is measured.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from galbatch.store.history import latest_records
from galbatch.store.layout import Layout

STAGES = ("scan", "ingest", "predict")
TARGET = 1.8
JOB = """\
name: workers
survey: jpas
source: {{kind: mock, rows: {rows}, seed: 1, batch_rows: 30000}}
store: {store}
partition: {{max_order: 12, rows: 20000}}
models:
  - {{kind: photometric, epochs: 1, max_rows: 5000}}
cluster: {{kind: local, workers: {workers}}}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=600_000)
    parser.add_argument("--repeat", type=int, default=2)
    arguments = parser.parse_args()
    best: dict[tuple[str, int], float] = {}
    for _ in range(arguments.repeat):
        for workers in (1, 2):
            for stage, rate in rates(arguments.rows, workers).items():
                best[stage, workers] = max(rate, best.get((stage, workers), 0.0))
    for stage in STAGES:
        one, two = best[stage, 1], best[stage, 2]
        target = f" (target {TARGET})" if stage != "scan" else ""
        print(f"{stage:8} {one:9,.0f} -> {two:9,.0f} rows/s: {two / one:.2f}{target}")


def rates(rows: int, workers: int) -> dict[str, float]:
    """Rows per second of each stage."""
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "store"
        job = Path(folder) / "job.yaml"
        job.write_text(JOB.format(rows=rows, store=store, workers=workers), encoding="utf-8")
        command = [sys.executable, "-m", "galbatch.cli", "run", str(job)]
        subprocess.run(command, check=True, capture_output=True)
        records = latest_records(Layout(store))
    return {stage: records[stage].rows / records[stage].seconds for stage in STAGES}


if __name__ == "__main__":
    main()
