"""Reading a catalogue into the store, against pyarrow writing the same file as plain Parquet.

    python benchmarks/ingest_speed.py [--rows 450000] [--folder FOLDER]

The catalogue is a simulated ALHAMBRA one, 113 columns in CSV.gz. galbatch checks every row, finds
repeated ids, sorts along the sky, and commits HATS partitions that it reads back; pyarrow reads
(on all cores) and writes one file with the same codec (zstd, level 1). Both are done twice, in
turns, and the faster counts. Target: at least 0.60 of pyarrow's rows/s.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pyarrow.csv
import pyarrow.parquet as pq

from galbatch.cluster import connect
from galbatch.run.loop import run
from galbatch.run.store import opened
from galbatch.spec import load_job, load_survey
from galbatch.stages.ingest import Ingest
from galbatch.stages.mock import write_mock
from galbatch.stages.scan import Scan
from galbatch.stages.site import Site
from galbatch.store.layout import Layout

TARGET = 0.60


class Silent:
    """A monitor that shows nothing."""

    def __getattr__(self, name: str) -> Any:
        return lambda *_: None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=450_000)
    parser.add_argument("--folder", type=Path, help="where to work (default: temporary)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        measure(arguments.folder or Path(temporary), arguments.rows)


def measure(folder: Path, rows: int) -> None:
    """Make the catalogue, read it both ways, print the ratio."""
    folder.mkdir(parents=True, exist_ok=True)
    catalogue = folder / f"alhambra-{rows}.csv.gz"
    survey = load_survey("alhambra")
    if not catalogue.exists():
        write_mock(survey, rows, 0, catalogue)
    store = folder / "store"
    job = load_job("alhambra", [f"source.paths=[{catalogue}]", f"store={store}"])
    site = Site(job, survey, Layout(store))
    plain, ours = [], []
    with connect(job.cluster, folder / "scratch", folder / "logs", {}) as workers:
        assert workers is not None
        workers.client.run(_warm)
        for _ in range(2):
            began = time.perf_counter()
            with (
                pyarrow.csv.open_csv(catalogue) as batches,
                pq.ParquetWriter(
                    folder / "plain.parquet", batches.schema, compression="zstd",
                    compression_level=1,
                ) as out,
            ):  # fmt: skip
                for batch in batches:
                    out.write_batch(batch)
            plain.append(time.perf_counter() - began)
            shutil.rmtree(store, ignore_errors=True)
            with opened(site):
                outcome = run((Scan(), Ingest()), site, lambda: nullcontext(workers), Silent())
            ours.append([record.seconds for record in outcome.records])
    best = min(ours, key=sum)
    print(f"pyarrow, CSV.gz to plain Parquet: {rows / min(plain):,.0f} rows/s")
    print(f"galbatch, CSV.gz to a HATS catalogue: {rows / sum(best):,.0f} rows/s "
          f"(scan {best[0]:.1f} s, ingest {best[1]:.1f} s)")  # fmt: skip
    print(f"galbatch / pyarrow: {min(plain) / sum(best):.2f} (target {TARGET:.2f})")


def _warm() -> None:
    """What a worker imports for the first task, whatever the size of the catalogue."""


if __name__ == "__main__":
    main()
