"""The whole ALHAMBRA job: 450,000 rows of 113 columns from CSV.gz to a database and a report.

    python benchmarks/alhambra_whole_job.py [--rows 450000] [--folder FOLDER]

Prints rows/s and the peak memory of a process for every stage, and beside the ingest what pyarrow
needs to read the same file and write it as plain Parquet with the same codec.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pyarrow.csv
import pyarrow.parquet as pq

PROMISED = 3 * 2**30


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=450_000)
    parser.add_argument("--folder", type=Path, help="where to work (default: temporary)")
    parser.add_argument("--set", action="append", default=[], help="passed on to galbatch run")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        measure(folder, arguments.rows, arguments.set)


def measure(folder: Path, rows: int, further: list[str]) -> None:
    """Make the catalogue, run the job, print the table."""
    folder.mkdir(parents=True, exist_ok=True)
    catalogue = folder / "alhambra.csv.gz"
    galbatch = [sys.executable, "-m", "galbatch.cli"]
    if not catalogue.exists():
        subprocess.run(
            [*galbatch, "mock", "alhambra", str(catalogue), "--rows", str(rows)], check=True
        )
    began = time.perf_counter()
    with (
        pyarrow.csv.open_csv(catalogue) as batches,
        pq.ParquetWriter(folder / "plain.parquet", batches.schema, compression="zstd") as out,
    ):
        for batch in batches:
            out.write_batch(batch)
    plain = time.perf_counter() - began
    overrides = [
        f"source.paths=[{catalogue}]",
        f"store={folder / 'store'}",
        f"sinks.0.path={folder / 'alhambra.duckdb'}",
        *further,
    ]
    words = [word for override in overrides for word in ("--set", override)]
    subprocess.run([*galbatch, "run", "alhambra", *words], check=True)
    status = subprocess.run(
        [*galbatch, "status", "alhambra", *words, "--json"], check=True, capture_output=True
    )
    stages = json.loads(status.stdout)["stages"]
    print(f"\n{'stage':10}{'rows':>12}{'seconds':>10}{'rows/s':>10}{'peak memory':>14}")
    for stage in stages:
        speed = stage["rows"] / stage["seconds"] if stage["seconds"] else 0.0
        memory = stage["peak_memory"] / 2**30
        print(
            f"{stage['stage']:10}{stage['rows']:12,}{stage['seconds']:10.1f}{speed:10,.0f}"
            f"{memory:10.2f} GiB"
        )
    print(f"{'plain':10}{rows:12,}{plain:10.1f}{rows / plain:10,.0f}   pyarrow CSV.gz -> Parquet")
    peak = max(stage["peak_memory"] for stage in stages)
    print(f"\npeak memory / promised 3 GiB: {peak / PROMISED:.2f}")
    ours = sum(s["seconds"] for s in stages if s["stage"] in ("scan", "ingest"))
    print(f"speed of scan and ingest / plain pyarrow: {plain / ours:.2f}")


if __name__ == "__main__":
    main()
