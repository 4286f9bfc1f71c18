"""Files of spectra as SDSS and DESI publish them."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import zarr
from astropy.io import fits
from small import job_words
from world import STAGES, Silent

from galbatch.errors import DataError, GalbatchError, SpecError
from galbatch.readers.open import open_reader
from galbatch.run.loop import run
from galbatch.run.store import opened
from galbatch.spec import load_survey
from galbatch.spec.formats import DesiCoaddFormat, SdssPlateFormat, SdssSpecFormat
from galbatch.spec.job import Job
from galbatch.stages.site import Site
from galbatch.store.layout import Layout

PIXELS, FIRST = 500, 3.5795
ARMS = {"B": (3600.0, 300), "R": (3760.0, 400), "Z": (4000.0, 300)}


def spec_file(path: Path, **changed: Any) -> Path:
    number = np.arange(PIXELS, dtype=np.float32)
    columns = {
        "flux": number,
        "loglam": (FIRST + 1e-4 * np.arange(PIXELS)).astype(np.float32),
        "ivar": number + 1,
        "and_mask": np.zeros(PIXELS, np.int32),
    } | changed
    row = np.array(
        [(266, 51630, 17, 146.7, -1.04, "GALAXY", 0.0214)],
        dtype=[("PLATE", "i4"), ("MJD", "i4"), ("FIBERID", "i4"), ("PLUG_RA", "f8"),
               ("PLUG_DEC", "f8"), ("CLASS", "S6"), ("Z", "f4")],
    )  # fmt: skip
    coadd = np.rec.fromarrays([*columns.values()], names=",".join(columns))
    fits.HDUList(
        [
            fits.PrimaryHDU(),
            fits.BinTableHDU(coadd, name="COADD"),
            fits.BinTableHDU(row, name="SPECOBJ"),
        ]
    ).writeto(path)
    return path


def plate_file(path: Path, fibres: Any = (1, 2, 3), **header: float) -> Path:
    flux = np.arange(3 * PIXELS, dtype=np.float32).reshape(3, PIXELS)
    first = fits.PrimaryHDU(flux)
    first.header["COEFF0"], first.header["COEFF1"] = FIRST, 1e-4
    first.header.update({name.replace("_", "-"): value for name, value in header.items()})
    first.header["PLATEID"], first.header["MJD"] = 266, 51630
    plug = np.array(
        [(fibre, 10.0 * fibre, 1.0) for fibre in fibres],
        [("FIBERID", "i4"), ("RA", "f8"), ("DEC", "f8")],
    )
    fits.HDUList(
        [
            first,
            fits.ImageHDU(flux + 1, name="IVAR"),
            fits.ImageHDU(np.zeros((3, PIXELS), np.int32), name="ANDMASK"),
            fits.BinTableHDU(plug, name="PLUGMAP"),
        ]
    ).writeto(path)
    return path


def coadd_file(path: Path, scores: Any = (11, 12), shift: float = 0.0) -> Path:
    parts: list[Any] = [
        fits.PrimaryHDU(),
        fits.BinTableHDU(
            np.array([(39627788403084370 + 0, 1.5), (39627788403084371, 2.5)],
                     [("TARGETID", "i8"), ("TARGET_RA", "f8")]),
            name="FIBERMAP",
        ),
    ]  # fmt: skip
    for level, (arm, (first, points)) in enumerate(ARMS.items(), 1):
        grid = first + 0.8 * np.arange(points) + (shift if arm == "R" else 0.0)
        mask = np.zeros((2, points), np.int32)
        if arm == "R":
            mask[1, 0] = 4
        parts += [
            fits.ImageHDU(grid, name=f"{arm}_WAVELENGTH"),
            fits.ImageHDU(np.full((2, points), float(level), np.float32), name=f"{arm}_FLUX"),
            fits.ImageHDU(np.full((2, points), 2.0 * level, np.float32), name=f"{arm}_IVAR"),
            fits.ImageHDU(mask, name=f"{arm}_MASK"),
        ]
    ids = np.array([39627788403084370 + one - 11 for one in scores])
    parts.append(fits.BinTableHDU(np.rec.fromarrays([ids], names="TARGETID"), name="SCORES"))
    fits.HDUList(parts).writeto(path)
    return path


def image(name: str) -> fits.ImageHDU:
    return fits.ImageHDU(np.arange(5.0), name=name)


def without(path: Path, part: str, column: str = "", *, by: Any = None) -> Path:
    """The file without a part or one of its columns, or with another part in its place."""
    with fits.open(path) as file:
        parts = list(file)
        place = [one.name for one in parts].index(part)
        if column:
            kept = [one for one in parts[place].columns if one.name != column]
            parts[place] = fits.BinTableHDU.from_columns(kept, name=part)
        else:
            parts[place : place + 1] = [] if by is None else [by]
        fits.HDUList(parts).writeto(path.with_suffix(".new"))
    return path.with_suffix(".new").rename(path)


def everything(format: Any, path: Path) -> tuple[Any, pa.Table]:
    reader = open_reader(format, str(path))
    header = reader.header(str(path))
    types = {column.name: column.type for column in header.columns}
    batches = reader.batches(str(path), types, 2)
    table = pa.concat_tables([batch.table for batch in batches])
    assert batches.records == table.num_rows
    return header, table


def test_an_object_of_sdss(tmp_path: Path) -> None:
    header, table = everything(SdssSpecFormat(), spec_file(tmp_path / "spec.fits"))
    assert header.medium == "vacuum" and header.grid.points == PIXELS and header.grid.logarithmic
    assert header.grid.first == pytest.approx(FIRST, abs=1e-6) and header.grid.step == 1e-4
    (row,) = table.to_pylist()
    assert (row["PLATE"], row["CLASS"], row["PLUG_RA"]) == (266, "GALAXY", 146.7)
    np.testing.assert_array_equal(row["flux"], np.arange(PIXELS))
    beside = {column.name for column in header.columns if column.beside}
    assert beside == {"flux", "ivar", "and_mask"}


def test_a_plate_of_sdss(tmp_path: Path) -> None:
    header, table = everything(SdssPlateFormat(), plate_file(tmp_path / "spPlate.fits"))
    assert (header.grid.first, header.grid.step, header.grid.points) == (FIRST, 1e-4, PIXELS)
    assert table["FIBERID"].to_pylist() == [1, 2, 3] and set(table["PLATEID"].to_pylist()) == {266}
    np.testing.assert_array_equal(table["flux"].to_pylist()[1], PIXELS + np.arange(PIXELS))
    np.testing.assert_array_equal(table["ivar"].to_pylist()[2], 2 * PIXELS + np.arange(PIXELS) + 1)


@pytest.mark.parametrize(
    ("header", "first", "logarithmic"),
    [
        ({"COEFF0": 3600.0, "COEFF1": 1.0}, 3600.0, False),
        ({"COEFF0": 3600.0, "COEFF1": 1.0, "DC_FLAG": 0}, 3600.0, False),
        ({"DC_FLAG": 1}, FIRST, True),
    ],
)
def test_a_plate_says_what_its_wavelengths_are(
    header: Any, first: float, logarithmic: bool, tmp_path: Path
) -> None:
    grid = everything(SdssPlateFormat(), plate_file(tmp_path / "spPlate.fits", **header))[0].grid
    assert grid.wavelengths[0] == pytest.approx(10**first if logarithmic else first)
    assert grid.logarithmic == logarithmic and grid.points == PIXELS


def test_a_plate_goes_into_the_store_by_the_survey_that_comes_along(tmp_path: Path) -> None:
    plate_file(tmp_path / "spPlate.fits")
    survey = load_survey("sdss_spectra")
    words = job_words(
        survey="sdss_spectra",
        source={"kind": "files", "paths": [f"{tmp_path}/*.fits"], "format": {"kind": "sdss_plate"}},
        models=[{"kind": "gasnet"}],
        sinks=[],
        split=None,
    )
    site = Site(Job.model_validate(words), survey, Layout(tmp_path / "store"))
    with opened(site):
        run(STAGES, site, lambda: nullcontext(None), Silent())
    group = zarr.open_group(tmp_path / "store" / "arrays" / "catalogue", mode="r")
    start = round((FIRST - 3.548) / 1e-4)
    flux = group["flux"][:]
    assert sorted(flux[:, start].tolist())[:3] == [0, PIXELS, 2 * PIXELS]
    rows = np.argsort(flux[:, start])[:3]
    expected = np.arange(3 * PIXELS).reshape(3, PIXELS)
    np.testing.assert_array_equal(flux[rows, start : start + PIXELS], expected)
    np.testing.assert_array_equal(group["ivar"][:][rows, start : start + PIXELS], expected + 1)


def test_arms_of_desi_are_put_together(tmp_path: Path) -> None:
    header, table = everything(DesiCoaddFormat(), coadd_file(tmp_path / "coadd.fits"))
    assert (header.grid.first, header.grid.step, header.grid.points) == (3600.0, 0.8, 800)
    assert table["TARGETID"].to_pylist() == [39627788403084370, 39627788403084371]
    first, second = (np.array(row) for row in table["flux"].to_pylist())
    ivar = np.array(table["ivar"].to_pylist()[0])
    assert first[0] == 1 and first[799] == 3
    # 3760 to 3839.2 A are in B and R: (1 x 2 + 2 x 4) / 6.
    assert first[200] == pytest.approx(10 / 6) and ivar[200] == 6
    assert second[200] == 1  # R has a flag there
    masks = np.array(table["mask"].to_pylist()[1])
    assert not masks.any()  # B has none


@pytest.mark.parametrize(
    ("make", "format", "error", "problem"),
    [
        (lambda path: plate_file(path, (1, 3, 2)), SdssPlateFormat(), DataError,
         "row 3 is fibre 2, the row before it fibre 3"),
        (lambda path: coadd_file(path, (12, 11)), DesiCoaddFormat(), DataError,
         "name other targets in row 1"),
        (lambda path: coadd_file(path, shift=0.3), DesiCoaddFormat(), DataError,
         "expected arms on one grid of 0.8 Angstrom"),
        (lambda path: spec_file(path, loglam=np.geomspace(3, 4, PIXELS)), SdssSpecFormat(),
         DataError, "expected evenly rising wavelengths"),
        (lambda path: spec_file(path, loglam=(FIRST + 1e-4 * np.arange(PIXELS))[::-1]),
         SdssSpecFormat(), DataError, "expected rising wavelengths, they fall from 3.6294 to 3.57"),
        (lambda path: without(spec_file(path), "COADD", by=image("COADD")), SdssSpecFormat(),
         SpecError, "'COADD' is no table"),
        (lambda path: without(spec_file(path), "SPECOBJ", by=image("SPECOBJ")), SdssSpecFormat(),
         SpecError, "HDU 2 is no table of one row"),
        (lambda path: without(plate_file(path), "PRIMARY", by=fits.PrimaryHDU()),
         SdssPlateFormat(), SpecError, "an image of 2 axes in the part 'PRIMARY', got none"),
        (lambda path: without(plate_file(path), "PLUGMAP", by=image("PLUGMAP")),
         SdssPlateFormat(), SpecError, "'PLUGMAP' is no table"),
        (lambda path: plate_file(path, COEFF0=3600.0, COEFF1=1.0, DC_FLAG=1), SdssPlateFormat(),
         SpecError, "rising logarithms of wavelengths in Angstrom, COEFF0 is 3600 and COEFF1 1"),
        (lambda path: plate_file(path, DC_FLAG=0), SdssPlateFormat(), SpecError,
         "rising wavelengths in Angstrom, COEFF0 is 3.5795"),
        (lambda path: plate_file(path, COEFF1=-1e-4), SdssPlateFormat(), SpecError,
         "COEFF1 -0.0001 for 500 pixels"),
        (lambda path: without(coadd_file(path), "R_WAVELENGTH"), DesiCoaddFormat(), SpecError,
         "there is no part 'R_WAVELENGTH'"),
        (lambda path: without(coadd_file(path), "R_IVAR"), DesiCoaddFormat(), SpecError,
         "there is no part 'R_IVAR'"),
        (lambda path: without(coadd_file(path), "FIBERMAP", "TARGETID"), DesiCoaddFormat(),
         SpecError, "the table 'FIBERMAP' has no column 'TARGETID'"),
        (lambda path: without(coadd_file(path), "B_FLUX", by=image("B_FLUX")), DesiCoaddFormat(),
         SpecError, "2 axes in the part 'B_FLUX', got one of shape .5,."),
        (coadd_file, SdssSpecFormat(), SpecError, "there is no part 'COADD'"),
        (spec_file, DesiCoaddFormat(), SpecError, "there is no part 'FIBERMAP'"),
        (spec_file, SdssPlateFormat(), SpecError, "there is no part 'IVAR'"),
    ],
)  # fmt: skip
def test_what_does_not_belong_together_is_refused(
    make: Any, format: Any, error: type[GalbatchError], problem: str, tmp_path: Path
) -> None:
    path = make(tmp_path / "file.fits")
    with pytest.raises(error, match=problem):
        open_reader(format, str(path)).header(str(path))


@pytest.mark.parametrize("kept", [0.2, 0.6, 0.9])
def test_a_file_that_is_cut_short(kept: float, tmp_path: Path) -> None:
    path = coadd_file(tmp_path / "coadd.fits")
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(DataError, match="ends early"):
        everything(DesiCoaddFormat(), path)
