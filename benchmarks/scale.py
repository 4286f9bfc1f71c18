"""A small J-PAS: ten million rows through the job, against one million in the same run.

    python benchmarks/scale.py [--rows 10000000] [--folder FOLDER]

A simulated J-PAS catalogue (60 bands with errors in array-valued columns) goes through scan,
ingest and predict with the default network, on as many workers as there are cores; the network is
trained for one epoch only, since its weights do not matter here. First a tenth of the rows, then
all of them. Prints rows/s and the largest resident size of a worker for both, and their ratios
(targets: memory and time per row within 10 %), what the driver took for the report, and what
follows for 500 million rows.

All rows fall on the same few square degrees, so the sky is cut finer than a survey's needs to be:
partitions have up to 50,000 rows in both runs.

What the extrapolation assumes: workers do not share a disk that is slower than they are together
(one writes about 50 MB/s); a partition takes the same time at any size of the catalogue, which is
what the ratio of the time per row shows; the source is many files (J-PAS: one per tile), so that
scanning is spread over the workers as well.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

SURVEY_ROWS = 500_000_000
WORKERS = 200
STAGES = ("scan", "ingest", "predict")
JOB = """\
name: scale
survey: jpas
source: {{kind: mock, rows: {rows}, seed: 1}}
store: {store}
partition: {{max_order: 12}}
models:
  - {{kind: photometric, epochs: 1, max_rows: 20000}}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--folder", type=Path, help="where to work (default: temporary)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        small = measure(folder, arguments.rows // 10)
        large = measure(folder, arguments.rows)
    compare(small, large, arguments.rows)


def measure(folder: Path, rows: int) -> dict[str, dict[str, Any]]:
    """Run the job in a store of its own; return its history of each stage."""
    folder.mkdir(parents=True, exist_ok=True)
    store, job = folder / f"store-{rows}", folder / f"scale-{rows}.yaml"
    job.write_text(JOB.format(rows=rows, store=store), encoding="utf-8")
    galbatch = [sys.executable, "-m", "galbatch.cli"]
    subprocess.run([*galbatch, "run", str(job)], check=True)
    shown = subprocess.run(
        [*galbatch, "status", str(job), "--json"], check=True, capture_output=True
    )
    shutil.rmtree(store)
    return {stage["stage"]: stage for stage in json.loads(shown.stdout)["stages"]}


def compare(small: dict[str, dict[str, Any]], large: dict[str, dict[str, Any]], rows: int) -> None:
    """Print the table and what follows from it."""
    print(f"\n{'stage':10}{'rows':>14}{'rows/s':>10}{'worker memory':>16}")
    for stage in STAGES:
        for found in (small[stage], large[stage]):
            speed = found["rows"] / found["seconds"]
            memory = found["peak_memory"] / 2**30
            print(f"{stage:10}{found['rows']:14,}{speed:10,.0f}{memory:12.2f} GiB")
    for stage in STAGES:
        memory = large[stage]["peak_memory"] / small[stage]["peak_memory"]
        one, other = (run[stage]["seconds"] / run[stage]["rows"] for run in (small, large))
        print(
            f"{stage}: memory for {rows:,} rows / for a tenth of them: {memory:.2f} "
            f"(target 1.10); time per row: {other / one:.2f} (target 1.10)"
        )
    driver = [run["report"]["peak_memory"] / 2**30 for run in (small, large)]
    print(
        f"report, on the driver: {driver[0]:.2f} GiB for a tenth of the rows, "
        f"{driver[1]:.2f} GiB for all"
    )
    cores = len(os.sched_getaffinity(0))
    for stage in STAGES:
        found = large[stage]
        hours = SURVEY_ROWS * found["seconds"] / found["rows"] * cores / 3600
        print(
            f"{stage}: {SURVEY_ROWS:,} rows take {hours:,.0f} core hours, "
            f"{60 * hours / WORKERS:,.0f} minutes on {WORKERS} workers like these"
        )


if __name__ == "__main__":
    main()
