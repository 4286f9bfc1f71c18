"""Files of a small spectroscopic survey in every format that holds arrays."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import zarr
from astropy.io import fits
from numpy.typing import NDArray
from small import job_words
from world import STAGES, Silent

from galbatch.columns import to_numpy
from galbatch.run.loop import run
from galbatch.run.store import opened
from galbatch.spec.job import Job
from galbatch.spec.survey import Survey
from galbatch.stages.site import Site
from galbatch.stages.state import Snapshot
from galbatch.store.layout import Layout
from galbatch.store.rows import read_rows

Table = dict[str, NDArray[Any]]
ARRAYS = ("spectrum", "ivar", "mask")
OWN_GRIDS = "parquet, a grid for each row"


def survey(pixels: int = 4096, *, own_grids: bool = False) -> Survey:
    """Positions, one band, redshifts, and a spectrum with its inverse variance and mask.

    With `own_grids` files may have wavelengths for each row.
    """
    words = {"flux": "spectrum", "ivar": "ivar", "mask": "mask"}
    return Survey.model_validate(
        {
            **({"spectra": words} if own_grids else {}),
            "name": "spectra",
            "title": "A spectroscopic survey",
            "id": {"column": "ID"},
            "sky": {"ra": "RA", "dec": "DEC"},
            "bands": [
                {"name": "r", "wavelength": 6200, "width": 1400, "value": "r", "error": "dr"}
            ],
            "reference_band": "r",
            "labels": {"redshift": {"column": "z", "low": 0.001, "high": 7}},
            "columns": [
                {"name": "ID"},
                *({"name": name} for name in ("RA", "DEC", "r", "dr", "z")),
                {
                    "name": "spectrum", "shape": [pixels], "dimensions": ["wavelength"],
                    "unit": "1e-17 erg / (s cm2 Angstrom)", "ucd": "phot.flux.density;em.wl",
                    "required": True,
                },
                {"name": "ivar", "shape": [pixels], "dimensions": ["wavelength"]},
                {
                    "name": "mask", "shape": [pixels], "dimensions": ["wavelength"],
                    "dtype": "uint8",
                },
            ],
            "axes": [
                {
                    "name": "wavelength", "start": 3.55, "step": 1e-4, "points": pixels,
                    "scale": "log10", "unit": "Angstrom", "ucd": "em.wl",
                }
            ],
        }
    )  # fmt: skip


def arrays_of(ids: NDArray[np.int64], pixels: int) -> Table:
    """The arrays that belong to ids: nothing else has the same."""
    at = np.arange(pixels)
    spectrum = np.sin(0.37 * ids[:, None] + at / 50).astype(np.float32)
    spectrum[:, 5] = np.where(ids % 3 == 0, np.nan, spectrum[:, 5])
    ivar = (1 + (ids[:, None] * 7 + at) % 11).astype(np.float32)
    mask = ((ids[:, None] + at) % 5).astype(np.uint8)
    return {"spectrum": spectrum, "ivar": ivar, "mask": mask}


def table_of(ids: NDArray[np.int64], pixels: int) -> Table:
    """Rows of a file: all follows from the ids."""
    random = np.random.default_rng(3)
    place = random.permutation(100_003)[ids % 100_003] / 100_003
    return {
        "ID": ids,
        "RA": 150 + 2 * place,
        "DEC": 2 + np.sin(40 * place),
        "r": 18 + 4 * place,
        "dr": np.full(len(ids), 0.05),
        "z": 0.01 + place,
        **arrays_of(ids, pixels),
    }


def cut(ids: NDArray[np.int64], pixels: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The first and last pixel of the axis that the files have of a row with an id."""
    return ids % 7, pixels - ids % 5


def with_own_grids(ids: NDArray[np.int64], pixels: int) -> Table:
    """The arrays of ids where a row of the files has wavelengths of its own."""
    first, last = (one[:, None] for one in cut(ids, pixels))
    at = np.arange(pixels)
    inside = (at >= first) & (at < last)
    outside = {"spectrum": np.float32(np.nan), "ivar": np.float32(0), "mask": np.uint8(0)}
    return {
        name: np.where(inside, values, outside[name])
        for name, values in arrays_of(ids, pixels).items()
    }


def write_own_grids(table: Table, path: Path) -> None:
    """Lists of the pixels that a row has, some of them from the longest wavelength on."""
    columns = {name: pa.array(values) for name, values in table.items() if values.ndim == 1}
    ids, pixels = table["ID"], table["spectrum"].shape[1]
    spans = list(zip(*cut(ids, pixels), ids % 2 == 1, strict=True))
    wavelengths = np.broadcast_to(10 ** (3.55 + 1e-4 * np.arange(pixels)), (len(ids), pixels))
    arrays = {name: table[name] for name in ARRAYS} | {"wavelength": wavelengths}
    for name, values in arrays.items():
        rows = [values[row, first:last] for row, (first, last, _) in enumerate(spans)]
        columns[name] = pa.array(
            [one[::-1] if falls else one for one, (*_, falls) in zip(rows, spans, strict=True)]
        )
    pq.write_table(pa.table(columns), path, row_group_size=100)


