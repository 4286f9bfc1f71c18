"""Files with one array of wavelengths for all of their rows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zarr
from astropy.io import fits
from spectra_files import ARRAYS, Spectra, arrays_of, survey, table_of, write_fits_images

from galbatch.errors import SpecError
from galbatch.readers.open import open_reader
from galbatch.stages.intake import plan_intake

PIXELS, IDS = 300, np.arange(1, 41)
AXIS = 10 ** (3.55 + 1e-4 * np.arange(PIXELS))
KEPT = np.delete(np.arange(7, PIXELS), slice(90, 130))
"""Pixels of the axis that the files have: no even grid."""
Table = dict[str, Any]


def table(wavelengths: Any, pixels: Any = KEPT, ids: Any = IDS) -> Table:
    found = table_of(ids, PIXELS)
    cut = {name: np.ascontiguousarray(found[name][:, pixels]) for name in ARRAYS}
    return found | cut | {"wavelength": wavelengths}


def write_npz(path: Path, table: Table, unit: str) -> None:
    np.savez(path, **table)


def write_hdf5(path: Path, table: Table, unit: str) -> None:
    with h5py.File(path, "w") as file:
        for name, values in table.items():
            file.create_dataset(name, data=values)
        file["wavelength"].attrs["unit"] = unit


def write_zarr(path: Path, table: Table, unit: str) -> None:
    group = zarr.open_group(path, mode="w")
    for name, values in table.items():
        group.create_array(name, data=values).attrs["units"] = unit if name == "wavelength" else ""


def write_parquet(path: Path, table: Table, unit: str) -> None:
    pq.write_table(pa.table({name: pa.array([*values]) for name, values in table.items()}), path)


def write_fits(path: Path, table: Table, unit: str) -> None:
    write_fits_images(
        {name: values for name, values in table.items() if name != "wavelength"}, path
    )
    fits.append(path, table["wavelength"], fits.Header({"EXTNAME": "WAVELENGTH"}))


WRITERS: dict[str, Callable[[Path, Table, str], None]] = {
    "npz": write_npz,
    "h5": write_hdf5,
    "zarr": write_zarr,
    "fits": write_fits,
    "parquet": write_parquet,
}


def world(folder: Path, ending: str, made: Table, unit: str = "nm") -> Spectra:
    """A store of the file; what has no units itself has them of the survey."""
    WRITERS[ending](folder / f"a.{ending}", made, unit)
    found = Spectra(folder, PIXELS)
    words = survey(PIXELS, own_grids=True).model_dump(mode="json", exclude_unset=True)
    words["spectra"]["unit"] = "nm"
    found.survey = type(found.survey).model_validate(words)
    found.words["source"]["paths"] = [f"{folder}/a.{ending}"]
    return found


@pytest.mark.parametrize("shape", [(-1,), (1, -1)])
@pytest.mark.parametrize("ending", ["npz", "h5", "zarr"])
def test_they_are_those_of_every_row(ending: str, shape: tuple[int, ...], tmp_path: Path) -> None:
    falls = slice(None, None, -1 if ending == "zarr" else 1)
    unit, numbers = ("um", AXIS / 1e4) if ending == "h5" else ("nm", AXIS / 10)
    made = table(numbers[KEPT][falls].reshape(shape), KEPT[falls])
    world(tmp_path, ending, made, unit).run()
    group = zarr.open_group(tmp_path / "store" / "arrays" / "catalogue", mode="r")
    ids = group["id"][:]
    known = np.isin(ids, IDS)
    assert known.sum() == len(IDS)
    outside = {"spectrum": np.nan, "ivar": 0, "mask": 0}
    for name, values in arrays_of(ids[known], PIXELS).items():
        expected = np.full(values.shape, outside[name], values.dtype)
        expected[:, KEPT] = values[:, KEPT]
        np.testing.assert_array_equal(group[name][:][known], expected)


ROWS = np.arange(1, PIXELS + 1)
REFUSED: dict[str, tuple[str, Table, str]] = {
    "too few": (
        "npz", table(AXIS[KEPT][:-2] / 10),
        "expected as many pixels as the wavelengths of all rows ('wavelength'), 251, got 253",
    ),
    "too many, in one row": (
        "h5", table(AXIS[None] / 10),
        "expected as many pixels as the wavelengths of all rows ('wavelength'), 300, got 253",
    ),
    "as many rows as pixels": (
        "zarr", table(AXIS / 10, np.arange(PIXELS), ROWS),
        "'wavelength': expected a list of numbers in each row, got double (wavelengths of all rows "
        "are an array of shape (1, m), with m pixels)",
    ),
    "a number in each row": (
        "parquet", table(AXIS[: len(IDS)] / 10),
        "'wavelength': expected a list of numbers in each row, got double",
    ),
    "a flux in each row": (
        "parquet", table(np.tile(AXIS / 10, (len(IDS), 1))) | {"spectrum": np.ones(len(IDS))},
        "'spectrum': expected a list of numbers in each row, got double",
    ),
    "an image beside the table": (
        "fits", table(AXIS[KEPT] / 10),
        "'WAVELENGTH': the wavelengths cannot be read: the image has 253 rows, the table 40 (those",
    ),
    "column by column": (
        "npz", table(AXIS[KEPT] / 10) | {"ivar": np.ones((len(IDS), len(KEPT)), np.float32, "F")},
        "'ivar': expected a list of numbers in each row, its values lie column by column",
    ),
    "not in order": (
        "npz", table(np.roll(AXIS[KEPT], 3) / 10), "expected wavelengths that rise (or fall)",
    ),
    "of another unit": ("npz", table(AXIS[KEPT] / 1e5), "expected wavelengths in nm, got 0.0"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_is_refused_before_anything_is_written(name: str, tmp_path: Path) -> None:
    ending, made, reason = REFUSED[name]
    found = world(tmp_path, ending, made)
    with pytest.raises(SpecError) as refused:
        found.run()
    assert reason in str(refused.value) and "\n" not in str(refused.value)
    assert not (tmp_path / "store" / "catalogue").exists()


def test_what_lies_beside_the_columns_is_told(tmp_path: Path) -> None:
    found = world(tmp_path, "npz", table(AXIS[KEPT] / 10) | {"bins": np.arange(3.0)})
    path = str(tmp_path / "a.npz")
    header = open_reader(None, path).header(path)
    assert plan_intake(found.survey, header, path).notes[:2] == (
        "'wavelength' has the wavelengths of all rows",
        "left out, as the other columns have more or fewer rows: bins 3",
    )


def test_groups_that_are_read_one_after_the_other_have_one_grid(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        for group, shift in (("north", 0), ("south", 1)):
            for name, values in table(AXIS[KEPT] / 10 + shift).items():
                file.create_dataset(f"{group}/{name}", data=values)
    found = Spectra(tmp_path, PIXELS)
    found.survey = survey(PIXELS, own_grids=True)
    found.words["source"] |= {
        "paths": [str(path)], "format": {"kind": "hdf5", "group": "all"},
    }  # fmt: skip
    with pytest.raises(SpecError, match="cannot be read: it is not the same in all"):
        found.run()
