"""Time per cell of a table with very many columns, against one with a hundred.

    python benchmarks/wide_table.py [--cells 2000000] [--columns 10000]

Both tables have the same number of cells, of the zCOSMOS survey's columns and others that it does
not know, and go from Parquet into a HATS catalogue of a few partitions, in this process, in turns.
CPU time counts. pyarrow alone copies each table from Parquet to Parquet: of 10,000 columns it takes
longer for a cell, too. Target: galbatch's time per cell of the wide table is at most 1.0 of that of
the narrow one, beyond what pyarrow's takes.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from galbatch.mock.observe import mock_batches
from galbatch.run.loop import run
from galbatch.run.store import opened
from galbatch.spec import load_job, load_survey
from galbatch.stages.ingest import Ingest
from galbatch.stages.scan import Scan
from galbatch.stages.site import Site
from galbatch.store.layout import Layout

NARROW = 100
PARTITIONS = 4


class Silent:
    """A monitor that shows nothing."""

    def __getattr__(self, name: str) -> Any:
        return lambda *_: None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", type=int, default=2_000_000)
    parser.add_argument("--columns", type=int, default=10_000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        ours, plain = {}, {}
        for columns in (NARROW, arguments.columns):
            path = write(folder / f"{columns}.parquet", columns, arguments.cells // columns)
            ours[columns], plain[columns] = measure(folder, path)
            print(
                f"{columns:,} columns: galbatch {1e6 * ours[columns] / arguments.cells:.2f} us of "
                f"CPU a cell, pyarrow {1e6 * plain[columns] / arguments.cells:.2f}"
            )
    ratio = ours[arguments.columns] / ours[NARROW]
    alone = plain[arguments.columns] / plain[NARROW]
    print(f"wide / narrow: galbatch {ratio:.2f}, pyarrow {alone:.2f}; "
          f"galbatch beyond pyarrow {ratio / alone:.2f} (target 1.0)")  # fmt: skip


def write(path: Path, columns: int, rows: int) -> Path:
    """A mock of zCOSMOS with as many columns of noise as make `columns`."""
    table = next(mock_batches(load_survey("zcosmos"), rows, 1, rows))
    random = np.random.default_rng(1)
    noise = {
        f"noise_{number}": random.normal(size=rows).astype(np.float32)
        for number in range(columns - table.num_columns)
    }
    wide = pa.table({**{name: table[name] for name in table.column_names}, **noise})
    pq.write_table(wide, path)
    return path


def measure(folder: Path, path: Path) -> tuple[float, float]:
    """Seconds of CPU for scan and ingest, and for pyarrow's copy: the better of two each."""
    ours, plain = [], []
    rows = pq.read_metadata(path).num_rows
    for attempt in range(2):
        store = folder / f"{path.stem}-{attempt}"
        words = [f"source.paths=[{path}]", f"store={store}", f"partition.rows={rows // PARTITIONS}"]
        site = Site(load_job("zcosmos", words), load_survey("zcosmos"), Layout(store))
        began = time.process_time()
        with opened(site):
            run((Scan(), Ingest()), site, lambda: nullcontext(None), Silent())
        ours.append(time.process_time() - began)
        began = time.process_time()
        pq.write_table(pq.read_table(path), folder / "plain.parquet", compression="zstd",
                       compression_level=1)  # fmt: skip
        plain.append(time.process_time() - began)
    return min(ours), min(plain)


if __name__ == "__main__":
    main()