def write_fits(table: Table, path: Path) -> None:
    columns = [
        fits.Column(name, f"{values[0].size}{CODES[values.dtype.name]}", array=values)
        for name, values in table.items()
    ]
    fits.BinTableHDU.from_columns(columns, nrows=len(table["ID"])).writeto(path, overwrite=True)


CODES = {"int64": "K", "float64": "D", "float32": "E", "uint8": "B"}


def write_fits_images(table: Table, path: Path) -> None:
    columns = [
        fits.Column(name, CODES[values.dtype.name], array=values)
        for name, values in table.items()
        if values.ndim == 1
    ]
    images = [fits.ImageHDU(table[name], name=name) for name in ARRAYS]
    rows = fits.BinTableHDU.from_columns(columns, nrows=len(table["ID"]), name="FIBERMAP")
    fits.HDUList([fits.PrimaryHDU(), rows, *images]).writeto(path, overwrite=True)


def write_hdf5(table: Table, path: Path) -> None:
    with h5py.File(path, "w") as file:
        for name, values in table.items():
            file.create_dataset(f"spectra/{name}", data=values)


def write_zarr(table: Table, path: Path) -> None:
    group = zarr.open_group(path, mode="w")
    for name, values in table.items():
        chunks = (min(64, len(values)), *values.shape[1:])
        group.create_array(name, data=values, chunks=chunks)


def write_parquet(table: Table, path: Path) -> None:
    columns = {}
    for name, values in table.items():
        # As pyarrow makes them, which says in what order the axes are.
        columns[name] = (
            pa.array(values) if values.ndim == 1
            else pa.FixedShapeTensorArray.from_numpy_ndarray(values)
        )  # fmt: skip
    pq.write_table(pa.table(columns), path, row_group_size=100)


WRITERS: dict[str, tuple[str, Callable[[Table, Path], None]]] = {
    "fits": ("fits", write_fits),
    "fits images": ("fits", write_fits_images),
    "hdf5": ("h5", write_hdf5),
    "zarr": ("zarr", write_zarr),
    "parquet": ("parquet", write_parquet),
    OWN_GRIDS: ("parquet", write_own_grids),
}


class Spectra:
    """Files of spectra, and the store that follows them."""

    def __init__(self, folder: Path, pixels: int = 4096, kind: str = "parquet") -> None:
        self.folder, self.pixels, self.kind = folder, pixels, kind
        own_grids = kind == OWN_GRIDS
        self.survey = survey(pixels, own_grids=own_grids)
        self._arrays_of = with_own_grids if own_grids else arrays_of
        ending = WRITERS[kind][0]
        self.words = job_words(
            survey="spectra",
            source={"kind": "files", "paths": [f"{folder}/*.{ending}"], "bad_rows": 0.2},
            partition={"rows": 150, "max_order": 10},
            models=[{"kind": "photometric"}],
            sinks=[],
            split=None,
        )
        self.clock = 1_700_000_000

    def site(self, store: str = "store") -> Site:
        return Site(Job.model_validate(self.words), self.survey, Layout(self.folder / store))

    def write(self, name: str, ids: Any) -> None:
        """A file of the rows with these ids."""
        self.write_table(name, table_of(np.asarray(ids, np.int64), self.pixels))

    def write_table(self, name: str, table: Table) -> None:
        ending, write = WRITERS[self.kind]
        path = self.folder / f"{name}.{ending}"
        write(table, path)
        # A file that is written twice within the clock's grain is another one all the same.
        self.clock += 1
        for one in (path, *(path.rglob("*") if path.is_dir() else ())):
            os.utime(one, (self.clock, self.clock))

    def run(self, store: str = "store") -> Any:
        site = self.site(store)
        with opened(site):
            return run(STAGES, site, lambda: nullcontext(None), Silent())

    def expect(self, ids: Any, store: str = "store") -> None:
        """The catalogue holds these rows with their own arrays, and no other."""
        site = self.site(store)
        found = Snapshot(site).catalogue
        assert found is not None
        seen: list[int] = []
        for partition in found.partitions:
            for part in read_rows(site.layout, partition, ["ID", "r", *ARRAYS]):
                numbers = part["ID"].to_numpy()
                seen += numbers.tolist()
                for name, values in self._arrays_of(numbers, self.pixels).items():
                    np.testing.assert_array_equal(to_numpy(part[name]), values)
        assert sorted(seen) == sorted(ids)
