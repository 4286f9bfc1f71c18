"""Spectra and cutouts into the store: memory by the number of rows, time against a bare copy.

    python benchmarks/arrays.py [--rows 100000] [--folder FOLDER]

A survey with a spectrum of 4,096 pixels, its inverse variance and a mask, and one with cutouts of
64 by 64 pixels in five bands, go from HDF5 through scan and ingest and are verified: a tenth of the
rows first, then all of them, each in a process of its own. Prints the largest resident size of both
and their ratio (target: 1.05 at most), what `galbatch plan` promises, and the time against h5py to
Zarr with the same codecs, row for row and in the same run: a copy without sorting on the sky, ids,
checks, reading back and hashing.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import zarr

from galbatch.run.loop import run
from galbatch.run.store import opened
from galbatch.spec.job import Job
from galbatch.spec.survey import Survey
from galbatch.stages.ingest import Ingest
from galbatch.stages.memory import ingest_memory
from galbatch.stages.scan import Scan
from galbatch.stages.site import Site
from galbatch.store.arrays.group import codecs
from galbatch.store.history import latest_records
from galbatch.store.layout import Layout
from galbatch.store.verify import verify

ARRAYS: dict[str, dict[str, tuple[tuple[int, ...], str]]] = {
    "spectra": {
        "spectrum": ((4096,), "float32"),
        "ivar": ((4096,), "float32"),
        "mask": ((4096,), "uint8"),
    },
    "cutouts": {"image": ((5, 64, 64), "float32")},
}
PIECE = 1000
MOST_GROWTH = 1.05


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--folder", type=Path, help="where to work (default: temporary)")
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(arguments.measure[0], Path(arguments.measure[1]))))
        return
    with tempfile.TemporaryDirectory(dir=arguments.folder) as temporary:
        for kind in ARRAYS:
            compare(kind, arguments.rows, Path(temporary))


def compare(kind: str, rows: int, folder: Path) -> None:
    """Print what one kind of arrays took, with few rows and with many."""
    size = sum(np.prod(shape) * np.dtype(dtype).itemsize for shape, dtype in ARRAYS[kind].values())
    found = []
    for count in (rows // 10, rows):
        place = folder / f"{kind}-{count}"
        place.mkdir()
        write(kind, count, place / "a.h5")
        script = [sys.executable, __file__, "--measure", kind, str(place)]
        done = subprocess.run(script, check=True, capture_output=True, text=True)
        found.append(json.loads(done.stdout.splitlines()[-1]))
        began = time.perf_counter()
        copy(kind, place)
        found[-1]["copy"] = time.perf_counter() - began
        subprocess.run(["rm", "-rf", str(place)], check=True)
    few, many = found
    growth = many["peak"] / few["peak"]
    print(
        f"{kind}: {size / 1024:.0f} KiB a row; peak {few['peak'] / 2**20:.0f} MiB with "
        f"{rows // 10:,} rows, {many['peak'] / 2**20:.0f} MiB with {rows:,}: ratio {growth:.3f} "
        f"(target {MOST_GROWTH}); promised {many['promised'] / 2**20:.0f} MiB"
    )
    megabytes = rows * size / 1e6
    print(
        f"{kind}: scan and ingest {megabytes / many['seconds']:.0f} MB/s, a copy by h5py and Zarr "
        f"{megabytes / many['copy']:.0f} MB/s: {many['seconds'] / many['copy']:.2f} times as long; "
        f"{many['damages']} damages found"
    )


def write(kind: str, rows: int, path: Path) -> None:
    """A file of arrays that are as smooth and as noisy as real ones."""
    random = np.random.default_rng(1)
    with h5py.File(path, "w") as file:
        place = random.random(rows)
        columns = {
            "ID": np.arange(rows), "RA": 150 + 2 * place, "DEC": 2 + np.sin(40 * place),
            "r": 18 + 4 * place, "dr": np.full(rows, 0.05), "z": 0.01 + place,
        }  # fmt: skip
        for name, values in columns.items():
            file[name] = values
        for name, (shape, dtype) in ARRAYS[kind].items():
            data = file.create_dataset(name, (rows, *shape), dtype)
            for start in range(0, rows, PIECE):
                count = min(PIECE, rows - start)
                noise = random.normal(10, 1, (count, *shape))
                data[start : start + count] = np.abs(noise).astype(dtype)


def site_of(kind: str, folder: Path) -> Site:
    arrays = [
        {"name": name, "shape": list(shape), "dtype": dtype}
        for name, (shape, dtype) in ARRAYS[kind].items()
    ]
    survey = Survey.model_validate(
        {
            "name": kind,
            "title": kind,
            "id": {"column": "ID"},
            "sky": {"ra": "RA", "dec": "DEC"},
            "bands": [
                {"name": "r", "wavelength": 6200, "width": 1400, "value": "r", "error": "dr"}
            ],
            "reference_band": "r",
            "labels": {"redshift": {"column": "z", "low": 0.001, "high": 7}},
            "columns": [*({"name": n} for n in ("ID", "RA", "DEC", "r", "dr", "z")), *arrays],
        }
    )
    words: dict[str, Any] = {
        "name": kind,
        "survey": kind,
        "source": {"kind": "files", "paths": [str(folder / "a.h5")]},
        "store": str(folder / "store"),
        "partition": {"rows": 20_000, "max_order": 13},
        "models": [{"kind": "photometric"}],
        "cluster": {"kind": "serial"},
    }
    return Site(Job.model_validate(words), survey, Layout(folder / "store"))


class Silent:
    """Nobody watches."""

    def __getattr__(self, name: str) -> Any:
        return lambda *_: None


def measure(kind: str, folder: Path) -> dict[str, Any]:
    """Scan and ingest in this process."""
    site = site_of(kind, folder)
    began = time.perf_counter()
    with opened(site):
        run((Scan(), Ingest()), site, lambda: nullcontext(None), Silent())
    seconds = time.perf_counter() - began
    records = latest_records(site.layout).values()
    return {
        "peak": max(record.peak_memory for record in records),
        "promised": ingest_memory(site),
        "seconds": seconds,
        "damages": len(list(verify(site.layout))),
    }


def copy(kind: str, folder: Path) -> None:
    """Every array as it comes, into shards of the same size with the same codecs."""
    with h5py.File(folder / "a.h5") as file:
        group = zarr.open_group(folder / "copy", mode="w")
        stored = zarr.open_group(folder / "store/arrays/catalogue", mode="r")
        for name in ARRAYS[kind]:
            data, like = file[name], stored[name]
            assert isinstance(like, zarr.Array) and like.shards is not None
            array = group.create_array(
                name, shape=data.shape, dtype=data.dtype, chunks=like.chunks, shards=like.shards,
                compressors=codecs(data.dtype.name), fill_value=like.fill_value,
            )  # fmt: skip
            rows = like.shards[0]
            for start in range(0, len(data), rows):
                array[start : start + rows] = data[start : start + rows]


if __name__ == "__main__":
    main()
