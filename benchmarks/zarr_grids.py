"""How fast partitions of p(z) grids are written, against Zarr without shards and np.save.

    python benchmarks/zarr_grids.py [ROWS] [POINTS]

Prints a line each. All write the same smooth densities, a partition at a time, to the same disk in
the same run, and each is timed three times in turn (the best counts): a machine twice as fast
changes all of them. Only galbatch's reads every shard back, hashes it and waits for the disk; the
second line says what it would cost without those.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import numpy as np
import zarr

from galbatch.models.binned import Binned, density
from galbatch.store.arrays import ArraySpec, GroupSpec, allocate, write, writer
from galbatch.store.arrays.group import codecs
from galbatch.store.layout import Layout
from galbatch.values import Coordinate

PARTITION_ROWS = 20_000
TIMES = 3


def densities(rows: int, grid: np.ndarray) -> np.ndarray:
    rng = np.random.default_rng(1)
    edges = np.linspace(0, 1.5, 301, dtype=np.float32)
    mean = rng.uniform(0.1, 1.0, (rows, 1))
    sigma = np.exp(rng.uniform(np.log(0.003), np.log(0.1), (rows, 1)))
    shares = np.exp(-0.5 * ((edges[1:] - mean) / sigma) ** 2)
    shares /= shares.sum(axis=1, keepdims=True)
    return np.asarray(density(Binned.of(shares.astype(np.float32), edges), grid))


def main() -> None:
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    points = int(sys.argv[2]) if len(sys.argv) > 2 else 301
    grid = np.linspace(0, 3, points)
    start = time.perf_counter()
    values = densities(min(rows, PARTITION_ROWS), grid)
    made = time.perf_counter() - start
    ids = np.arange(len(values))
    counts = {
        f"rows-{number:06d}": min(PARTITION_ROWS, rows - first)
        for number, first in enumerate(range(0, rows, PARTITION_ROWS))
    }
    pz = ArraySpec("pz", (points,), ("z",))
    spec = GroupSpec((pz,), coordinates=(Coordinate("z", tuple(grid.tolist())),))

    def own(folder: Path) -> None:
        layout = Layout(folder)
        for name, span in allocate(layout, "m", spec, counts).items():
            write(layout, "m", spec, span, [(ids[: counts[name]], {"pz": values[: counts[name]]})])

    def bare(folder: Path) -> None:
        with (
            patch.object(writer, "_reads_back", lambda *_: True),
            patch.object(writer, "digest_file", lambda _: ""),
            patch.object(writer, "settle", lambda _: None),
        ):
            own(folder)

    def unsharded(folder: Path) -> None:
        array = zarr.create_array(
            folder, shape=(rows, points), dtype="float32", chunks=(256, points), fill_value=np.nan,
            compressors=codecs("float32"),
        )  # fmt: skip
        first = 0
        for count in counts.values():
            array[first : first + count] = values[:count]
            first += count

    def saved(folder: Path) -> None:
        folder.mkdir()
        for name, count in counts.items():
            np.save(folder / name, values[:count])

    ways: dict[str, Callable[[Path], None]] = {
        "galbatch": own,
        "galbatch, neither read back nor hashed nor synced": bare,
        "zarr without shards": unsharded,
        "np.save": saved,
    }
    best = dict.fromkeys(ways, float("inf"))
    files: dict[str, int] = {}
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(TIMES):
            for number, (way, act) in enumerate(ways.items()):
                target = Path(folder) / f"{turn}-{number}"
                start = time.perf_counter()
                act(target)
                best[way] = min(best[way], time.perf_counter() - start)
                found = [path for path in target.rglob("*") if path.is_file()]
                files[way] = len(found)
                size = sum(path.stat().st_size for path in found)
                if way == "galbatch":
                    stored = size
    megabytes = rows * points * 4 / 1e6
    print(
        f"{rows:,} rows x {points} float32 ({megabytes:.0f} MB, stored in {stored / 1e6:.0f} MB), "
        f"{len(counts)} partitions; densities made at {values.nbytes / made / 1e6:.0f} MB/s"
    )
    for way, seconds in best.items():
        ratios = ", ".join(
            f"{best[other] / seconds:.2f} of {other}" for other in list(ways)[2:] if other != way
        )
        print(f"{way}: {megabytes / seconds:.0f} MB/s, {files[way]} files; {ratios}")


if __name__ == "__main__":
    main()
