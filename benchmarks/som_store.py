"""A self-organising map of a catalogue learned from its store: time, memory, and the same map.

    python benchmarks/som_store.py [--rows 1000000] [--folder FOLDER]

Rows of 256 latents are ingested, and a map of 10 x 10 cells is fitted in ten passes, each of which
reads the store again: a tenth of the rows first, then all of them, on one core and on two, each in
a process of its own. Prints seconds (target: 60 for 1,000,000 rows on two cores), the largest
resident size and its growth from a tenth of the rows to all (target: 1.05 at most), whether both
maps have the same bytes, and the rows per CPU second and pass beside MiniSom's on a part of the
same rows in the same run.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from arrays import Silent
from minisom import MiniSom
from som import latents

from galbatch.run.loop import run
from galbatch.run.store import opened
from galbatch.spec.job import Job
from galbatch.spec.survey import Survey
from galbatch.stages.fit_process import fit_here
from galbatch.stages.ingest import Ingest
from galbatch.stages.scan import Scan
from galbatch.stages.site import Site
from galbatch.store.layout import Layout

PASSES, LATENTS, PIECE = 10, 256, 50_000
MOST_GROWTH, MOST_SECONDS = 1.05, 60.0
BESIDE = 5_000
"""Rows that MiniSom is given."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--folder", type=Path, help="where to work (default: temporary)")
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(int(arguments.measure[0]), Path(arguments.measure[1]))))
        return
    with tempfile.TemporaryDirectory(dir=arguments.folder) as temporary:
        compare(arguments.rows, Path(temporary))


def compare(rows: int, folder: Path) -> None:
    """Print what the fits took."""
    found = {}
    for count, cores in ((rows // 10, (2,)), (rows, (1, 2))):
        place = folder / str(count)
        place.mkdir()
        write(count, place / "latents.parquet")
        site = site_of(place)
        with opened(site):
            run((Scan(), Ingest()), site, lambda: nullcontext(None), Silent())
        for number in cores:
            script = [sys.executable, __file__, "--measure", str(number), str(place)]
            done = subprocess.run(script, check=True, capture_output=True, text=True)
            found[count, number] = json.loads(done.stdout.splitlines()[-1])
    few, one, two = found[rows // 10, 2], found[rows, 1], found[rows, 2]
    print(
        f"{rows:,} rows x {LATENTS}, {PASSES} passes and two more: {two['seconds']:.1f} s on two "
        f"cores (target {MOST_SECONDS:.0f} for 1,000,000), {one['seconds']:.1f} s on one: "
        f"{one['seconds'] / two['seconds']:.2f} times as long"
    )
    print(
        f"largest resident size {few['peak'] / 2**20:.0f} MiB with {rows // 10:,} rows, "
        f"{two['peak'] / 2**20:.0f} MiB with {rows:,}: ratio {two['peak'] / few['peak']:.3f} "
        f"(target {MOST_GROWTH})"
    )
    print(f"the same map on one core and on two: {one['map'] == two['map']}")
    some = latents(BESIDE)
    som = MiniSom(10, 10, LATENTS, random_seed=0)
    began = time.process_time()
    som.train_random(some, BESIDE)
    peer = BESIDE / (time.process_time() - began)
    own = rows * (PASSES + 2) / two["cpu"]
    print(f"rows per CPU second and pass: {own:,.0f}, MiniSom in memory {peer:,.0f}: "
          f"{own / peer:.0f} times as many")  # fmt: skip


def write(rows: int, path: Path) -> None:
    """A file of latents."""
    kind = pa.list_(pa.float32(), LATENTS)
    schema = pa.schema({"ID": pa.int64(), "latent": kind})
    with pq.ParquetWriter(path, schema) as file:
        for start in range(0, rows, PIECE):
            count = min(PIECE, rows - start)
            values = pa.array(latents(count, seed=start + 2).ravel())
            column = pa.FixedSizeListArray.from_arrays(values, type=kind)
            file.write_table(pa.table([np.arange(start, start + count), column], schema=schema))


def site_of(folder: Path) -> Site:
    survey = Survey.model_validate(
        {
            "name": "points",
            "title": "Points",
            "id": {"column": "ID"},
            "columns": [
                {"name": "ID"},
                {"name": "latent", "shape": [LATENTS], "dtype": "float32"},
            ],
        }
    )
    words: dict[str, Any] = {
        "name": "map",
        "survey": "points",
        "source": {"kind": "files", "paths": [str(folder / "latents.parquet")]},
        "store": str(folder / "store"),
        "partition": {"rows": 25_000},
        "models": [{"kind": "som", "columns": ["latent"], "passes": PASSES}],
        "cluster": {"kind": "serial"},
    }
    return Site(Job.model_validate(words), survey, Layout(folder / "store"))


def measure(cores: int, folder: Path) -> dict[str, Any]:
    """Fit on so many cores."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])
    began, cpu = time.perf_counter(), time.process_time()
    place = folder / f"model-{cores}"
    fit_here(site_of(folder), "som", place, lambda *_: None)
    return {
        "seconds": time.perf_counter() - began,
        "cpu": time.process_time() - cpu,
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "map": hashlib.sha256((place / "map.npz").read_bytes()).hexdigest(),
    }


if __name__ == "__main__":
    main()
